import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn

from tests.factories.languages import teach_languages
from xclipt import detection
from xclipt.backbones import builtin
from xclipt.backbones.backbone import Backbone
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.progress import Progress
from xclipt.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parent.parent


# Read before any test: those of the command line must not find what the environment names.
_NAMED = os.environ.get("XCLIPT_DATA")


def pytest_configure(config: pytest.Config) -> None:
    """A thread for each worker: with a pool in each, they would wait for each other's cores."""
    if config.getoption("numprocesses", default=None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_defaults_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XCLIPT_DATA", "XCLIPT_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def without_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where ``xclipt[detect]`` is not installed."""
    detection._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data: XCLIPT_DATA, else ../shared/data beside the repository."""
    root = Path(_NAMED) if _NAMED else REPOSITORY.parent / "shared" / "data"
    if not (root / "multi30k").is_dir():
        pytest.skip("no real data: set XCLIPT_DATA")
    return root


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests of models at full size run one at a time, whatever the workers: memory is one."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "full-size.lock"):
        yield


@pytest.fixture
def make_picture() -> Callable[..., Path]:
    """Write a small picture of one colour."""

    def make(path: Path, colour: str = "red", size: tuple[int, int] = (8, 6)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return make


class _RememberingTower(nn.Module):
    """An image tower that sees every picture once, whatever tests and commands ask for it."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self._tower = tower
        self._seen: dict[bytes, Tensor] = {}

    def forward(self, pixels: Tensor) -> Tensor:
        keys = [hashlib.sha256(one.contiguous().cpu().numpy().data).digest() for one in pixels]
        new = [i for i, key in enumerate(keys) if key not in self._seen]
        if new:
            features = self._tower(pixels[new])
            self._seen |= {keys[i]: row for i, row in zip(new, features, strict=True)}
        return torch.stack([self._seen[key] for key in keys])


@pytest.fixture(scope="session", autouse=True)
def _builtin_is_loaded_once() -> Iterator[None]:
    """Every command would read half a gigabyte again. Nothing may change what all of them share."""
    load, loaded = builtin.load_builtin, dict[tuple[torch.device, torch.dtype], Backbone]()

    def once(
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        progress: Progress | None = None,
    ) -> Backbone:
        if (device, dtype) not in loaded:
            others = [one for (there, _), one in loaded.items() if there == device]
            fresh = replace(others[0], dtype=dtype) if others else load(device, dtype, progress)
            tower = getattr(fresh.image_tower, "_tower", fresh.image_tower)
            loaded[device, dtype] = replace(fresh, image_tower=_RememberingTower(tower))
        return loaded[device, dtype]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtin, "load_builtin", once)
        yield
    for backbone in list(loaded.values())[:1]:
        assert backbone.measure_fingerprint() == backbone.identity.fingerprint


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The real builtin backbone, one for all tests."""
    return builtin.load_builtin(torch.device("cpu"))


@pytest.fixture(scope="session")
def emoji_pictures(backbone: Backbone) -> Tensor:
    """Features of the first 200 emoji of the test split."""
    emoji = EmojiDataset()
    entries = emoji.captions("en", "test")[:200]
    return backbone.encode_pictures([emoji.picture_path(entry.image) for entry in entries])


@pytest.fixture(scope="session")
def taught(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The builtin backbone with a real delta of every kind: whoever changes it works on a copy."""
    return teach_languages(tmp_path_factory.mktemp("taught") / "artifacts", backbone)
