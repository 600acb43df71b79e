"""What the cards of all exports say of a delta."""

import json

from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.builtin import PREFIX
from xclipt.backbones.text_tower import Pooling
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.export.exchange import ExportJob
from xclipt.languages import names as language_names

_TRANSLATED = """
Captions are translated into English first: the delta was trained on translations by {engine}
({model}); use the same translator."""


_PICTURES = """\
pictures = xclipt.open_backbone({own}).encode_pictures([*Path("photos").glob("*.jpg")])"""
_COSINES = """\
texts, pictures = map(torch.nn.functional.normalize, (torch.as_tensor(features), pictures))
print(texts @ pictures.T)  # cosines: a row for each text, a column for each picture"""
_WRAPPED = """\
```python
from pathlib import Path

import torch
{imports}

import xclipt

backbone = xclipt.open_backbone({own}, device="cpu")  # tokenizer, text head and image tower
encoder = {encoder}
{wrap}

tokens = backbone.tokenizer(["{prompt}..."]{told})
input_ids, attention_mask = backbone.tokenizer.pad(tokens, "cpu"){leading}
with torch.inference_mode():
    {pooled}
    features = {features}
pictures = backbone.encode_pictures([*Path("photos").glob("*.jpg")])
{cosines}
```"""
_POOLED = {
    Pooling.OWN: "pooled = encoder({inputs}).pooler_output",
    Pooling.FIRST: "pooled = encoder({inputs}).last_hidden_state[:, 0]",
    Pooling.MEAN: "states = encoder({inputs}).last_hidden_state\n    "
    "counted = attention_mask.unsqueeze(-1)\n    "
    "pooled = (states * counted).sum(1) / counted.sum(1)",
}
_LEADING = """
# The vectors begin with the one of <s>.
input_ids, attention_mask = input_ids[:, 1:], attention_mask[:, 1:]"""
_COUNTED = """
    vectors = torch.tensor({counted}).expand(len(attention_mask), -1)
    attention_mask = torch.cat([vectors, attention_mask], 1)"""


def search_fields(backbone: str) -> dict[str, str]:
    """How a card's code goes on from ``features`` of texts: its ``pictures`` and ``cosines``.

    Args:
        backbone: Whose image tower it is: a name, or a folder.
    """
    return {"pictures": _PICTURES.format(own=json.dumps(backbone)), "cosines": _COSINES}


def encoder_fields(job: ExportJob, imports: str, wrap: str) -> dict[str, str]:
    """How a user makes the tower's encoder, wraps it, pools what it returns and applies the head.

    Args:
        job: The delta on its way out.
        imports: What the library is imported by.
        wrap: The line that puts the delta from the folder ``{name}`` into ``encoder``.
    """
    tower, spec, manifest = job.outline, job.spec, job.manifest
    published, own = tower.published, json.dumps(manifest.backbone["id"])
    needed = published.imports or f"from transformers import {published.encoder_class}"
    encoder = published.load_encoder.replace("TEXT_TOWER", f"xclipt.text_folder({own})")
    pooled = _POOLED[tower.pooling]
    leading, given = "", "attention_mask"
    if isinstance(spec, SoftPromptSpec):
        leading, given = _LEADING, "attention_mask.clone()"  # OpenDelta lengthens what it is given
        counted = [1, *[int(spec.pool_prompt)] * spec.positions]
        states, found, mean = pooled.partition("\n")
        if found:
            pooled = states + _COUNTED.format(counted=counted) + found + mean
    inputs = "input_ids=input_ids" + (f", attention_mask={given}" if tower.masked else "")
    code = _WRAPPED.format(
        imports="\n".join(sorted({imports, *needed.splitlines()} - {"import xclipt"})),
        own=own,
        encoder=encoder,
        wrap=wrap.format(name=job.name),
        prompt=spec.prompted(""),
        told=f", {json.dumps(manifest.taught[0])}" if _is_told(job) else "",
        leading=leading,
        pooled=pooled.format(inputs=inputs),
        features="pooled" if published.head_within else "backbone.text_tower.head(pooled)",
        cosines=_COSINES,
    )
    before = str(card_fields(job)["prompt"]).removesuffix(" before every caption.")
    return {
        "code_block": code,
        "place": published.place,
        "notes": published.input_notes,
        "prompt": before and f"{before} before every caption, as the code does.",
    }


def _is_told(job: ExportJob) -> bool:
    # Where the tower is told of languages, its card says so.
    return "language's" in job.outline.published.input_notes


def card_fields(job: ExportJob) -> dict[str, object]:
    """Values for the places of a card's text, by name."""
    manifest, spec = job.manifest, job.spec
    translator = manifest.translator or {"engine": "any", "model": "any"}
    prefix = (PREFIX if manifest.backbone["id"] == BUILTIN else "") + spec.prompted("")
    beside = " with every output LayerNorm" if spec.train_layernorm else ""
    if spec.tune_head and not isinstance(spec, FullSpec):
        beside += " and a text head of its own"
    return {
        "name": job.name,
        "code": manifest.language,
        "language": language_names(manifest.taught),
        "backbone": manifest.backbone["id"],
        "fingerprint": manifest.backbone["fingerprint"],
        "what": f"{spec.description}{beside}",
        "origin": f"{spec.description}{beside}{_origin(manifest)}",
        "version": manifest.versions["xclipt"],
        "data": manifest.data.what,
        "prompt": f"\nPut `{prefix}` before every caption." if prefix else "",
        "translated": _TRANSLATED.format(**translator) if manifest.text == TO_EN else "",
    }


def _origin(manifest: DeltaManifest) -> str:
    xclipt, data = f"xclipt {manifest.versions['xclipt']}", manifest.data
    if manifest.kept_start and manifest.start:
        start = f"`{manifest.start['name']}`"
        return f" ({xclipt}): the start {start}, unchanged, since {data.what} did not improve on it"
    return f", trained with {xclipt} on {data.what}"
