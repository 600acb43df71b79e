"""The paper's loop written out plainly: what a capable user would write in an afternoon.

Every step encodes its pictures, captions and partners, and every fifth the validation pictures and
captions, from the files and texts, in the order in which they come, in float32.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.backbones.backbone import Backbone
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec

BATCH, EVERY = 5, 5
_VALIDATION_BATCH = 32


@dataclass(frozen=True)
class Pictured:
    """A picture's file, its caption, and the partner where it is trained on."""

    picture: Path
    caption: str
    partner: str = ""


@dataclass(frozen=True)
class Look:
    """Mean R@1 of the validation pictures, per cent, so many seconds after the start."""

    seconds: float
    recall: float


def train(
    backbone: Backbone, pairs: Sequence[Pictured], held: Sequence[Pictured], steps: int
) -> list[Look]:
    """Train a LoRA by the paper's loss for so many steps of five pairs; what validation saw."""
    started = time.perf_counter()
    delta = AdaptedTower(backbone.text_tower, LoraSpec(), seed=1)
    optimiser = torch.optim.Adam(delta.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    tokenizer, device = backbone.tokenizer, backbone.device

    def texts(captions: Sequence[str]) -> Tensor:
        features: Tensor = delta.tower(*tokenizer.pad(tokenizer(captions), device))
        return features

    def pictures(paths: Sequence[Path]) -> Tensor:
        pixels = torch.stack([backbone.read_pixels(path) for path in paths])
        with torch.no_grad():
            features: Tensor = backbone.image_tower(pixels.to(device))
        return features

    looks = []
    order: list[Pictured] = []
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = random.Random(step).sample(pairs, len(pairs))
        batch, order = order[:BATCH], order[BATCH:]
        image = F.normalize(pictures([pair.picture for pair in batch]), dim=-1)
        text = texts([pair.caption for pair in batch])
        partner = texts([pair.partner for pair in batch])
        logits = 100 * image @ F.normalize(text, dim=-1).T
        own = torch.arange(len(batch), device=device)
        contrastive = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        loss = contrastive + 0.03 * F.mse_loss(text, partner)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % EVERY == 0 or step == steps:
            recall = _recall(pictures, texts, held)
            looks.append(Look(time.perf_counter() - started, recall))
        if not math.isfinite(loss.item()):
            raise ArithmeticError(f"the plain loop diverged at step {step}")
    return looks


def _recall(
    pictures: Callable[[Sequence[Path]], Tensor],
    texts: Callable[[Sequence[str]], Tensor],
    held: Sequence[Pictured],
) -> float:
    parts = [held[i : i + _VALIDATION_BATCH] for i in range(0, len(held), _VALIDATION_BATCH)]
    with torch.no_grad():
        image = torch.cat([pictures([one.picture for one in part]) for part in parts])
        text = torch.cat([texts([one.caption for one in part]) for part in parts])
    similarity = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T
    own = torch.arange(len(held), device=similarity.device)
    found = [(matrix.argmax(1) == own).float().mean() for matrix in (similarity, similarity.T)]
    return 50 * float(found[0] + found[1])
