"""The training loop: text in, trained delta tensors out. It knows nothing of files or data sets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from xclipt.backbones.backbone import Backbone, NonFiniteError
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import HEAD
from xclipt.errors import XcliptError
from xclipt.interruption import Halted
from xclipt.metrics import mean_r1, retrieval_ranks, summarise
from xclipt.progress import Task
from xclipt.training.losses import contrastive_to_partner
from xclipt.training.pairs import Pairs
from xclipt.training.recipe import OPTIMISERS, Recipe
from xclipt.training.steps import Losses, Part, largest, losses_of, steps

_JUDGED_AT = 20.0
"""What cosines of held-out sentences are multiplied by. At a model's own 100 the few that are not
found make the loss (TRAINING.md)."""

_FUSED_ON = ("cuda",)
"""Devices whose optimiser takes its step as one kernel; on a processor it is a hundredth of a step,
and rounds otherwise."""


@dataclass(frozen=True)
class ValidationSet:
    """Pictures and captions of one language to validate on.

    Without pictures, English sentences stand in their place: their features of the frozen tower.

    Attributes:
        images: Image features ``(n, dim)``.
        tokens: Token ids of the captions.
        picture_index: ``(captions,)`` which picture each caption belongs to.
        unprompted: The captions as the frozen backbone is given them, where a hard prompt makes a
            difference.
        of_sentences: Sentences stand in the place of pictures.
    """

    images: Tensor
    tokens: Sequence[list[int]]
    picture_index: Tensor
    unprompted: Sequence[list[int]] | None = None
    of_sentences: bool = False


@dataclass(frozen=True)
class Evaluated:
    """Validation figures after a step.

    Attributes:
        step: How many steps were done.
        mean_r1: Mean R@1 of both ways, per cent.
        mrr: Mean reciprocal rank of both ways.
        cosine: Mean cosine of a sentence and its partner; ``None`` with pictures.
        loss: Contrastive loss of sentences and their partners (:data:`_JUDGED_AT`); ``None`` with
            pictures. It decides: few pairs are soon all found, so that recall says nothing, and the
            cosine still rises where ten pairs have drawn all texts to one place.
    """

    step: int
    mean_r1: float
    mrr: float
    cosine: float | None = None
    loss: float | None = None

    def score(self, choose_by: str) -> float:
        """What one is better by than another, with a recipe's ``choose_by``."""
        if self.loss is not None:
            return -self.loss
        return self.mean_r1 if choose_by == "recall" else self.mrr


