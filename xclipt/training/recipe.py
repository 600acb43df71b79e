"""How a delta is trained: everything but the data and the delta itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from xclipt.errors import UsageError, XcliptError, require_finite
from xclipt.training.losses import ALIGNMENTS, PAPER_LOGIT_SCALE


def cosine_schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear over ``warmup`` of the steps, then half a cosine."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def constant_schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear over ``warmup`` of the steps, then the peak."""
    return min(1.0, (step + 1) / (warmup * total + 1))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine_schedule,
    "constant": constant_schedule,
}
"""Schedules by the name that a recipe knows."""

TEACHERS = ("live", "frozen")
PARTNERS = ("one", "all")


@dataclass(frozen=True)
class Recipe:
    """The optimisation of one delta.

    Attributes:
        epochs: Passes over the pairs; ``None`` sets steps by :meth:`steps`' rule instead.
        max_steps: At most so many steps.
        batch_size: Pairs per step, at most as many as there are.
        learning_rate: Peak of AdamW's.
        schedule: Name in :data:`~xclipt.training.recipe.SCHEDULES`.
        warmup: Share of the steps over which the learning rate rises.
        logit_scale: What cosines are multiplied by in cross-entropies.
        align_loss: Name in :data:`~xclipt.training.losses.ALIGNMENTS`.
        align_weight: The paper's lambda; 0 leaves alignment out.
        teacher: Partner features from the tower with the delta (``live``) or without (``frozen``).
        partner_captions: With a frozen teacher and a human English partner, the partner's features
            are those of the pair's caption (``one``) or the mean over all English captions of its
            picture (``all``). A live teacher sees the pair's alone.
        evaluations: Times that the validation pictures are looked at.
        patience: Evaluations without improvement after which training stops.
        head_learning_rate: Peak for a tuned text head; ``None`` is ``learning_rate``.
        start: What the delta starts from: ``auto``, ``none`` or a delta
            (:meth:`~xclipt.training.warm_start.WarmStarts.choose`).
        choose_by: Validation figure that decides which weights are kept: ``mrr`` (the earliest of
            equals) or ``recall``, the mean R@1 of both directions (the latest of equals).
    """

    epochs: int | None = None
    max_steps: int = 500
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.1
    logit_scale: float = PAPER_LOGIT_SCALE
    align_loss: str = "cosine"
    align_weight: float = 1000.0
    teacher: str = "frozen"
    partner_captions: str = "all"
    evaluations: int = 10
    patience: int = 4
    head_learning_rate: float | None = None
    choose_by: str = "mrr"
    start: str = "auto"

    def __post_init__(self) -> None:
        require_finite(self)
        for field, choices in (
            ("align_loss", ALIGNMENTS),
            ("schedule", SCHEDULES),
            ("teacher", TEACHERS),
            ("partner_captions", PARTNERS),
        ):
            value = getattr(self, field)
            if value not in choices:
                raise XcliptError(f"choose {', '.join(choices)}", field=field, value=value)
        alone = ALIGNMENTS[self.align_loss].moves_partner_alone
        if alone and self.teacher == "frozen" and self.align_weight > 0:
            raise UsageError(
                f"`align_loss={self.align_loss}` pulls the partner alone, which a frozen teacher "
                "holds fast; use `teacher=live`",
                field="teacher",
                value=self.teacher,
            )
        for field, least in (
            ("epochs", 1),
            ("batch_size", 2),
            ("learning_rate", 1e-12),
            ("head_learning_rate", 1e-12),
            ("align_weight", 0),
            ("logit_scale", 1e-12),
        ):
            value = getattr(self, field)
            if value is not None and value < least:
                raise XcliptError(f"must be at least {least:g}", field=field, value=value)

    def steps(self, pairs: int) -> int:
        """Optimiser steps for so many pairs.

        Without ``epochs``, ``6 sqrt(pairs)`` and 20 at least: a few shots are overfitted in a few
        steps, and a thousand need far fewer passes than ten do.
        """
        if self.epochs is None:
            steps = max(20, round(6 * math.sqrt(pairs)))
        else:
            steps = self.epochs * -(-pairs // min(self.batch_size, pairs))
        return min(steps, self.max_steps)


DEFAULT = Recipe()

PAPER = Recipe(
    epochs=50,
    max_steps=1_000_000,
    batch_size=5,
    learning_rate=1e-4,
    weight_decay=0.0,
    warmup=0.0,
    logit_scale=PAPER_LOGIT_SCALE,
    align_loss="mse",
    align_weight=0.03,
    teacher="live",
    partner_captions="one",
    evaluations=100,
    patience=100,
    head_learning_rate=3e-6,
    choose_by="recall",
    start="none",
)
"""The paper's released code: Adam, cosine without warm-up, 50 epochs of batches of 5, the best
checkpoint by validation recall, looked at every fifth of the 500 steps that 50 shots make, and no
early stop. Learning rate (5e-5, 1e-4, 2e-4) and lambda (0.003, 0.01, 0.03, 0.1, 0.3) were searched;
here stands the middle of each. AdamW without weight decay is Adam. One thing is not followed: the
code leaves on the dropout of 0.1 that the tower's configuration happens to name. Here no recipe has
dropout: a live teacher is then the tower that is measured, and not a noisy one."""

RECIPES = {"default": DEFAULT, "paper": PAPER}
"""Recipes by name."""


def recipe_with(base: Recipe = DEFAULT, **changes: float | str | None) -> Recipe:
    """A recipe with the given fields changed; ``None`` leaves a field as it is.

    With the default recipe an alignment loss comes with its own weight
    (:data:`~xclipt.training.losses.ALIGNMENTS`), and one that has no gradient with a frozen teacher
    takes a live one, unless weight and teacher are given.

    Raises:
        XcliptError: A value is out of range.
    """
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    alignment = ALIGNMENTS.get(given.get("align_loss", base.align_loss))
    if alignment is not None:  # else the recipe itself refuses it
        if alignment.moves_partner_alone:
            given.setdefault("teacher", "live")
        if base == DEFAULT:
            given.setdefault("align_weight", alignment.weight)
    return replace(base, **given)
