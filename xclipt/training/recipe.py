"""How a delta is trained: everything but the data and the delta itself."""

import math
from dataclasses import dataclass, replace
from typing import Any

from xclipt.errors import UsageError, XcliptError
from xclipt.training.losses import ALIGNMENTS, PAPER_LOGIT_SCALE
from xclipt.training.schedules import SCHEDULES

TEACHERS = ("live", "frozen")
PARTNERS = ("one", "all")


@dataclass(frozen=True)
class Recipe:
    """The optimisation of one delta.

    Attributes:
        epochs: Passes over the pairs; ``None`` sets steps by :meth:`steps`' rule instead.
        max_steps: At most so many steps.
        batch_size: Pairs a step; at most as many as there are.
        learning_rate: Peak of AdamW's.
        schedule: Name in :data:`~xclipt.training.schedules.SCHEDULES`.
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
        head_learning_rate: Of a tuned text head; ``None`` is ``learning_rate``.
        start: What the delta starts from: ``auto``, ``none`` or a delta
            (:func:`~xclipt.training.start.choose_start`).
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
        if self.align_loss not in ALIGNMENTS:
            raise XcliptError(f"--align-loss {self.align_loss}: choose {', '.join(ALIGNMENTS)}")
        if self.schedule not in SCHEDULES:
            raise XcliptError(f"schedule {self.schedule}: choose {', '.join(SCHEDULES)}")
        if self.teacher not in TEACHERS:
            raise XcliptError(f"--teacher {self.teacher}: choose {', '.join(TEACHERS)}")
        if self.partner_captions not in PARTNERS:
            raise XcliptError(
                f"--partner-captions {self.partner_captions}: choose {', '.join(PARTNERS)}"
            )
        if self.align_loss == "image" and self.teacher == "frozen" and self.align_weight > 0:
            raise UsageError(
                "--teacher frozen: --align-loss image pulls the partner alone, which a frozen "
                "teacher holds fast; use --teacher live"
            )
        for option, value, least in (
            ("epochs", 1 if self.epochs is None else self.epochs, 1),
            ("batch-size", self.batch_size, 2),
            ("learning-rate", self.learning_rate, 1e-12),
            ("head-learning-rate", self.head_learning_rate or self.learning_rate, 1e-12),
            ("align-weight", self.align_weight, 0),
            ("logit-scale", self.logit_scale, 1e-12),
        ):
            if value < least:
                raise XcliptError(f"--{option} {value}: must be at least {least:g}")

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

ALIGN_WEIGHTS = {"mse": 1000.0, "cosine": 1000.0, "contrastive": 1.0, "image": 1.0}
"""The default recipe's weight of each alignment loss: far above the contrastive loss for those that
compare features directly, equal to it for those that are of its kind."""

RECIPES = {"default": DEFAULT, "paper": PAPER}
"""Recipes by the name that ``--recipe`` knows."""


def recipe_with(base: Recipe = DEFAULT, **changes: float | str | None) -> Recipe:
    """A recipe with the given fields changed; ``None`` leaves a field as it is.

    Another alignment loss than the default recipe's comes with its weight in
    :data:`ALIGN_WEIGHTS`, unless a weight is given too.

    The loss ``image`` takes a live teacher unless another one is given: with a frozen one it has
    no gradient.

    Raises:
        XcliptError: A value is out of range.
    """
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if given.get("align_loss") == "image":
        given.setdefault("teacher", "live")
    if base == DEFAULT and "align_weight" not in given:
        # An unknown loss is refused by the recipe itself.
        given["align_weight"] = ALIGN_WEIGHTS.get(given.get("align_loss", base.align_loss), 0.0)
    return replace(base, **given)