@dataclass
class TrainingState:
    """All that the next step depends on, so that a training can go on where it was cut off."""

    step: int = 0
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[Evaluated] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class StepRecord:
    """What a listener is told of every step.

    Attributes:
        step: Its number, from 1.
        losses: The numbers of :class:`Losses` by their names.
        gradient: Norm of the gradient.
        learning_rate: Of the delta.
        validation: Figures after the step, where there were any.
    """

    step: int
    losses: Mapping[str, float]
    gradient: float
    learning_rate: float
    validation: Evaluated | None


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        tensors: The weights that were best on validation, else the last.
        steps: Steps that were run.
        chosen: The evaluation of ``tensors``, ``None`` without validation.
        base: The frozen backbone on the same validation pictures.
        history: Every evaluation.
        losses: The loss of every step.
    """

    tensors: dict[str, Tensor]
    steps: int
    chosen: Evaluated | None
    base: Evaluated | None
    history: tuple[Evaluated, ...]
    losses: tuple[float, ...]

    def beats_base(self, recipe: Recipe) -> bool:
        """Whether validation, where there was any, puts the delta above the frozen backbone."""
        if self.chosen is None or self.base is None:
            return True
        return self.chosen.score(recipe.choose_by) > self.base.score(recipe.choose_by)


def fit(
    backbone: Backbone,
    delta: AdaptedTower,
    pairs: Sequence[Pairs],
    recipe: Recipe,
    seed: int,
    validation: Sequence[ValidationSet],
    state: TrainingState,
    save: Callable[[TrainingState], None],
    task: Task,
    started: bool = False,
    sentences: Sequence[Pairs] = (),
    listen: Callable[[StepRecord], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Minimise the loss of :mod:`xclipt.training.losses` over the delta's parameters.

    ``backbone`` is the frozen one, and stays so. ``pairs`` with pictures, ``sentences`` without
    and ``validation`` have an entry a language. Of several, row ``i`` of ``pairs`` is the same
    picture in all, and every step takes all languages of its pictures; ``sentences`` are of sizes
    of their own, and a step draws the language of each of its rows. A validation figure is the
    mean of the languages'.

    Batches and dropout are functions of ``(seed, step)`` alone: a training that is resumed from a
    saved ``state`` ends in the same bytes as one that was not.
    Step 0's evaluation is the frozen backbone's; a second one follows where the delta was
    ``started`` from trained weights, which may be the best that there are.
    ``stop`` is asked between steps; where it says so, the state is saved and the training halts.

    Raises:
        Halted: It was stopped.
        XcliptError: Loss, gradient, weights or features are not finite any more; what ``save`` was
            given last is sound.
    """
    adapted, recipe = delta.within(backbone), recipe.on(backbone.text_tower.similarity)
    total = recipe.steps(largest(pairs, sentences))
    evaluate_at = recipe.evaluation_steps(total) if validation else {total}
    names = delta.named_parameters()
    optimiser = OPTIMISERS[recipe.optimiser](
        _groups(names, recipe),
        weight_decay=recipe.weight_decay,
        fused=backbone.device.type in _FUSED_ON,
    )
    if state.step:
        delta.load(state.weights)
        _load_optimiser(optimiser, names, state.optimiser, state.step)
        task.advance(state.step)
    if validation and not state.history:
        unprompted = [replace(part, tokens=part.unprompted or part.tokens) for part in validation]
        state.history.append(_evaluate(backbone, unprompted, 0))
        if started:
            state.history.append(_evaluate(adapted, validation, 0))
            state.best = delta.tensors()

    for parts in islice(steps(pairs, sentences, recipe, seed), state.step, total):
        if _out_of_patience(state.history, recipe):
            break
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * recipe.rate(state.step, total)
        with delta.dropout(recipe.dropout, f"{seed}-{state.step}"):
            loss = losses_of(adapted, parts, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in delta.parameters() if p.grad is not None]
        figures, gradient = _figures(loss, get_total_norm(gradients))
        if not math.isfinite(figures["total"]) or not math.isfinite(gradient):
            found = f"step {state.step + 1}: loss {figures['total']:.3g}, gradient {gradient:.3g}"
            raise _diverged(found, state.step, parts, recipe, backbone)
        optimiser.step()
        state.step += 1
        state.losses.append(figures["total"])
        looked = False
        if state.step in evaluate_at:
            sound = all(p.isfinite().all() for p in delta.parameters())
            try:
                if validation:
                    state.history.append(_evaluate(adapted, validation, state.step))
                    looked = True
                else:
                    batches = [part.pairs.batch(part.rows) for part in parts]
                    adapted.encode_tokens([row for batch in batches for row in batch.tokens])
            except NonFiniteError:
                sound = False
            if not sound:
                found = f"step {state.step}: weights or features that are not finite"
                raise _diverged(found, state.step, parts, recipe, backbone)
            if validation and _best(state.history[1:], recipe) is state.history[-1]:
                state.best = delta.tensors()
        halt = stop()
        if (halt or state.step in evaluate_at) and state.step < total:
            state.weights = delta.tensors()
            state.optimiser = _optimiser_tensors(optimiser, names)
            save(state)
        rate = optimiser.param_groups[0]["lr"]
        seen = state.history[-1] if looked else None
        listen(StepRecord(state.step, figures, gradient, rate, seen))
        task.advance(1, _detail(state, figures))
        if halt and state.step < total:
            raise Halted
    trained = state.history[1:]
    return Outcome(
        tensors=state.best if trained else delta.tensors(),
        steps=state.step,
        chosen=_best(trained, recipe) if trained else None,
        base=state.history[0] if state.history else None,
        history=tuple(state.history),
        losses=tuple(state.losses),
    )


def _figures(losses: Losses, gradient: Tensor) -> tuple[dict[str, float], float]:
    """The losses by name, and the gradient's norm, in one wait for the device."""
    there = {name: value for name, value in vars(losses).items() if value is not None}
    *figures, norm = torch.stack([*(one.detach() for one in there.values()), gradient]).tolist()
    return dict(zip(there, figures, strict=True)), norm


