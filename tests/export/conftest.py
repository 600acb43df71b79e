from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.made_deltas import store_shaken
from tests.models import write_clip, write_mclip_backbone
from tests.tiny import WORDS
from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.applied import applied
from xclipt.deltas.spec import LoraSpec
from xclipt.progress import Silent

CAPTIONS = ["un chien court dans l'herbe", "deux enfants", "犬が走っている", "a " * 30]
SHORT = ["un chat", "a dog runs court noir", "chien", " ".join(WORDS[:9])]


@pytest.fixture
def stored(backbone: Backbone, tmp_path: Path) -> StoredDelta:
    """A LoRA with LayerNorms on the builtin backbone, moved far from the identity."""
    return store_shaken(tmp_path / "artifacts", backbone, LoraSpec())


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Backbone]:
    """A small backbone in a folder, in M-CLIP's or CLIP's format."""

    def load(format: str) -> Backbone:
        folder = tmp_path / f"backbone-{format}"
        if not folder.exists():
            (write_clip if format == "clip" else write_mclip_backbone)(folder)
        return load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())

    return load


def features(backbone: Backbone, delta: StoredDelta, captions: list[str]) -> torch.Tensor:
    """What the captions are with the delta; far from what they are without."""
    base = backbone.encode_texts(captions)
    with applied(backbone, delta):
        ours = backbone.encode_texts(captions)
    assert (ours - base).abs().max() > 1e-2
    return ours


def pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the last hidden states where the mask is one."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
