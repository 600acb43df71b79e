"""What the cards of all exports say of a delta."""

from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.builtin import PREFIX
from xclipt.backbones.text_tower import Pooling, TextTower
from xclipt.deltas.full_finetune import FullSpec
from xclipt.export.exchange import ExportJob
from xclipt.languages import names as language_names

_TRANSLATED = """
Captions are translated into English first: the delta was trained on translations by {engine}
({model}); use the same translator."""


def encoder_fields(tower: TextTower) -> dict[str, str]:
    """How a user makes the tower's encoder and pools what it returns, for a card's places."""
    pooling = {
        Pooling.OWN: "Take its `pooler_output`",
        Pooling.FIRST: "Take the first of its last hidden states",
        Pooling.MEAN: "Pool its last hidden states by masked mean",
    }[tower.pooling]
    published = tower.published
    space = "the space that it shares with the image tower."
    head = f" and apply the\nbackbone's text head to reach {space}"
    if published.head_within:
        head = f"; it is the\nfeature in {space}"
    return {
        "imports": published.imports or f"from transformers import {published.encoder_class}",
        "place": published.place,
        "encoder": published.load_encoder,
        "pooling": pooling + head + published.input_notes,
        "checked": published.checked,
    }


def card_fields(job: ExportJob) -> dict[str, object]:
    """Values for the places of a card's text, by name."""
    manifest, spec = job.manifest, job.spec
    translator = manifest.translator or {"engine": "any", "model": "any"}
    prefix = (PREFIX if manifest.backbone["id"] == BUILTIN else "") + spec.prompted("")
    beside = " with every output LayerNorm" if spec.train_layernorm else ""
    if spec.tune_head and not isinstance(spec, FullSpec):
        beside += " and a text head of its own"
    return {
        "name": manifest.name,
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
