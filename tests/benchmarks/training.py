"""Training: whole recipes against the paper's loop, and one step against bare torch."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks import plain
from tests.benchmarks.bare import BareTower, Batch, sorted_batches
from tests.benchmarks.material import (
    BFLOAT16,
    FLOAT32,
    builtin,
    captions,
    dtype_name,
    source,
    training_set,
)
from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.benchmarks.plain import EVERY, Look, Pictured
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.data.dataset import Dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent
from xclipt.training.captions import choose_pairs, hold_out
from xclipt.training.loop import StepRecord, TrainingState, fit
from xclipt.training.pairs import TrainingPairs, rows_of_epochs
from xclipt.training.recipe import DEFAULT, PAPER, Recipe
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta

PLAIN = "plain loop"
SHOTS = 50


def recipes(setting: Setting) -> Measured:
    """``--recipe paper`` and the default one, whole trainings from an empty directory."""
    dataset, shots = training_set(setting), setting.size(SHOTS, least=10)
    asked = AlignmentRequest("zh", shots=shots)
    recipe = replace(PAPER, epochs=setting.size(50, least=5), evaluate_every=EVERY)
    paper = TrainingRequest(
        asked,
        delta=LoraSpec(),
        recipe=recipe,
        validation_pictures=shots,
        even_if_worse=True,
    )
    default = TrainingRequest(asked, validation_pictures=shots, even_if_worse=True)
    pairs, held = _written_out(setting, dataset, paper)
    steps = recipe.steps(len(pairs))
    plainly: list[list[Look]] = []
    soon: list[list[Look]] = []
    candidates: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plainly.append(plain.train(builtin(setting.device), pairs, held, steps)),
        "default recipe": lambda: soon.append(
            _train(setting, builtin(setting.device), dataset, default)
        ),
    }
    for dtype in (FLOAT32, BFLOAT16):
        backbone, name = builtin(setting.device, dtype), dtype_name(dtype)
        bare = BareTower(backbone, LoraSpec())
        steps_of_tensors = _batches(backbone, pairs, steps)
        judged = sorted_batches(backbone, backbone.tokenizer([one.caption for one in held]))
        told = replace(paper, recipe=replace(recipe, dtype=name))
        candidates[f"paper, {name}"] = partial(_train, setting, backbone, dataset, told)
        candidates[f"bare passes, {name}"] = partial(_passes, bare, steps_of_tensors, judged)
    taken = interleaved(candidates, setting, warm=False)
    remark = f"{shots} shots, {steps} steps, one caption of {len(held)} pictures each {EVERY} steps"
    return Measured(
        (
            taken.times_as_fast("paper, float32", PLAIN, at_least(2), remark),
            taken.times_as_fast("paper, bfloat16", PLAIN, at_least(5)),
            *(
                taken.times_as_long(f"paper, {name}", f"bare passes, {name}", at_most(1.10))
                for name in map(dtype_name, (FLOAT32, BFLOAT16))
            ),
            _sooner(plainly, soon, source(setting)),
        )
    )


def _written_out(
    setting: Setting, dataset: Dataset, request: TrainingRequest
) -> tuple[list[Pictured], list[Pictured]]:
    """The pairs that the request trains on and those that it validates on, as files and texts."""
    backbone = builtin(setting.device)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        there = workspace_in(Path(folder), backbone)
        (alignment,) = choose_pairs(there, dataset, request)
        held = hold_out(there.directory, dataset, alignment, request.validation_pictures)
    path = dataset.picture_path
    return (
        [Pictured(path(pair.image), pair.text, pair.partner or "") for pair in alignment.pairs],
        [Pictured(path(one), text) for one, text in zip(held.images, held.captions, strict=True)],
    )


def _train(
    setting: Setting, backbone: Backbone, dataset: Dataset, request: TrainingRequest
) -> list[Look]:
    """Train in a directory that knows nothing yet; what validation saw, and when."""
    looks, started = [], time.perf_counter()

    def listen(record: StepRecord) -> None:
        if record.validation:
            looks.append(Look(time.perf_counter() - started, record.validation.mean_r1))

    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        train_delta(workspace_in(Path(folder), backbone), dataset, request, listen)
    return looks


def _passes(bare: BareTower, steps: Sequence[Sequence[Batch]], judged: Sequence[Batch]) -> None:
    """Every step's, and validation's after every fifth."""
    for number, step in enumerate(steps, 1):
        bare.forward_and_backward(step)
        if number % EVERY == 0:
            bare.forward(judged)


def _batches(backbone: Backbone, pairs: Sequence[Pictured], steps: int) -> list[list[Batch]]:
    """Captions and partners of every step together, as a live teacher has them."""
    texts = backbone.tokenizer([pair.caption for pair in pairs])
    partners = backbone.tokenizer([pair.partner for pair in pairs])
    drawn = rows_of_epochs(len(pairs), plain.BATCH, seed=1, filled=True)
    return [
        sorted_batches(backbone, [*(texts[i] for i in rows), *(partners[i] for i in rows)])
        for _, rows in zip(range(steps), drawn, strict=False)
    ]


def _sooner(plainly: Sequence[Sequence[Look]], soon: Sequence[Sequence[Look]], on: str) -> Figure:
    """How much sooner the default recipe has the recall that is the plain loop's best."""
    figure = Figure("default recipe", "plain loop's best recall", target=at_least(40), remark=on)
    ratios, ours, theirs = [], [], []
    for slow, fast in zip(plainly, soon, strict=True):
        best = max(slow, key=lambda look: (look.recall, -look.seconds))
        with suppress(StopIteration):
            reached = next(look for look in fast if look.recall >= best.recall)
            ratios.append(best.seconds / reached.seconds)
            ours.append(reached.seconds)
            theirs.append(best.seconds)
    if len(ratios) < len(plainly):
        told = f"best {max(look.recall for look in fast):.1f} % of {best.recall:.1f} %"
        return replace(figure, remark=f"not reached: {told} {on}".strip())
    return replace(
        figure,
        value=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        seconds={
            "default recipe": statistics.median(ours),
            "plain loop's best recall": statistics.median(theirs),
        },
    )


