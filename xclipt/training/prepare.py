"""From a data set to all that a training depends on: pairs, features, validation pictures."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import xclipt
from xclipt.alignment.build import AlignmentSet
from xclipt.artifacts.manifest import TrainingData
from xclipt.data.dataset import Dataset
from xclipt.deltas.kind import DeltaSpec
from xclipt.devices import dtype_name
from xclipt.parallel.stored import StoredPairs
from xclipt.training.best_start import MOST_TRIED_ON, with_best_start
from xclipt.training.captions import choose_pairs, prepare_captions
from xclipt.training.loop import ValidationSet
from xclipt.training.pairs import TrainingPairs
from xclipt.training.request import TrainingRequest
from xclipt.training.sentences import SentencePairs, prepare_sentences, store_sentences
from xclipt.training.warm_start import AUTO, WarmStart, WarmStarts
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class Prepared:
    """All that a training depends on.

    Attributes:
        request: As it was asked, with what the backbone decides of its recipe.
        name: The delta's.
        folder: Where it will be.
        spec: Kind and settings.
        start: What it begins from; ``None`` is the kind's own beginning.
        pairs: Captions with pictures to train on, an entry a language.
        sentences: Sentence pairs without pictures, likewise.
        validation: What is validated on, if anything, likewise.
        dtype: What the tower computes in.
        facts: What the manifest says of all this, by its fields.
        key: SHA-256 over everything that the result depends on.
    """

    request: TrainingRequest
    name: str
    folder: Path
    spec: DeltaSpec
    start: WarmStart | None
    pairs: tuple[TrainingPairs, ...]
    sentences: tuple[SentencePairs, ...]
    validation: tuple[ValidationSet, ...]
    dtype: torch.dtype
    facts: Mapping[str, Any]
    key: str


def prepare(workspace: Workspace, dataset: Dataset | None, request: TrainingRequest) -> Prepared:
    """Choose pairs and validation pictures, and encode what stays frozen.

    Raises:
        XcliptError: The data does not hold what is asked, or a start is not there or does not fit.
    """
    backbone, directory = workspace.backbone, workspace.directory
    recipe = request.recipe.on(backbone.text_tower.similarity)
    request = replace(request, recipe=recipe)
    source = request.source(dataset)
    name = request.delta_name(dataset.name if dataset else None)
    alignments = choose_pairs(workspace, dataset, request) if dataset else []
    stored = store_sentences(workspace, request)
    tried = [*_some_sentences(stored), *_some_captions(alignments)]
    request = with_best_start(workspace, request, name, tried)
    recipe = request.recipe
    folder = directory.delta_folder(request.language, name)
    starts = WarmStarts(directory, backbone.warm_start)
    spec = request.delta_spec(starts).counted(backbone.tokenizer)
    start = starts.choose(
        recipe.start, spec, request.alignment.routine, backbone.identity.fingerprint
    )
    if start is None and recipe.start == AUTO:
        _note_missed_start(workspace, request, spec, starts)
    seen = start.pictures if start else ()
    captions = sentences = None
    if dataset is not None:
        captions = prepare_captions(workspace, dataset, alignments, request, spec=spec, seen=seen)
    if request.parallel:
        sentences = prepare_sentences(
            workspace,
            stored,
            request.parallel,
            spec=spec,
            frozen=recipe.teacher == "frozen",
            hold_out=captions is None or not captions.validation,
        )
    data = captions.data if captions else _without_pictures(source, seen)
    if sentences:
        data = replace(data, sentences=sentences.data)
    dtype = recipe.computed_in(backbone.device, backbone.dtype)
    facts: dict[str, Any] = {
        "language": request.language,
        "languages": request.joint,
        "kind": spec.kind,
        "setting": asdict(spec),
        "backbone": backbone.identity.plain(),
        "backbone_parameters": backbone.text_parameters,
        "routine": request.alignment.routine,
        "text": request.alignment.inference,
        "recipe": asdict(recipe),
        "seed": request.seed,
        "data": data,
        "versions": _versions(),
        "translator": captions.translator if captions else None,
        "start": {"name": start.name, "sha256": start.sha256} if start else None,
        "dtype": dtype_name(dtype),
    }
    asked = asdict(replace(request, even_if_worse=False, force=False))
    if request.parallel is None:
        del asked["parallel"]
    else:  # what is in the files, not where they are
        del asked["parallel"]["sources"]
    return Prepared(
        request=request,
        name=name,
        folder=folder,
        spec=spec,
        start=start,
        pairs=captions.pairs if captions else (),
        sentences=sentences.pairs if sentences else (),
        validation=(captions and captions.validation) or (sentences and sentences.validation) or (),
        dtype=dtype,
        facts=facts,
        key=_sha256_of(
            {
                **facts,
                "backbone": backbone.identity.fingerprint,
                "features": dtype_name(backbone.dtype),
                "data": asdict(data),
                "request": asked,
                "validation captions": captions.held_out if captions else (),
            }
        ),
    )


def _some_sentences(stored: Sequence[StoredPairs]) -> Iterator[tuple[str, str, str]]:
    """The last of each language: those that would be held out."""
    for one in stored:
        for pair in one[max(0, len(one) - MOST_TRIED_ON) :]:
            yield pair.text, one.language, pair.english


def _some_captions(alignments: Sequence[AlignmentSet]) -> Iterator[tuple[str, str, str]]:
    for one in alignments:
        for pair in one.pairs[:MOST_TRIED_ON]:
            if pair.partner is not None:
                yield pair.text, one.request.language, pair.partner


def _without_pictures(source: str, seen: Sequence[str]) -> TrainingData:
    """What a manifest says of the pictures of a training on text alone."""
    return TrainingData(
        dataset=source,
        split=None,
        shots=0,
        pairs=0,
        sha256="",
        validation_split=None,
        validation_pictures=0,
        pictures=tuple(seen),
    )


def _note_missed_start(
    workspace: Workspace, request: TrainingRequest, spec: DeltaSpec, starts: WarmStarts
) -> None:
    shipped = starts.setting(AUTO, request.alignment.routine)
    if shipped is not None and shipped.kind == spec.kind:
        workspace.progress.note(
            f"{request.language}: starts from the identity; leave out `rank`, `alpha`, `modules` "
            f"and `train_layernorm` to start from the {spec.kind} that comes with xclipt"
        )


def _sha256_of(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {"xclipt": xclipt.__version__} | {
        package: version(package) for package in ("torch", "transformers", "opendelta")
    }
