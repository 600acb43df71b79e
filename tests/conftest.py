import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parent.parent


# Read before any test: those of the command line must not find what the environment names.
_NAMED = os.environ.get("XCLIPT_DATA")


@pytest.fixture(autouse=True)
def _no_defaults_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XCLIPT_DATA", "XCLIPT_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data: XCLIPT_DATA, else ../shared/data beside the repository."""
    root = Path(_NAMED) if _NAMED else REPOSITORY.parent / "shared" / "data"
    if not (root / "multi30k").is_dir():
        pytest.skip("no real data: set XCLIPT_DATA")
    return root


@pytest.fixture
def make_picture() -> Callable[..., Path]:
    """Write a small picture of one colour."""

    def make(path: Path, colour: str = "red", size: tuple[int, int] = (8, 6)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return make


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The real builtin backbone, one for all tests: whoever changes it puts it back."""
    return load_builtin(torch.device("cpu"))


@pytest.fixture(scope="session")
def taught(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The builtin backbone with a real delta of every kind: whoever changes it works on a copy."""
    from tests.made_languages import teach_languages

    return teach_languages(tmp_path_factory.mktemp("taught") / "artifacts", backbone)
