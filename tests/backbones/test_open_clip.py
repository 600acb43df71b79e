"""open_clip is tested in processes of their own: :mod:`tests.factories.open_clip` tells why."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.factories.open_clip import run_with_open_clip

FOLDER = Path(__file__).resolve().parent.parent / "open_clip"


def test_the_environment_of_the_other_tests_has_no_torchvision():
    assert find_spec("torchvision") is None


@pytest.mark.slow  # PyPI is asked once, and every process imports all anew
@pytest.mark.parametrize("file", sorted(FOLDER.glob("test_*.py")), ids=lambda path: path.stem)
def test_with_open_clip(file):
    pytest_ = ["-m", "pytest", "-n0", "-q", "-m", "", "-p", "no:cacheprovider"]
    said = run_with_open_clip([*pytest_, file])
    sys.stdout.write(said)
    assert " passed" in said and "skipped" not in said
