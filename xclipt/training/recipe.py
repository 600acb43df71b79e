"""How a delta is trained: everything but the data and the delta itself."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from xclipt.backbones.text_tower import Similarity
from xclipt.deltas.lora import LoraSpec
from xclipt.devices import AUTO, choose_dtype, computes_bfloat16_faster
from xclipt.errors import UsageError, XcliptError, require_finite
from xclipt.training.losses import (
    ALIGNMENTS,
    CONTRASTIVE,
    PAPER_LOGIT_SCALE,
    SIGMOID,
    SOFTMAX,
)


def cosine_schedule(step: int, total: int, rising: float) -> float:
    """Share of the peak learning rate: linear over ``rising`` steps, then half a cosine."""
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def cosine_from_zero(step: int, total: int, rising: float) -> float:
    """The same as transformers has it, which the paper's code takes: the first rate is zero."""
    return step / rising if step < rising else cosine_schedule(step, total, rising)


def constant_schedule(step: int, total: int, rising: float) -> float:
    """Share of the peak learning rate: linear over ``rising`` steps, then the peak."""
    return min(1.0, (step + 1) / (rising + 1))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine_schedule,
    "cosine-from-zero": cosine_from_zero,
    "constant": constant_schedule,
}
"""Schedules by the name that a recipe knows."""

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
"""By the name that a recipe knows: Adam with weight decay by itself, or as part of the gradient."""

CHOICES: Mapping[str, Collection[str]] = {
    "align_loss": ALIGNMENTS,
    "contrastive_loss": ("auto", *CONTRASTIVE),
    "schedule": SCHEDULES,
    "optimiser": OPTIMISERS,
    "teacher": ("live", "frozen"),
    "partner_captions": ("one", "all"),
    "validation_captions": ("one", "all"),
    "last_batch": ("filled", "short"),
    "choose_by": ("mrr", "recall"),
    "of_equals": ("earliest", "latest"),
    "languages_weigh": ("equal", "halving"),
}
"""What a field of a :class:`Recipe` may be."""