def _diverged(
    found: str, updates: int, parts: Sequence[Part], recipe: Recipe, backbone: Backbone
) -> XcliptError:
    """The error of a batch that spoils the training, after so many updates of the weights."""
    batches = [part.pairs.batch(part.rows) for part in parts]
    given = [features for batch in batches for features in (batch.images, batch.partner_features)]
    if not all(features.isfinite().all() for features in given if features is not None):
        remedy = "the features that it is given are not finite, the backbone is damaged"
    elif updates:
        remedy = f"take a lower `learning_rate` than {recipe.learning_rate:g}"
        if recipe.head_learning_rate:
            remedy += f", or `head_learning_rate` than {recipe.head_learning_rate:g}"
    else:
        remedy = (
            "nothing is trained yet, so the backbone or what the delta starts from is damaged, or "
            "`logit_scale` or `align_weight` is too large"
        )
    if backbone.dtype == torch.float16:
        remedy += "; or use `dtype=float32`"
    rows = parts[0].rows
    numbers = ", ".join(str(i + 1) for i in rows[:8]) + (", ..." if len(rows) > 8 else "")
    return XcliptError(f"the training diverged at {found} (pairs {numbers}); {remedy}")


def _evaluate(backbone: Backbone, validation: Sequence[ValidationSet], step: int) -> Evaluated:
    r1, mrr, cosines, losses = [], [], [], []
    for part in validation:
        features = backbone.encode_tokens(part.tokens)
        if part.of_sentences:
            partners = part.images[part.picture_index]
            cosines.append(float(F.cosine_similarity(features, partners, dim=-1).mean()))
            losses.append(float(contrastive_to_partner(features, partners, _JUDGED_AT)))
        ranks = retrieval_ranks(part.images, features, part.picture_index)
        r1.append(mean_r1(ranks))
        mrr.append((summarise(ranks.t2i).mrr + summarise(ranks.i2t).mrr) / 2)
    return Evaluated(
        step, fmean(r1), fmean(mrr), *(fmean(of) if of else None for of in (cosines, losses))
    )


def _best(history: Sequence[Evaluated], recipe: Recipe) -> Evaluated:
    later = 1 if recipe.of_equals == "latest" else -1
    return max(history, key=lambda one: (one.score(recipe.choose_by), later * one.step))


def _out_of_patience(history: Sequence[Evaluated], recipe: Recipe) -> bool:
    trained, patience = history[1:], recipe.patience
    return len(trained) > patience and _best(trained, recipe) not in trained[-patience:]


def _groups(names: dict[str, torch.nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    head = [p for name, p in names.items() if name.startswith(HEAD)]
    rest = [p for name, p in names.items() if not name.startswith(HEAD)]
    peaks = (recipe.learning_rate, recipe.head_learning_rate or recipe.learning_rate)
    return [
        {"params": parameters, "lr": peak, "peak": peak}
        for parameters, peak in zip((rest, head), peaks, strict=True)
        if parameters
    ]


def _optimiser_tensors(
    optimiser: torch.optim.Optimizer, names: dict[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    return {
        f"{moment}.{name}": optimiser.state[parameter][moment].detach().cpu().clone()
        for name, parameter in names.items()
        if parameter in optimiser.state  # not where no gradient has reached it
        for moment in ("exp_avg", "exp_avg_sq")
    }


def _load_optimiser(
    optimiser: torch.optim.Optimizer,
    names: dict[str, torch.nn.Parameter],
    tensors: dict[str, Tensor],
    step: int,
) -> None:
    fused = bool(optimiser.defaults["fused"])
    for name, parameter in names.items():
        if f"exp_avg.{name}" not in tensors:
            continue
        optimiser.state[parameter] = {
            "step": torch.tensor(float(step), device=parameter.device if fused else None),
            "exp_avg": tensors[f"exp_avg.{name}"].to(parameter.device),
            "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter.device),
        }


def _detail(state: TrainingState, figures: Mapping[str, float]) -> str:
    """What tells a person how it goes: validation, else how near texts are to partners."""
    if state.history:
        last, base = state.history[-1], state.history[0]
        if last.loss is None or base.loss is None:
            return f"val R@1 {last.mean_r1:.1f} % (base {base.mean_r1:.1f})"
        return f"val loss {last.loss:.3f} (base {base.loss:.3f})"
    if "cosine" in figures:
        return f"cosine {figures['cosine']:.3f}"
    return f"loss {figures['total']:.3f}"
