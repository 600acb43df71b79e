"""What the cards of all exports say of a delta."""

from xclipt.alignment.routines import TO_EN
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.builtin import PREFIX
from xclipt.deltas.spec import ALL_LINEAR, QUERY_VALUE, LoraSpec
from xclipt.export.job import ExportJob
from xclipt.languages import name as language_name

_KINDS = {
    "lora": "A LoRA of {modules}",
    "adapter": "Bottleneck adapters after attention output and FFN",
    "compacter": "Compacters after attention output and FFN",
    "soft-prompt": "A soft prompt after `<s>`",
    "full-finetune": "A fine-tuned text tower",
}
_LORA_MODULES = {
    QUERY_VALUE: "the query and value projections",
    ALL_LINEAR: "every linear layer of every block",
}

_TRANSLATED = """
Captions are translated into English first: the delta was trained on translations by {engine}
({model}); use the same translator."""
_ENCODERS = {
    "bert": ("AutoModel", "AutoModel.from_pretrained(TEXT_TOWER, add_pooling_layer=False)"),
    "clip": ("CLIPTextModel", "CLIPTextModel.from_pretrained(TEXT_TOWER)"),
}
_POOLING = {
    "bert": "Pool its last hidden states by masked mean",
    "clip": "Take its `pooler_output`",
}


def encoder_fields(family: str) -> dict[str, str]:
    """How a user makes a family's encoder and pools what it returns, for a card's places."""
    kind, made = _ENCODERS[family]
    return {"encoder_class": kind, "encoder": made, "pooling": _POOLING[family]}


def card_fields(job: ExportJob) -> dict[str, object]:
    """Values for the places of a card's text, by name."""
    manifest, spec = job.manifest, job.spec
    translator = manifest.translator or {"engine": "any", "model": "any"}
    prefix = (PREFIX if manifest.backbone["id"] == BUILTIN else "") + spec.prompted("")
    kind = _KINDS[manifest.kind]
    if isinstance(spec, LoraSpec):
        kind = kind.format(modules=_LORA_MODULES[spec.modules])
    beside = " with every output LayerNorm" if spec.train_layernorm else ""
    if spec.tune_head and manifest.kind != "full-finetune":
        beside += " and a text head of its own"
    return {
        "name": manifest.name,
        "code": manifest.language,
        "language": language_name(manifest.language),
        "backbone": manifest.backbone["id"],
        "fingerprint": manifest.backbone["fingerprint"],
        "what": f"{kind}{beside}",
        "version": manifest.versions["xclipt"],
        "pairs": f"{manifest.data.pairs:,}",
        "dataset": manifest.data.dataset,
        "prompt": f"\nPut `{prefix}` before every caption." if prefix else "",
        "translated": _TRANSLATED.format(**translator) if manifest.text == TO_EN else "",
    }