@dataclass(frozen=True)
class Recipe:
    """The optimisation of one delta.

    Attributes:
        epochs: Passes over the pairs; ``None`` sets steps by :meth:`steps`' rule instead.
        least_epochs: That rule gives so many passes at least.
        max_steps: At most so many steps.
        batch_size: Pairs per step, at most as many as there are.
        last_batch: The last batch of an epoch is ``filled`` up from the epoch's start, so that
            every step has as many negatives, or is left ``short``.
        dropout: Of the text tower while it is trained, wherever it has places for one.
        optimiser: Name in :data:`~xclipt.training.recipe.OPTIMISERS`.
        learning_rate: Its peak.
        schedule: Name in :data:`~xclipt.training.recipe.SCHEDULES`.
        warmup: Share of the steps over which the learning rate rises.
        warmup_steps: So many steps instead.
        logit_scale: What cosines are multiplied by in the losses; ``None`` is the model's own, 100
            where it has none.
        contrastive_loss: Of pictures and texts: ``softmax``, the symmetric cross-entropy; or
            ``sigmoid``, for models with a bias of their own; ``auto`` is softmax for every model.
        logit_bias: Of the sigmoid loss; ``None`` is the model's own.
        align_loss: Name in :data:`~xclipt.training.losses.ALIGNMENTS`.
        align_weight: The paper's lambda; 0 leaves alignment out.
        teacher: Partner features from the tower with the delta (``live``) or without (``frozen``).
        partner_captions: With a frozen teacher and a human English partner, the partner's features
            are those of the pair's caption (``one``) or the mean over all English captions of its
            picture (``all``). A live teacher sees the pair's alone.
        validation_captions: The first caption of every validation picture, or ``all``.
        evaluations: Times that the validation pictures are looked at.
        evaluate_every: Look at them after every so many steps instead, and not at the end unless
            that falls there.
        patience: Evaluations without improvement after which training stops.
        head_learning_rate: Peak for a tuned text head; ``None`` is ``learning_rate``.
        dtype: Number type that the tower computes in while it is trained and validated on; what is
            kept of frozen towers is in the workspace's. ``auto`` is bfloat16 where the device
            computes it faster, else the workspace's.
        start: What the delta starts from: ``auto``, ``none`` or a delta
            (:meth:`~xclipt.training.warm_start.WarmStarts.choose`).
        choose_by: Validation figure that decides which weights are kept: ``mrr``, which moves with
            every query and so is the steadier judge of few pictures, or ``recall``, the mean R@1
            of both directions.
        of_equals: Whether the ``earliest`` or the ``latest`` of equally good weights is kept.
        languages_weigh: Of several languages that are trained together each has an ``equal`` part
            of the loss; or ``halving``, as by a slip in the paper's code, the last has that part
            and each one before it half of what the next has.
        temperature: Of languages whose sentence pairs are trained together, one of ``n`` pairs is
            drawn in proportion to ``n ** (1 / temperature)``.
        sentence_weight: Weight of sentence pairs' loss beside that of captions with pictures.
    """

    epochs: int | None = None
    least_epochs: int = 0
    max_steps: int = 500
    batch_size: int = 16
    last_batch: str = "filled"
    dropout: float = 0.0
    optimiser: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.1
    warmup_steps: int | None = None
    logit_scale: float | None = None
    contrastive_loss: str = "auto"
    logit_bias: float | None = None
    align_loss: str = "cosine"
    align_weight: float = 1000.0
    teacher: str = "frozen"
    partner_captions: str = "all"
    validation_captions: str = "all"
    evaluations: int = 10
    evaluate_every: int | None = None
    patience: int = 4
    head_learning_rate: float | None = None
    choose_by: str = "mrr"
    of_equals: str = "earliest"
    languages_weigh: str = "equal"
    temperature: float = 2.0
    sentence_weight: float = 1.0
    dtype: str = AUTO
    start: str = "auto"

    def __post_init__(self) -> None:
        require_finite(self)
        choose_dtype(self.dtype)
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise XcliptError(f"choose {', '.join(choices)}", field=name, value=value)
        alone = ALIGNMENTS[self.align_loss].moves_partner_alone
        if alone and self.teacher == "frozen" and self.align_weight > 0:
            raise UsageError(
                f"`align_loss={self.align_loss}` pulls the partner alone, which a frozen teacher "
                "holds fast; use `teacher=live`",
                field="teacher",
                value=self.teacher,
            )
        for name, least in (
            ("epochs", 1),
            ("least_epochs", 0),
            ("batch_size", 2),
            ("learning_rate", 1e-12),
            ("head_learning_rate", 1e-12),
            ("align_weight", 0),
            ("logit_scale", 1e-12),
            ("weight_decay", 0),
            ("warmup_steps", 0),
            ("evaluate_every", 1),
            ("dropout", 0),
            ("temperature", 1),
            ("sentence_weight", 1e-12),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise XcliptError(f"must be at least {least:g}", field=name, value=value)
        if self.dropout >= 1:
            raise XcliptError("must be below 1", field="dropout", value=self.dropout)

    def on(self, similarity: Similarity) -> "Recipe":
        """The recipe with what a model decides: scale, bias and the loss that they go into.

        Raises:
            XcliptError: The sigmoid loss wants a bias, and neither recipe nor model has one.
        """
        loss = SOFTMAX if self.contrastive_loss == "auto" else self.contrastive_loss
        scale = similarity.scale if self.logit_scale is None else self.logit_scale
        bias = similarity.bias if self.logit_bias is None else self.logit_bias
        if loss == SIGMOID and bias is None:
            raise UsageError(
                "the backbone has no bias of its own, which the sigmoid loss needs (SigLIP has); "
                f"use `contrastive_loss={SOFTMAX}`",
                field="contrastive_loss",
                value=loss,
            )
        return replace(
            self,
            contrastive_loss=loss,
            logit_scale=scale,
            logit_bias=bias if loss == SIGMOID else None,
        )

    def computed_in(self, device: torch.device, dtype: torch.dtype) -> torch.dtype:
        """The number type of the passes, on a device and in a workspace of a number type."""
        if self.dtype != AUTO:
            return choose_dtype(self.dtype)
        faster = dtype == torch.float32 and computes_bfloat16_faster(device)
        return torch.bfloat16 if faster else dtype

    def steps(self, pairs: int) -> int:
        """Optimiser steps for so many pairs.

        Without ``epochs``, ``6 sqrt(pairs)`` and 20 at least: a few shots are overfitted in a few
        steps, and a thousand need far fewer passes than ten do.
        """
        pass_over = -(-pairs // min(self.batch_size, pairs))
        if self.epochs is None:
            steps = max(20, round(6 * math.sqrt(pairs)), self.least_epochs * pass_over)
        else:
            steps = self.epochs * pass_over
        return min(steps, self.max_steps)

    def rate(self, step: int, total: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        rising = self.warmup * total if self.warmup_steps is None else self.warmup_steps
        return SCHEDULES[self.schedule](step, total, rising)

    def language_weights(self, languages: int) -> list[float]:
        """Weight of each of so many languages' losses, in their order."""
        if self.languages_weigh == "equal":
            return [1 / languages] * languages
        return [0.5 ** (languages - 1 - k) / languages for k in range(languages)]

    def evaluation_steps(self, total: int) -> set[int]:
        """After which steps of ``total`` the validation pictures are looked at: at least once."""
        if self.evaluate_every:
            return {*range(self.evaluate_every, total + 1, self.evaluate_every)} or {total}
        return {round(total * (i + 1) / self.evaluations) for i in range(self.evaluations)}


DEFAULT = Recipe()

SENTENCES = replace(DEFAULT, batch_size=32, least_epochs=3, max_steps=4000, learning_rate=2e-3)
"""The default recipe of sentence pairs, which there are thousands of: up to 42,000 are read three
times. TRAINING.md has the figures that rate and passes were chosen by."""

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
    validation_captions="one",
    evaluations=100,
    patience=100,
    head_learning_rate=3e-6,
    choose_by="recall",
    of_equals="latest",
    dtype="float32",
    start="none",
)
"""The paper: Adam, cosine without warm-up, 50 epochs of batches of 5, the best checkpoint by
validation recall, looked at every fifth of the 500 steps that 50 shots make, and no early stop.
Its scripts searched learning rates from 1e-6 to 3e-3 and lambdas from 0.003 to 3; the grids that
cover all languages are 5e-5, 1e-4, 2e-4 and 0.003, 0.01, 0.03, 0.1, 0.3, and here stands the middle
of each. The released code also leaves on the dropout of 0.1 that the tower's configuration happens
to name; without it a live teacher is the tower that is measured, and not a noisy one. AdamW without
weight decay is Adam."""

PAPER_SCRIPTS = replace(
    PAPER,
    last_batch="short",
    dropout=0.1,
    optimiser="adam",
    schedule="cosine-from-zero",
    evaluate_every=5,
    head_learning_rate=None,
)
"""What the released shell scripts do, all of which call ``run_cross.py``."""


@dataclass(frozen=True)
class Preset:
    """A recipe by name, with what goes beside it.

    Attributes:
        recipe: The recipe.
        lora: Settings of a LoRA, where nobody names others.
        split: The split, likewise.
        sentences: The recipe where sentence pairs are among what is trained on, if that is another.
    """

    recipe: Recipe
    lora: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    sentences: Recipe | None = None

    def settings(self, kind: str) -> Mapping[str, Any]:
        """Those of a delta of that kind, where nobody names others."""
        return self.lora if kind == LoraSpec.kind else {}


RECIPES = {
    "default": Preset(DEFAULT, sentences=SENTENCES),
    "paper": Preset(PAPER),
    "paper-scripts": Preset(
        PAPER_SCRIPTS,
        {
            "rank": 1,
            "modules": "query,key,value,attention.output.dense",
            "tune_head": True,
        },
        "paper",
    ),
}
"""Recipes by name, a row each."""


def stored_recipe(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a manifest that an earlier release may have written, as it would be today."""
    before = {"contrastive_loss": SOFTMAX}
    if plain.get("choose_by") == "recall":
        before["of_equals"] = "latest"
    return asdict(DEFAULT) | before | dict(plain)


def recipe_with(base: Recipe = DEFAULT, **changes: float | str | None) -> Recipe:
    """A recipe with the given fields changed; ``None`` leaves a field as it is.

    With a default recipe an alignment loss comes with its own weight
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
        if base in (DEFAULT, SENTENCES):
            given.setdefault("align_weight", alignment.weight)
    return replace(base, **given)
