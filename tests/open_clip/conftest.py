"""These tests need open_clip: ``tests/backbones/test_open_clip.py`` runs each in a process that can
import it. By hand: ``python -m tests.open_clip`` with pytest's arguments."""

from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("open_clip") else ["test_*.py"]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Gives folder and model of a kind, each written once: whoever changes it works on a copy."""
    from tests.open_clip.models import WRITERS

    made = {}

    def checkpoint(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder, WRITERS[kind](folder)
        return made[kind]

    return checkpoint
