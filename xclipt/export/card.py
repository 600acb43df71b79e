"""What the cards of all exports say of a delta."""

from xclipt.export.job import ExportJob
from xclipt.languages import name as language_name

_KINDS = {
    "lora": "A LoRA of the query and value projections",
    "adapter": "Bottleneck adapters after attention output and FFN",
    "compacter": "Compacters after attention output and FFN",
    "soft-prompt": "A soft prompt after `<s>`",
    "full-finetune": "A fine-tuned text tower",
}


def card_fields(job: ExportJob) -> dict[str, object]:
    """Values for the places of a card's text, by name."""
    manifest, spec = job.manifest, job.spec
    beside = " with every output LayerNorm" if spec.train_layernorm else ""
    if spec.tune_head and manifest.kind != "full-finetune":
        beside += " and a text head of its own"
    return {
        "name": manifest.name,
        "code": manifest.language,
        "language": language_name(manifest.language),
        "backbone": manifest.backbone["id"],
        "fingerprint": manifest.backbone["fingerprint"],
        "what": f"{_KINDS[manifest.kind]}{beside}",
        "version": manifest.versions["xclipt"],
        "pairs": f"{manifest.data.pairs:,}",
        "dataset": manifest.data.dataset,
        "prompt": (f"\nPut `{spec.hard_prompt} ` before every caption." if spec.hard_prompt else "")
        + (
            "\nCaptions are translated to English first: the delta was trained on translations."
            if manifest.text == "to-en"
            else ""
        ),
    }