def step(setting: Setting) -> Measured:
    """Steps of the default recipe without validation, against passes over the same tensors."""
    steps = setting.size(100, least=2)
    texts = captions(setting, DEFAULT.batch_size * steps)
    recipe = replace(DEFAULT, epochs=1, evaluations=1)
    candidates: dict[str, Callable[[], object]] = {}
    for dtype in (FLOAT32, BFLOAT16):
        backbone, name = builtin(setting.device, dtype), dtype_name(dtype)
        rows = backbone.tokenizer(texts)
        random = torch.randn(len(rows), backbone.dim)
        pairs = TrainingPairs(random, rows, rows, partner_features=random)
        bare = BareTower(backbone, WARM_START_SPEC)
        batches = [
            batch
            for _, drawn in zip(
                range(steps),
                rows_of_epochs(len(rows), recipe.batch_size, seed=1, filled=True),
                strict=False,
            )
            for batch in sorted_batches(backbone, [rows[i] for i in drawn])
        ]
        candidates[f"steps, {name}"] = partial(_steps, backbone, pairs, recipe)
        candidates[f"bare passes, {name}"] = partial(bare.forward_and_backward, batches)
    taken = interleaved(candidates, setting)
    return Measured(
        tuple(
            taken.times_as_long(
                f"steps, {name}",
                f"bare passes, {name}",
                at_most(1.10),
                f"{steps} steps of {recipe.batch_size} captions of eleven languages",
            )
            for name in map(dtype_name, (FLOAT32, BFLOAT16))
        )
    )


def _steps(backbone: Backbone, pairs: TrainingPairs, recipe: Recipe) -> None:
    delta, task = AdaptedTower(backbone.text_tower, WARM_START_SPEC), Silent().start("", 1)
    fit(backbone, delta, [pairs], recipe, 1, [], TrainingState(), lambda state: None, task)


ROWS = (
    Row("recipes", "whole trainings against the paper's loop written out plainly", recipes),
    Row("step", "training steps against forward and backward of the same tower", step),
)
