from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories.deltas import store_shaken
from tests.factories.models import load, write_clip, write_mclip_backbone
from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import Backbone
from xclipt.deltas.lora import LoraSpec


@pytest.fixture
def stored(backbone: Backbone, tmp_path: Path) -> StoredDelta:
    """A LoRA with LayerNorms on the builtin backbone, moved far from the identity."""
    return store_shaken(tmp_path / "artifacts", backbone, LoraSpec())


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Backbone]:
    """A small backbone in a folder, in M-CLIP's or CLIP's format."""

    def small(format: str) -> Backbone:
        folder = tmp_path / f"backbone-{format}"
        if not folder.exists():
            (write_clip if format == "clip" else write_mclip_backbone)(folder)
        return load(folder)

    return small
