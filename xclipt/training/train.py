"""``train-delta``: prepare, fit, record."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

from xclipt.alignment.routines import check_language
from xclipt.artifacts.directory import INTERRUPTED, StoredDelta
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest, TrainingData, differences
from xclipt.data.dataset import Dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kinds import PartialSpec
from xclipt.deltas.outline import outline
from xclipt.devices import AUTO
from xclipt.errors import UsageError, XcliptError, recommended
from xclipt.interruption import deferred
from xclipt.languages import names as language_names
from xclipt.training.checkpoint import Checkpoint
from xclipt.training.loop import Evaluated, Outcome, StepRecord, TrainingState, fit
from xclipt.training.prepare import Prepared, prepare
from xclipt.training.recipe import stored_recipe
from xclipt.training.request import TrainingRequest
from xclipt.training.steps import largest
from xclipt.training.warm_start import OPENDELTA
from xclipt.workspace import Workspace

_FEW_PAIRS = 50
"""From the identity ten have done harm and a hundred good (text_alone.md, among the studies)."""
_MANY_PAIRS = 5_000
"""At ten thousand rank 16 closed 8 points more of the gap than rank 2 (the same page)."""


def train_delta(
    workspace: Workspace,
    dataset: Dataset | None,
    request: TrainingRequest,
    listen: Callable[[StepRecord], None] = lambda record: None,
) -> StoredDelta:
    """Train one language's delta, and make it current unless validation says that it is no gain.

    An interrupted training of the same request is taken up where it was; of one that was finished
    the delta is given again.

    >>> import xclipt
    >>> workspace = xclipt.open_workspace("xclipt-artifacts", create=True)
    >>> request = xclipt.TrainingRequest(xclipt.AlignmentRequest("fr", shots=10))
    >>> xclipt.train_delta(workspace, xclipt.open_dataset("emoji"), request).manifest.name
    'lora-10shot-seed1'

    Args:
        workspace: Where the delta will be, with the backbone that it stands on.
        dataset: Where captions and pictures are; ``None`` trains on the request's sentence pairs
            alone.
        request: What to train, on which of them, and how.
        listen: Told of every step.

    Raises:
        XcliptError: The data does not hold what is asked, another delta has the name, or nothing
            can be written.
    """
    started = time.perf_counter()
    for language in request.languages:
        check_language(request.alignment.routine, request.alignment.inference, language)
    prepared = prepare(workspace, dataset, request)
    checkpoint = Checkpoint(prepared.folder / INTERRUPTED, prepared.key)
    if not request.force and (stored := _finished(workspace, prepared)):
        if checkpoint.load().step:  # killed between its record and here; another request's stays
            checkpoint.delete()
        return stored
    outcome = _fit(workspace, prepared, checkpoint, listen)
    stored = _record(workspace, prepared, outcome, time.perf_counter() - started)
    checkpoint.delete()
    return stored


def _finished(workspace: Workspace, prepared: Prepared) -> StoredDelta | None:
    """The delta of the same name, if the same request made it; ``None`` where there is none.

    Raises:
        XcliptError: Another request made it.
    """
    language, name, request = prepared.request.language, prepared.name, prepared.request
    if not (prepared.folder / MANIFEST).exists():
        return None
    stored = workspace.directory.delta(language, name)
    asked = {key: value for key, value in prepared.facts.items() if key != "versions"}
    recipe = asked["recipe"]
    if recipe["dtype"] == AUTO or stored.manifest.dtype is None:  # earlier releases did not say
        del asked["dtype"]
    wanted = replace(stored.manifest, **asked).facts()
    there = replace(
        stored.manifest,
        setting=asdict(stored.spec),
        recipe=stored_recipe(stored.manifest.recipe) | {"dtype": recipe["dtype"]},
    ).facts()
    if wanted != there:
        differing = differences(wanted, there)
        raise UsageError(
            f"{prepared.folder}: '{name}' is there already and is another delta of {language} "
            f"(they differ in {differing}); give `name=NAME`, or `force=True` to replace it"
        )
    try:
        stored.tensors()
    except XcliptError:
        return None  # damaged: train it again
    workspace.progress.note(f"{language}: {name} is there already, from the same request")
    if not stored.current and (request.even_if_worse or _beats_base(stored.manifest)):
        for one in stored.manifest.taught:
            workspace.directory.set_current(one, stored.manifest.reference)
        stored = workspace.directory.delta(language, name)
    return stored


def _beats_base(manifest: DeltaManifest) -> bool:
    found, by = manifest.validation, manifest.recipe["choose_by"]
    if "step" not in found:
        return True
    own, base = (
        Evaluated(0, found[f"{of}mean_R@1"], found.get(f"{of}MRR", 0), loss=found.get(f"{of}loss"))
        for of in ("", "base_")
    )
    return own.score(by) > base.score(by)


def _fit(
    workspace: Workspace,
    prepared: Prepared,
    checkpoint: Checkpoint,
    listen: Callable[[StepRecord], None],
) -> Outcome:
    request, backbone = prepared.request, workspace.backbone
    delta = AdaptedTower(
        backbone.text_tower,
        prepared.spec,
        request.seed,
        backbone.tokenizer,
        identity=request.recipe.start != OPENDELTA,
    )
    if prepared.start:
        delta.load(delta.tensors() | dict(prepared.start.tensors))
    recipe, count = request.recipe, largest(prepared.pairs, prepared.sentences)
    steps, whole = recipe.steps(count), replace(recipe, max_steps=sys.maxsize).steps(count)
    if recipe.epochs and steps < whole:
        workspace.progress.note(
            f"{request.language}: the recipe ends at {steps:,} steps; {recipe.epochs:,} epochs are "
            f"{whole:,}"
        )
    workspace.progress.note(_intended(prepared, steps))
    shown = prepared.facts["data"].validation_pictures
    if count < _FEW_PAIRS and not (prepared.pairs or prepared.start or shown):
        workspace.progress.note(
            f"{request.language}: {count:,} pairs and no start: so few have made search worse, "
            f"even where held-out pairs said otherwise; give {2 * _FEW_PAIRS} or more, or begin "
            "from a delta of other languages with `start=LANG/NAME`"
        )
    if prepared.sentences and count >= _MANY_PAIRS and request.delta == PartialSpec():
        workspace.progress.note(
            f"{request.language}: so many pairs teach a larger delta more: `modules=all-linear` "
            "`rank=16` `alpha=32` make it some 1 % of the text tower"
        )

    def save(state: TrainingState) -> None:
        workspace.directory.require_there()
        checkpoint.save(state)

    task = workspace.progress.start(f"Training {language_names(request.languages)}", steps)
    try:
        with deferred() as stop:
            return fit(
                replace(backbone, dtype=prepared.dtype),
                delta,
                prepared.pairs,
                recipe,
                request.seed,
                prepared.validation,
                checkpoint.load(),
                save,
                task,
                started=prepared.start is not None,
                sentences=prepared.sentences,
                listen=listen,
                stop=stop,
            )
        raise KeyboardInterrupt  # never reached: the signal that halted it has been raised
    finally:
        task.finish()


def _intended(prepared: Prepared, steps: int) -> str:
    """What is about to be done, in one line."""
    data: TrainingData = prepared.facts["data"]
    judged = f"validated on {data.validated_on}" if data.validated_on else "not validated"
    there = largest(prepared.pairs, prepared.sentences)
    size = min(prepared.request.recipe.batch_size, there)
    plain = f"{data.what}: at most {steps:,} steps of {size}, {judged}".replace("`", "")
    return f"{prepared.request.language}: {plain}"


def _record(
    workspace: Workspace, prepared: Prepared, outcome: Outcome, seconds: float
) -> StoredDelta:
    request = prepared.request
    language, name = request.language, prepared.name
    manifest, data = DeltaManifest.of(
        outcome.tensors,
        name=name,
        seconds=round(seconds, 1),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        steps=outcome.steps,
        validation=_validation(prepared, outcome),
        **prepared.facts,
    )
    current = request.even_if_worse or outcome.beats_base(request.recipe)
    stored = workspace.directory.write_delta(manifest, data, make_current=current)
    fits = {name: tuple(tensor.shape) for name, tensor in outcome.tensors.items()}
    outline(workspace.backbone.identity.fingerprint, stored.spec, lambda: fits)  # for verify
    shown = bool(manifest.data.validation_pictures)
    given, judged = ("captions", "pictures") if shown else ("pairs", "pairs")
    if manifest.kept_start:
        workspace.progress.note(
            f"{language}: your {given} did not improve on the start: kept the start"
        )
    if not current:
        workspace.progress.note(
            f"{language}: {name} does not beat the frozen base on the validation {judged} "
            f"and is not made current; {_use(manifest)} does that"
        )
    return stored


def _use(manifest: DeltaManifest) -> str:
    commands = [recommended("use", code, manifest.reference) for code in manifest.taught]
    return " and ".join(commands)


def _validation(prepared: Prepared, outcome: Outcome) -> dict[str, object]:
    data = prepared.facts["data"]
    figures: dict[str, object] = {"pictures": data.validation_pictures}
    if data.sentences and not data.validation_pictures:
        figures["pairs"] = data.sentences.held_out
    if outcome.chosen and outcome.base:
        figures |= {
            "step": outcome.chosen.step,
            **_plain(outcome.chosen),
            **{f"base_{name}": figure for name, figure in _plain(outcome.base).items()},
            "history": [{"step": e.step, **_plain(e)} for e in outcome.history],
        }
    return figures


def _plain(evaluated: Evaluated) -> dict[str, float]:
    figures = {"mean_R@1": round(evaluated.mean_r1, 3), "MRR": round(evaluated.mrr, 5)}
    of_sentences = {"cosine": evaluated.cosine, "loss": evaluated.loss}
    return figures | {name: round(f, 5) for name, f in of_sentences.items() if f is not None}
