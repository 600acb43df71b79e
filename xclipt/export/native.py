"""xclipt's own format: manifest and weights, with a card for a model hub or without one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.registry import hub_id
from xclipt.backbones.text_tower import TextTower
from xclipt.data.registry import KNOWN
from xclipt.export.card import card_fields
from xclipt.export.exchange import ExportJob, ReadDelta
from xclipt.files import write_bytes, write_text


def write_native(job: ExportJob) -> list[Path]:
    """Write the checked weights and the manifest into the folder.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    return write_delta_files(job, job.manifest)


def write_delta_files(job: ExportJob, manifest: DeltaManifest) -> list[Path]:
    """Write the checked weights and ``manifest``.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    weights, described = job.folder / manifest.weights.file, job.folder / MANIFEST
    write_bytes(weights, manifest.packed(job.delta.tensors())[1])
    write_text(described, manifest.to_yaml())
    return [weights, described]


def read_native(folder: Path, tower: TextTower) -> ReadDelta:
    """A delta from a folder of ``write_native`` or ``write_hub``.

    Raises:
        XcliptError: A file is missing, damaged, or not what the manifest says.
    """
    manifest = DeltaManifest.read(folder / MANIFEST)
    tensors = StoredDelta(manifest, folder, current=False).tensors()
    return ReadDelta("native", manifest, manifest.kind, manifest.setting, tensors)


_CARD = """\
---
{front}
---

# {name}: {language} for {backbone}

{what}: {parameters:,} parameters, {percent:.3g} % of the text tower.
It teaches the frozen image-text model `{backbone}` captions in {language}. Pictures are encoded as
before, and so is every other language.

## Use

```console
{command}
$ xclipt search "..." --lang {code} --images photos --artifacts my-artifacts
```

from the folder that this one lies in, or from Python:

```python
from pathlib import Path

import xclipt

model = xclipt.load("my-artifacts")
texts = model.encode_text(["..."], language="{code}")
pictures = model.encode_image([*Path("photos").glob("*.jpg")])
print(texts @ pictures.T)  # cosines: a row for each text, a column for each picture
```

It fits one backbone and no other: the one with the fingerprint
`{fingerprint}`.
xclipt checks that, and the hash of the weights.{translated}

## How it was made

Trained with xclipt {version} on {data}{split}, {steps:,} steps
in {seconds:.0f} s, seed {seed}. {routine}{kept} The method is that of
[Zhang, Wang & Wang 2023](https://arxiv.org/abs/2305.03510).

| setting | value |
|---|---|
{recipe}

The full record is in `manifest.yaml`.

## What it measured

{measured}

## Licence

{licence}
"""

_IMPORT = "$ xclipt import-delta {name} --artifacts my-artifacts"
_IMPORT_ON = "$ xclipt import-delta {name} --artifacts my-artifacts --backbone {backbone}"
_KEPT = (
    " No step was better on the validation pictures than the start `{name}`: this delta is that "
    "start, unchanged."
)
_ROUTINES = {
    1: "Captions in {language} were aligned with the human English captions of the same pictures.",
    2: "Captions in {language} were aligned with machine translations of the English captions.",
    3: "English translations of the captions were aligned with the human English captions; texts "
    "are translated to English at inference too.",
    None: "Captions were trained against the pictures alone, without alignment.",
}


def write_hub(job: ExportJob) -> list[Path]:
    """Write weights, manifest and a card with front matter.

    The manifest names the backbone by its folder's name where it is a folder: whoever downloads it
    need not know where that lay.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    manifest = job.manifest
    named = {key: manifest.backbone.get(key) for key in ("id", "image_tower")}
    shown = {key: _without_place(name) for key, name in named.items() if name}
    public = replace(manifest, backbone=manifest.backbone | shown)
    written = write_delta_files(job, public)
    card = job.folder / "README.md"
    write_text(card, _card(job, shown["id"]))
    return [*written, card]


def _without_place(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _card(job: ExportJob, shown: str) -> str:
    manifest, data = job.manifest, job.manifest.data
    fields = card_fields(job)
    recipe = {"delta": manifest.kind} | manifest.setting | manifest.recipe
    return _CARD.format(
        **fields | {"backbone": shown, "code": manifest.taught[0]},
        command=(_IMPORT if shown == BUILTIN else _IMPORT_ON).format(
            name=fields["name"], backbone=shown
        ),
        front=_front_matter(job),
        parameters=manifest.weights.parameters,
        percent=manifest.percent,
        split=f" ({data.split})" if data.split else "",
        steps=manifest.steps,
        seconds=manifest.seconds,
        seed=manifest.seed,
        routine=_ROUTINES[manifest.routine].format(**fields),
        kept=_KEPT.format(**manifest.start) if manifest.kept_start and manifest.start else "",
        recipe="\n".join(f"| {key} | {_cell(value)} |" for key, value in recipe.items()),
        measured=_measured(manifest.validation, data.validated_on),
        licence=_licence(data.dataset),
    )


def _front_matter(job: ExportJob) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    manifest = job.manifest
    validation, dataset = manifest.validation, manifest.data.dataset
    held_out = manifest.data.validated_on.replace("`", "")
    pictures = bool(manifest.data.validation_pictures)
    results = [
        EvalResult(
            task_type="image-text-retrieval" if pictures else "translation",
            task_name="Image-text retrieval" if pictures else "Bitext mining",
            dataset_type=dataset,
            dataset_name=f"{dataset} ({', '.join(manifest.taught)})",
            dataset_split=manifest.data.validation_split,
            metric_type="recall",
            metric_name=f"{label} (both directions), {held_out}",
            metric_value=validation[key],
        )
        for key, label in (("mean_R@1", "mean R@1"), ("base_mean_R@1", "mean R@1 without delta"))
        if key in validation
    ]
    front = ModelCardData(
        language=[*manifest.taught] if manifest.languages else manifest.language,
        license="other",
        license_name="see-card",
        license_link="README.md",
        library_name="xclipt",
        pipeline_tag="zero-shot-image-classification",
        base_model=hub_id(manifest.backbone["id"]),
        datasets=[dataset] if manifest.data.pairs else None,
        tags=[
            *("xclipt", "clip", "multilingual", "image-text-retrieval", "cross-lingual-transfer"),
            manifest.kind,
        ],
        model_name=manifest.name if results else None,
        eval_results=results or None,
    )
    return str(front.to_yaml())


def _measured(validation: Mapping[str, Any], held_out: str) -> str:
    if "mean_R@1" not in validation:
        return "Nothing: it was trained without validation pictures. Run `xclipt eval`."
    return (
        f"Mean R@1 of both directions on the {held_out}, by which its best step was chosen: "
        f"{validation['mean_R@1']:.1f} %, without the delta {validation['base_mean_R@1']:.1f} %. "
        "It leans to the high side; `xclipt eval` measures on pictures that it has not seen."
    )


def _licence(dataset: str) -> str:
    known = {card.name: card.licence for card in KNOWN}
    if dataset in known:
        return (
            f"The training data is `{dataset}`: {known[dataset]}. Choose a licence that they and "
            "the backbone's allow, and put it into `license` above."
        )
    return (
        f"The licence of `{dataset}` is not known to xclipt. Choose one that it and the backbone's "
        "allow, and put it into `license` above."
    )


def _cell(value: object) -> str:
    return "-" if value is None else str(value).replace("|", "\\|") or "-"
