"""Hugging Face PEFT's format, for a plain transformers model of the same text tower."""

import json
from pathlib import Path

from safetensors.torch import save

from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.atomic import write_bytes
from xclipt.artifacts.directory import StoredDelta
from xclipt.deltas.spec import LoraSpec, spec_from
from xclipt.errors import XcliptError

_CARD = """\
# {name}: a {language} delta for {backbone}

A LoRA of the query and value projections{norms}, trained with xclipt {version} on
{pairs} captioned pictures of `{dataset}`.

```python
from peft import PeftModel
from transformers import AutoModel

encoder = AutoModel.from_pretrained(TEXT_TOWER, add_pooling_layer=False)
encoder = PeftModel.from_pretrained(encoder, "{name}")
```

`TEXT_TOWER` is the backbone's text encoder as a transformers checkpoint; the backbone's
fingerprint was `{fingerprint}`. Pool its last hidden states by masked mean and apply the
backbone's text head to reach the space that it shares with the image tower.{text}{prompt}
"""

_TRANSLATE = """
It was trained on captions translated into English (engine {engine}, model {model}): translate every
text into English first, by the same translator."""

_REFUSED = {
    "adapter": "PEFT has no bottleneck adapters",
    "compacter": "PEFT has no compacters",
    "soft-prompt": "PEFT puts prompt vectors before <s>, this one stands after it",
    "full-finetune": "a whole text tower is no adapter",
}


def write_peft(delta: StoredDelta, folder: Path) -> list[Path]:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and a card.

    LoRA's ``A``, ``B`` and scale are PEFT's; trained LayerNorms become ``modules_to_save``.

    Raises:
        XcliptError: The delta's kind cannot be expressed in PEFT, or is damaged.
    """
    manifest = delta.manifest
    spec = spec_from(manifest.kind, manifest.setting)
    if not isinstance(spec, LoraSpec):
        raise XcliptError(
            f"--format peft: {_REFUSED[manifest.kind]}; export {manifest.name} as native"
        )
    if spec.tune_head:
        raise XcliptError(
            f"--format peft: PEFT wraps the encoder, and {manifest.name} has a text head of its "
            "own; export it as native"
        )
    tensors = delta.tensors()
    owners = {name.rsplit(".", 1)[0] for name in tensors}
    targets = sorted(owner.removesuffix(".lora") for owner in owners if owner.endswith(".lora"))
    norms = sorted(owner for owner in owners if not owner.endswith(".lora"))
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": manifest.backbone["id"],
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "modules_to_save": norms or None,
        "inference_mode": True,
    }
    renamed = {_peft_name(name): tensor for name, tensor in tensors.items()}
    files = {
        "adapter_model.safetensors": save(renamed, metadata={"format": "pt"}),
        "adapter_config.json": json.dumps(config, indent=2).encode(),
        "README.md": _card(delta, bool(norms), spec.hard_prompt).encode(),
    }
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def _peft_name(name: str) -> str:
    module, _, parameter = name.rpartition(".")
    if module.endswith(".lora"):
        return f"base_model.model.{module.removesuffix('.lora')}.{parameter}.weight"
    return f"base_model.model.{name}"


def _card(delta: StoredDelta, norms: bool, hard_prompt: str) -> str:
    manifest = delta.manifest
    return _CARD.format(
        name=manifest.name,
        language=manifest.language,
        backbone=manifest.backbone["id"],
        norms=" with every output LayerNorm" if norms else "",
        version=manifest.versions["xclipt"],
        pairs=manifest.data.pairs,
        dataset=manifest.data.dataset,
        fingerprint=manifest.backbone["fingerprint"],
        text=_TRANSLATE.format(**manifest.translator or {"engine": "any", "model": "any"})
        if manifest.text == TO_EN
        else "",
        prompt=f"\nPut `{hard_prompt} ` before every caption." if hard_prompt else "",
    )
