"""``train-delta``: from a data set to a stored delta."""

import dataclasses
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch

import xclipt
from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import DeltaManifest, TrainingData, WeightsFile
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pairs import CaptionPair, caption_pairs, picture_order
from xclipt.data.paper_split import paper_split
from xclipt.data.pictures import require_pictures
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import DeltaSpec, LoraSpec
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.training.checkpoint import Checkpoint
from xclipt.training.recipe import DEFAULT, Recipe
from xclipt.training.trainer import Outcome, TrainingPairs, ValidationSet, train
from xclipt.workspace import Workspace

ROUTINES = {"1": 1, "none": None}


@dataclass(frozen=True)
class TrainingRequest:
    """What a user asks of ``train-delta``, for one language.

    Attributes:
        language: ISO 639-1 code.
        shots: Pictures with one caption each; ``None`` is every caption of every picture.
        routine: 1 aligns with the human English caption, ``None`` does not align.
        seed: Of the choice of pictures, the initial values and the order of batches.
        spec: Kind of delta and its settings.
        recipe: The optimisation.
        name: The delta's; ``None`` makes one from kind, shots and seed.
        split: To train on; ``None`` is ``train`` where the data set has splits, ``paper`` the
            choice of the paper's code (:func:`~xclipt.data.paper_split.paper_split`).
        validation_pictures: At most so many of the split ``val``; of a data set without splits,
            so many are held out. ``None`` is 300, or 0 without splits.
        allow_missing: Go on with the pictures that are there.
    """

    language: str
    shots: int | None = 50
    routine: int | None = 1
    seed: int = 1
    spec: DeltaSpec = dataclasses.field(default_factory=LoraSpec)
    recipe: Recipe = DEFAULT
    name: str | None = None
    split: str | None = None
    validation_pictures: int | None = None
    allow_missing: bool = False

    def delta_name(self) -> str:
        """``lora-10shot-seed1`` and the like, unless a name was given."""
        if self.name:
            return self.name
        amount = f"{self.shots}shot" if self.shots else "full"
        routine = "" if self.routine == 1 else "-unaligned"
        return f"{self.spec.kind}-{amount}{routine}-seed{self.seed}"


@dataclass(frozen=True)
class _Material:
    pairs: list[CaptionPair]
    split: str | None
    validation: list[CaptionedPicture]
    validation_split: str | None


def train_delta(workspace: Workspace, dataset: Dataset, request: TrainingRequest) -> StoredDelta:
    """Train one language's delta and make it current.

    An interrupted training of the same request is taken up where it was.

    Raises:
        XcliptError: The data does not hold what is asked, or nothing can be written.
    """
    started = time.perf_counter()
    backbone, progress = workspace.backbone, workspace.progress
    if request.routine == 1 and request.language == "en":
        raise XcliptError("--lang en: routine 1 aligns with English; use --routine none")
    name = request.delta_name()
    folder = workspace.directory.delta_folder(request.language, name)
    material = _gather(dataset, request)

    used = [pair.image for pair in material.pairs] + [p.image for p in material.validation]
    row = {image: i for i, image in enumerate(dict.fromkeys(used))}
    pictures = workspace.encode_pictures([dataset.picture_path(image) for image in row])
    content = {image: pictures.keys[i].hex() for image, i in row.items()}

    prompted = request.spec.prompted
    texts = [prompted(pair.text) for pair in material.pairs]
    partners = [pair.partner for pair in material.pairs if pair.partner is not None]
    aligned = request.routine is not None and request.recipe.align_weight > 0
    frozen = aligned and request.recipe.teacher == "frozen"
    pairs = TrainingPairs(
        images=pictures.features[[row[pair.image] for pair in material.pairs]],
        texts=backbone.tokenizer(texts),
        partners=backbone.tokenizer([*map(prompted, partners)]) if aligned else None,
        partner_features=workspace.encode_texts(partners) if frozen else None,
    )
    validation = None
    if material.validation:
        captions = [c for picture in material.validation for c in picture.captions]
        owner = [i for i, p in enumerate(material.validation) for _ in p.captions]
        validation = ValidationSet(
            images=pictures.features[[row[p.image] for p in material.validation]],
            texts=backbone.tokenizer([*map(prompted, captions)]),
            owner=torch.tensor(owner),
            plain=backbone.tokenizer(captions) if request.spec.hard_prompt else None,
        )
    digest = hashlib.sha256()
    for pair in material.pairs:
        digest.update(f"{content[pair.image]}\t{pair.text}\t{pair.partner or ''}\n".encode())
    data = TrainingData(
        dataset=dataset.name,
        split=material.split,
        shots=request.shots,
        pairs=len(material.pairs),
        sha256=digest.hexdigest(),
        validation_split=material.validation_split,
        validation_pictures=len(material.validation),
        pictures=tuple(key[:16] for key in content.values()),
    )

    checkpoint = Checkpoint(folder / "training.safetensors", _key(workspace, request, data))
    delta = InjectedDelta(
        backbone.text_tower, request.spec, backbone.family, request.seed, backbone.tokenizer
    )
    task = progress.start(
        f"Training {language_name(request.language)}", request.recipe.steps(len(texts))
    )
    try:
        outcome = train(
            backbone,
            delta,
            pairs,
            request.recipe,
            request.seed,
            validation,
            checkpoint.load(),
            checkpoint.save,
            task,
        )
    finally:
        task.finish()
        delta.remove()
    manifest = _manifest(workspace, request, name, data, outcome, time.perf_counter() - started)
    stored = workspace.directory.write_delta(manifest, outcome.tensors)
    checkpoint.delete()
    return stored


