"""``train-delta``: from a data set to a stored delta."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch

import xclipt
from xclipt.alignment.alignment_set import AlignmentRequest, AlignmentSet, build_alignment
from xclipt.alignment.routines import TO_EN, check_language, inference_text
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.features import picture_key
from xclipt.artifacts.manifest import DeltaManifest, TrainingData, WeightsFile
from xclipt.data.dataset import Dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import DeltaSpec, LoraSpec
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.training.checkpoint import Checkpoint
from xclipt.training.held_out import HeldOut, hold_out
from xclipt.training.partners import frozen_partners
from xclipt.training.recipe import DEFAULT, Recipe
from xclipt.training.start import Start, choose_start, lora_like_start
from xclipt.training.trainer import Outcome, TrainingPairs, ValidationSet, train
from xclipt.translation.store import Translator
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class TrainingRequest:
    """What a user asks of ``train-delta``, for one language.

    Attributes:
        language: ISO 639-1 code.
        shots: Pictures with one caption each; ``None`` is every caption of every picture.
        routine: 1, 2, 3 or ``None``: :mod:`xclipt.alignment.routines`.
        seed: Of the choice of pictures, the initial values and the order of batches.
        spec: Kind of delta and its settings; ``None`` is a LoRA like what it starts from
            (:func:`~xclipt.training.start.lora_like_start`).
        recipe: The optimisation.
        name: The delta's; ``None`` makes one from kind, shots and seed.
        split: To train on; ``None`` is ``train`` where the data set has splits, ``paper`` the
            choice of the paper's code (:func:`~xclipt.data.paper_split.paper_split`).
        validation_pictures: At most so many of the split ``val``; of a data set without splits,
            so many are held out. ``None`` is 300, or 0 without splits.
        allow_missing: Go on with the pictures that are there.
        text: ``target`` or ``to-en``: what is embedded, in training and at inference. ``None`` is
            the routine's own, ``target`` for ``None``.
        translator: Engine, model or folder of the translations to take; ``None`` is the translator
            that has most of them.
        floor: Least cosine of a pair's texts in the frozen tower.
        even_if_worse: Make the delta current even where validation puts it below the base.

    Raises:
        XcliptError: Routine, text, translator and floor contradict each other.
    """

    language: str
    shots: int | None = 50
    routine: int | None = 1
    seed: int = 1
    spec: DeltaSpec | None = None
    recipe: Recipe = DEFAULT
    name: str | None = None
    split: str | None = None
    validation_pictures: int | None = None
    allow_missing: bool = False
    text: str | None = None
    translator: str | None = None
    floor: float | None = None
    even_if_worse: bool = False

    def __post_init__(self) -> None:
        self.alignment()

    def alignment(self) -> AlignmentRequest:
        """The part of the request that chooses the pairs."""
        return AlignmentRequest(
            language=self.language,
            shots=self.shots,
            routine=self.routine,
            text=inference_text(self.routine, self.text),
            seed=self.seed,
            split=self.split,
            allow_missing=self.allow_missing,
            translator=self.translator,
            floor=self.floor,
        )

    def delta_name(self) -> str:
        """``lora-10shot-seed1`` and the like, unless a name was given."""
        if self.name:
            return self.name
        amount = f"{self.shots}shot" if self.shots else "full"
        routine = {1: "", None: "-unaligned"}.get(self.routine, f"-routine{self.routine}")
        if self.routine is None and self.text == TO_EN:
            routine += "-to-en"
        kind = self.spec.kind if self.spec else LoraSpec.kind
        return f"{kind}-{amount}{routine}-seed{self.seed}"

    def delta_spec(self, directory: ArtifactDirectory | None, backbone: str) -> DeltaSpec:
        """What the delta is: :attr:`spec`, or a LoRA like what it starts from.

        Args:
            directory: Where a start may be taken from.
            backbone: Its name.

        Raises:
            XcliptError: What it is to start from is not there.
        """
        return self.spec or lora_like_start(directory, backbone, self.recipe.start, self.routine)


def train_delta(workspace: Workspace, dataset: Dataset, request: TrainingRequest) -> StoredDelta:
    """Train one language's delta, and make it current unless validation says that it is no gain.

    An interrupted training of the same request is taken up where it was.

    Raises:
        XcliptError: The data does not hold what is asked, or nothing can be written.
    """
    started = time.perf_counter()
    backbone, progress = workspace.backbone, workspace.progress
    check_language(request.routine, request.alignment().text, request.language)
    name = request.delta_name()
    folder = workspace.directory.delta_folder(request.language, name)
    spec = request.delta_spec(workspace.directory, backbone.identity.id)
    start = choose_start(workspace.directory, request.recipe.start, spec, request.routine)
    if start is None and _could_start(workspace, request, spec):
        progress.note(
            f"{request.language}: starts from the identity; leave out --rank, --alpha, --modules "
            "and --train-layernorm to start from the lora that comes with xclipt"
        )
    _require_split(dataset, request)
    alignment = build_alignment(workspace, dataset, request.alignment())
    held = hold_out(workspace.directory, dataset, alignment, request.validation_pictures)

    row = {image: i for i, image in enumerate(dict.fromkeys([*_images(alignment), *held.images]))}
    pictures = workspace.encode_pictures([dataset.picture_path(image) for image in row])
    content = {image: pictures.keys[i].hex() for image, i in row.items()}

    prompted = spec.prompted
    texts = [prompted(pair.text) for pair in alignment.pairs]
    partners = [pair.partner for pair in alignment.pairs if pair.partner is not None]
    aligned = request.routine is not None and request.recipe.align_weight > 0
    frozen = aligned and request.recipe.teacher == "frozen"
    pairs = TrainingPairs(
        images=pictures.features[[row[image] for image in _images(alignment)]],
        texts=backbone.tokenizer(texts),
        partners=backbone.tokenizer([*map(prompted, partners)]) if aligned else None,
        partner_features=frozen_partners(workspace, dataset, alignment, request.recipe)
        if frozen
        else None,
    )
    validation = None
    if held.images:
        validation = ValidationSet(
            images=pictures.features[[row[image] for image in held.images]],
            texts=backbone.tokenizer([*map(prompted, held.captions)]),
            owner=torch.tensor(held.owner),
            plain=backbone.tokenizer(held.captions) if spec.hard_prompt else None,
        )
    data = TrainingData(
        dataset=dataset.name,
        split=alignment.split,
        shots=request.shots,
        pairs=len(alignment.pairs),
        sha256=_data_sha256(alignment, content),
        validation_split=held.split,
        validation_pictures=len(held.images),
        pictures=tuple(
            dict.fromkeys([*map(picture_key, pictures.keys), *(start.pictures if start else ())])
        ),
        alignment_sha256=alignment.sha256,
        floor=request.floor,
        left_out=alignment.left_out.counts(),
    )

    key = _key(workspace, request, spec, data, held, alignment.translator, start)
    checkpoint = Checkpoint(folder / "training.safetensors", key)
    delta = InjectedDelta(
        backbone.text_tower, spec, backbone.family, request.seed, backbone.tokenizer
    )
    if start:
        delta.load(delta.tensors() | dict(start.tensors))
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
            started=start is not None,
        )
    finally:
        task.finish()
        delta.remove()
    seconds = time.perf_counter() - started
    manifest = _manifest(
        workspace, request, spec, name, data, alignment.translator, start, outcome, seconds
    )
    current = request.even_if_worse or outcome.beats_base(request.recipe)
    stored = workspace.directory.write_delta(manifest, outcome.tensors, make_current=current)
    if not current:
        progress.note(
            f"{request.language}: {name} does not beat the frozen base on the validation pictures "
            f"and is not made current; 'xclipt use {request.language} {name}' does that"
        )
    checkpoint.delete()
    return stored


def _could_start(workspace: Workspace, request: TrainingRequest, spec: DeltaSpec) -> bool:
    directory, backbone = workspace.directory, workspace.backbone.identity.id
    like = lora_like_start(directory, backbone, request.recipe.start, request.routine)
    return isinstance(spec, LoraSpec) and like != LoraSpec()


def _require_split(dataset: Dataset, request: TrainingRequest) -> None:
    # Without a split to train on, what is trained on is the user's choice to make.
    if request.split is None and dataset.splits and "train" not in dataset.splits:
        raise XcliptError(
            f"--dataset {dataset.name}: has no split 'train', name one with --split "
            f"({', '.join(dataset.splits)})"
        )


def _images(alignment: AlignmentSet) -> list[str]:
    return [pair.image for pair in alignment.pairs]


def _data_sha256(alignment: AlignmentSet, content: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for pair in alignment.pairs:
        digest.update(f"{content[pair.image]}\t{pair.text}\t{pair.partner or ''}\n".encode())
    return digest.hexdigest()


def _key(
    workspace: Workspace,
    request: TrainingRequest,
    spec: DeltaSpec,
    data: TrainingData,
    held: HeldOut,
    translator: Translator | None,
    start: Start | None,
) -> str:
    # Everything that the result depends on: a training is only taken up for the same of it all.
    plain = {
        "backbone": workspace.backbone.identity.fingerprint,
        "request": asdict(replace(request, even_if_worse=False)),
        "kind": spec.kind,
        "setting": asdict(spec),
        "data": asdict(data),
        "validation captions": held.captions,
        "translator": asdict(translator) if translator else None,
        "start": start.sha256 if start else None,
        "dtype": str(workspace.backbone.dtype),
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _manifest(
    workspace: Workspace,
    request: TrainingRequest,
    spec: DeltaSpec,
    name: str,
    data: TrainingData,
    translator: Translator | None,
    start: Start | None,
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
        kind=spec.kind,
        setting=asdict(spec),
        weights=WeightsFile("", "", 0, 0),  # filled in when the file is written
        backbone=dict(vars(workspace.backbone.identity)),
        backbone_parameters=workspace.backbone.text_parameters,
        routine=request.routine,
        text=request.alignment().text,
        recipe=asdict(request.recipe),
        seed=request.seed,
        data=data,
        steps=outcome.steps,
        seconds=round(seconds, 1),
        validation=validation,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        translator=asdict(translator) if translator else None,
        start={"name": start.name, "sha256": start.sha256} if start else None,
    )


def _versions() -> dict[str, str]:
    return {"xclipt": xclipt.__version__} | {
        package: version(package) for package in ("torch", "transformers", "opendelta")
    }
