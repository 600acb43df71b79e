"""``train-delta``: prepare, fit, record."""

import time
from dataclasses import asdict
from datetime import UTC, datetime

from xclipt.alignment.routines import check_language
from xclipt.artifacts.directory import INTERRUPTED, StoredDelta
from xclipt.artifacts.manifest import DeltaManifest, pack
from xclipt.data.dataset import Dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.languages import name as language_name
from xclipt.training.checkpoint import Checkpoint
from xclipt.training.loop import Outcome, fit
from xclipt.training.prepare import Prepared, prepare
from xclipt.training.request import TrainingRequest
from xclipt.workspace import Workspace


def train_delta(workspace: Workspace, dataset: Dataset, request: TrainingRequest) -> StoredDelta:
    """Train one language's delta, and make it current unless validation says that it is no gain.

    An interrupted training of the same request is taken up where it was.

    >>> import xclipt
    >>> workspace = xclipt.open_workspace("xclipt-artifacts", create=True)
    >>> request = xclipt.TrainingRequest(xclipt.AlignmentRequest("fr", shots=10))
    >>> xclipt.train_delta(workspace, xclipt.open_dataset("emoji"), request).manifest.name
    'lora-10shot-seed1'

    Args:
        workspace: Where the delta will be, with the backbone that it stands on.
        dataset: Where captions and pictures are.
        request: What to train, on which of them, and how.

    Raises:
        XcliptError: The data does not hold what is asked, or nothing can be written.
    """
    started = time.perf_counter()
    pairs = request.alignment
    check_language(pairs.routine, pairs.inference, pairs.language)
    prepared = prepare(workspace, dataset, request)
    checkpoint = Checkpoint(prepared.folder / INTERRUPTED, prepared.key)
    outcome = _fit(workspace, prepared, checkpoint)
    stored = _record(workspace, prepared, outcome, time.perf_counter() - started)
    checkpoint.delete()
    return stored


def _fit(workspace: Workspace, prepared: Prepared, checkpoint: Checkpoint) -> Outcome:
    request, backbone = prepared.request, workspace.backbone
    delta = AdaptedTower(backbone.text_tower, prepared.spec, request.seed, backbone.tokenizer)
    if prepared.start:
        delta.load(delta.tensors() | dict(prepared.start.tensors))
    task = workspace.progress.start(
        f"Training {language_name(request.language)}",
        request.recipe.steps(len(prepared.pairs.tokens)),
    )
    try:
        return fit(
            backbone,
            delta,
            prepared.pairs,
            request.recipe,
            request.seed,
            prepared.validation,
            checkpoint.load(),
            checkpoint.save,
            task,
            started=prepared.start is not None,
        )
    finally:
        task.finish()


def _record(
    workspace: Workspace, prepared: Prepared, outcome: Outcome, seconds: float
) -> StoredDelta:
    request = prepared.request
    language, name = request.language, prepared.name
    weights, data = pack(outcome.tensors)
    manifest = DeltaManifest(
        language=language,
        name=name,
        kind=prepared.spec.kind,
        setting=asdict(prepared.spec),
        weights=weights,
        backbone=dict(vars(workspace.backbone.identity)),
        backbone_parameters=workspace.backbone.text_parameters,
        routine=request.alignment.routine,
        text=request.alignment.inference,
        recipe=asdict(request.recipe),
        seed=request.seed,
        data=prepared.data,
        steps=outcome.steps,
        seconds=round(seconds, 1),
        validation=_validation(prepared, outcome),
        versions=prepared.versions,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        translator=asdict(prepared.translator) if prepared.translator else None,
        start={"name": prepared.start.name, "sha256": prepared.start.sha256}
        if prepared.start
        else None,
    )
    current = request.even_if_worse or outcome.beats_base(request.recipe)
    stored = workspace.directory.write_delta(manifest, data, make_current=current)
    if not current:
        workspace.progress.note(
            f"{language}: {name} does not beat the frozen base on the validation pictures "
            f"and is not made current; 'xclipt use {language} {name}' does that"
        )
    return stored


def _validation(prepared: Prepared, outcome: Outcome) -> dict[str, object]:
    figures: dict[str, object] = {"pictures": prepared.data.validation_pictures}
    if outcome.chosen and outcome.base:
        figures |= {
            "step": outcome.chosen.step,
            "mean_R@1": round(outcome.chosen.mean_r1, 3),
            "MRR": round(outcome.chosen.mrr, 5),
            "base_mean_R@1": round(outcome.base.mean_r1, 3),
            "base_MRR": round(outcome.base.mrr, 5),
            "history": [
                {"step": e.step, "mean_R@1": round(e.mean_r1, 3), "MRR": round(e.mrr, 5)}
                for e in outcome.history
            ],
        }
    return figures
