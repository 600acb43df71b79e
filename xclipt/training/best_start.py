"""``start=best``: of all that a training could begin from, what is nearest to its own pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch.nn import functional as F

from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import Backbone
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.errors import UsageError
from xclipt.training.request import TrainingRequest
from xclipt.training.warm_start import AUTO, NONE, WarmStarts
from xclipt.workspace import Workspace

BEST = "best"
MOST_TRIED_ON = 200
"""Pairs of each language: more of them tell starts apart no better."""

_SHOWN = 3


def with_best_start(
    workspace: Workspace,
    request: TrainingRequest,
    name: str,
    pairs: Sequence[tuple[str, str, str]],
) -> TrainingRequest:
    """The request with the start in the place of ``best`` whose texts are nearest to partners.

    Measured is the mean cosine of texts, with the start, and their English, in the frozen tower.
    The backbone's own start, each delta of the directory that is of the wanted kind and settings,
    and none at all are tried; a delta never begins from itself.

    Args:
        workspace: Where deltas are, and who is told what was taken and why.
        request: Whose start is chosen; it is given back where it asks for another.
        name: What the delta will be called.
        pairs: Text, its language and its English.

    Raises:
        UsageError: There are no pairs of texts.
    """
    if request.recipe.start != BEST:
        return request
    if not pairs or request.alignment.routine != 1:
        raise UsageError(
            "is found by texts and their English captions, which this training does not have",
            field="start",
            value=BEST,
        )
    texts, languages, english = zip(*pairs, strict=True)
    tokens = workspace.backbone.tokenizer(texts, languages)
    partners = workspace.encode_texts(english, language="en")
    found = {
        start: float(F.cosine_similarity(tower.encode_tokens(tokens), partners, dim=-1).mean())
        for start, tower in _candidates(workspace, request, name)
    }
    ranked = sorted(found, key=lambda start: (-found[start], start))
    shown = ", ".join(f"{start} {found[start]:.3f}" for start in ranked[1 : _SHOWN + 1])
    workspace.progress.note(
        f"{request.language}: starts from {ranked[0]}, mean cosine {found[ranked[0]]:.3f} of "
        f"{len(pairs):,} pairs{f' (others: {shown})' if shown else ''}"
    )
    return replace(request, recipe=replace(request.recipe, start=ranked[0]))


def _candidates(
    workspace: Workspace, request: TrainingRequest, name: str
) -> Iterator[tuple[str, Backbone]]:
    backbone = workspace.backbone
    yield NONE, backbone
    starts = WarmStarts(workspace.directory, backbone.warm_start)
    shipped = starts.setting(AUTO, request.alignment.routine)
    if shipped and _suits(shipped, request):
        start = starts.choose(
            AUTO, shipped, request.alignment.routine, backbone.identity.fingerprint
        )
        if start:
            delta = AdaptedTower(backbone.text_tower, shipped)
            delta.load(delta.tensors() | dict(start.tensors))
            yield AUTO, delta.within(backbone)
    for stored in workspace.directory.deltas():
        own = stored.manifest.language == request.language and stored.manifest.name == name
        if not own and _fits(stored, request):
            yield f"{stored.manifest.language}/{stored.manifest.name}", stored.within(backbone)


def _fits(stored: StoredDelta, request: TrainingRequest) -> bool:
    return stored.manifest.text == request.alignment.inference and _suits(stored.spec, request)


def _suits(spec: DeltaSpec, request: TrainingRequest) -> bool:
    """Whether the delta that is asked for can begin from one of these settings."""
    asked = request.delta
    return (asked if isinstance(asked, DeltaSpec) else asked.completed(spec)) == spec
