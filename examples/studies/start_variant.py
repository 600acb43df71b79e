"""The training of the builtin backbone's start with what its own script does not do."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from xclipt.backbones.backbone import Backbone, CaptionTokenizer
from xclipt.backbones.builtin.train_warm_start import (
    Learnt,
    Parallel,
    Targets,
    WarmStartRecipe,
    training_steps,
)
from xclipt.deltas.adapted import AdaptedTower

_BLOCK = re.compile(r"\.layer\.(\d+)\.")


@dataclass(frozen=True)
class Variant:
    """What is done otherwise; by default nothing.

    Attributes:
        blocks: First and last block of the tower whose part is trained; ``None`` is all of them,
            and what is outside of blocks.
        token_dropout: Share of a text's tokens that are left out, drawn anew in every step.
        averaged_from: Share of the steps after which the weights begin to be averaged; 1 is the
            last step's weights.
    """

    blocks: tuple[int, int] | None = None
    token_dropout: float = 0.0
    averaged_from: float = 1.0


def train_variant(
    backbone: Backbone,
    captions: dict[str, list[Parallel]],
    names: dict[str, list[Parallel]],
    targets: Targets,
    recipe: WarmStartRecipe,
    variant: Variant,
    seed: int,
) -> Learnt:
    """Train a start; one without any change is the very start that the script trains."""
    draw = random.Random(seed)
    delta = AdaptedTower(backbone.text_tower, recipe.spec, seed)
    identity = delta.tensors()
    if variant.blocks:
        _freeze_outside(delta, *variant.blocks)
    if variant.token_dropout:
        whole = backbone.tokenizer
        thinning = ThinningTokenizer(**vars(whole), share=variant.token_dropout, draw=draw)
        backbone = replace(backbone, tokenizer=thinning)
    mean: dict[str, Tensor] = {}
    averaged = 0
    for step in training_steps(backbone, delta, captions, names, targets, recipe, draw):
        if step >= variant.averaged_from * recipe.steps:
            averaged += 1
            for name, tensor in delta.tensors().items():
                mean.setdefault(name, tensor).lerp_(tensor, 1 / averaged)
    trained = sum(p.numel() for p in delta.parameters() if p.requires_grad)
    return Learnt(identity, mean or delta.tensors(), trained)


@dataclass(frozen=True)
class ThinningTokenizer(CaptionTokenizer):
    """Leaves out a share of every text's tokens, drawn anew each time."""

    share: float
    draw: random.Random

    def __call__(
        self, captions: Sequence[str], language: str | Sequence[str | None] | None = None
    ) -> list[list[int]]:
        # The first and the last mark the text's ends.
        return [
            [row[0], *(token for token in row[1:-1] if self.draw.random() >= self.share), row[-1]]
            for row in CaptionTokenizer.__call__(self, captions, language)
        ]


def _freeze_outside(delta: AdaptedTower, first: int, last: int) -> None:
    for name, parameter in delta.named_parameters().items():
        block = _BLOCK.search(name)
        if not block or not first <= int(block[1]) <= last:
            parameter.requires_grad_(False)
