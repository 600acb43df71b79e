"""Captions and features that exports are compared by."""

from torch import Tensor

from tests.factories.tiny import WORDS
from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import Backbone

CAPTIONS = ["un chien court dans l'herbe", "deux enfants", "犬が走っている", "a " * 30]
SHORT = ["un chat", "a dog runs court noir", "chien", " ".join(WORDS[:9])]


def features(backbone: Backbone, delta: StoredDelta, captions: list[str]) -> Tensor:
    """What the captions are with the delta; far from what they are without."""
    base = backbone.encode_texts(captions)
    ours = delta.within(backbone).encode_texts(captions)
    assert (ours - base).abs().max() > 1e-2
    return ours


def pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the last hidden states where the mask is one."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