def _gather(dataset: Dataset, request: TrainingRequest) -> _Material:
    if request.split == "paper":
        return _gather_as_the_paper(dataset, request)
    split = request.split or ("train" if "train" in dataset.splits else None)
    if split is None and dataset.splits:
        raise XcliptError(
            f"--dataset {dataset.name}: has no split 'train', name one with --split "
            f"({', '.join(dataset.splits)})"
        )
    candidates = dataset.captions(request.language, split)
    there = require_pictures(dataset, candidates, request.allow_missing)
    pairs = caption_pairs(
        dataset,
        request.language,
        split,
        shots=request.shots,
        seed=request.seed,
        routine=request.routine,
        among={picture.image for picture in there},
    )
    wanted = request.validation_pictures
    if "val" in dataset.splits and split != "val":
        return _Material(pairs, split, _published_validation(dataset, request), "val")
    if dataset.splits:
        return _Material(pairs, split, [], None)
    trained = {pair.image for pair in pairs}
    held = [p for p in picture_order(there, request.seed) if p.image not in trained]
    limit = wanted or 0
    if limit > len(held):
        raise XcliptError(
            f"--validate-on {limit}: only {len(held)} pictures of {dataset.name} are left "
            "beside those trained on"
        )
    return _Material(pairs, split, held[:limit], None)


def _published_validation(dataset: Dataset, request: TrainingRequest) -> list[CaptionedPicture]:
    wanted = request.validation_pictures
    limit = 300 if wanted is None else wanted
    held = dataset.captions(request.language, "val") if limit else []
    return picture_order(require_pictures(dataset, held, request.allow_missing), seed=0)[:limit]


def _gather_as_the_paper(dataset: Dataset, request: TrainingRequest) -> _Material:
    # Of a data set with a split to train on, the paper draws its shots from that split and
    # validates on the published one; XTD, a test set, it cuts in three.
    whole = "train" not in dataset.splits
    split = None if whole else "train"
    listed = dataset.captions("en" if "en" in dataset.languages else request.language, split)
    if request.shots is None or request.shots * (2 if whole else 1) > len(listed):
        raise XcliptError(
            f"--split paper: --shots must be a number; {dataset.name} has {len(listed):,} pictures"
            + (", of which as many again are for validation" if whole else "")
        )
    train, validate, _ = paper_split(len(listed), request.shots)

    def captioned(indices: list[int]) -> list[CaptionedPicture]:
        by_image = {p.image: p for p in dataset.captions(request.language, split)}
        chosen = [by_image[image] for i in indices if (image := listed[i].image) in by_image]
        return require_pictures(dataset, chosen, request.allow_missing)

    pairs = caption_pairs(
        dataset,
        request.language,
        split,
        shots=None,
        seed=request.seed,
        routine=request.routine,
        among={picture.image for picture in captioned(train)},
    )
    if whole:
        return _Material(pairs, "paper", captioned(validate), "paper")
    return _Material(pairs, "paper", _published_validation(dataset, request), "val")


def _key(workspace: Workspace, request: TrainingRequest, data: TrainingData) -> str:
    # Everything that the result depends on: a training is only taken up for the same of it all.
    plain = {
        "backbone": workspace.backbone.identity.fingerprint,
        "request": asdict(request),
        "kind": request.spec.kind,
        "data": asdict(data),
        "dtype": str(workspace.backbone.dtype),
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _manifest(
    workspace: Workspace,
    request: TrainingRequest,
    name: str,
    data: TrainingData,
    outcome: Outcome,
    seconds: float,
) -> DeltaManifest:
    validation: dict[str, object] = {"pictures": data.validation_pictures}
    if outcome.chosen and outcome.base:
        validation |= {
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
    return DeltaManifest(
        language=request.language,
        name=name,
        kind=request.spec.kind,
        setting=asdict(request.spec),
        weights=WeightsFile("", "", 0, 0),  # filled in when the file is written
        backbone=dict(vars(workspace.backbone.identity)),
        backbone_parameters=workspace.backbone.text_parameters,
        routine=request.routine,
        text="target",
        recipe=asdict(request.recipe),
        seed=request.seed,
        data=data,
        steps=outcome.steps,
        seconds=round(seconds, 1),
        validation=validation,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    return {"xclipt": xclipt.__version__} | {
        package: version(package) for package in ("torch", "transformers", "opendelta")
    }
