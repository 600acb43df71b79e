"""Hugging Face PEFT's format, for a plain transformers model of the same text tower."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.model_files import read_json, read_weights
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.lora import LoraSpec, updated_modules
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields, encoder_fields
from xclipt.export.exchange import ExportJob, ReadDelta, own_manifest, require, within_encoder
from xclipt.export.leading_prompt import leading_prompt, without_start
from xclipt.files import write_bytes

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."

_CARD = """\
# {name}: a {language} delta for {backbone}

{origin}.

{code_block}

Run it beside this folder, with `pip install peft`. {checked}: the features are the same.

The encoder is that of the text tower of `{backbone}`: {place}.
The backbone's fingerprint was `{fingerprint}`. What PEFT's encoder
returns is pooled, and the backbone's own text head, which the delta leaves as it is, takes it to
the space that it shares with the image tower.{notes}{prompt}{translated}
"""

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    **dict.fromkeys(("fan_in_fan_out", "lora_bias", "use_dora", "use_qalora"), (False, None)),
    **dict.fromkeys(
        (
            *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "kasa_config"),
            *("layer_replication", "monteclora_config", "rank_pattern", "target_parameters"),
            *("trainable_token_indices", "use_bdlora", "velora_config"),
        ),
        (None,),
    ),
}
"""Fields that change the features or add tensors, and the values at which they do not."""

_READ = frozenset({"init_lora_weights", "lora_alpha", "r", "use_rslora"})
_HARMLESS = frozenset(
    {
        # what it was made for and with
        *("auto_mapping", "base_model_name_or_path", "peft_version", "revision", "task_type"),
        # where it goes, which the names of the tensors say
        *("ensure_weight_tying", "exclude_modules", "layers_pattern", "layers_to_transform"),
        *("modules_to_save", "target_modules"),
        # how it is initialised or trained; init_lora_weights tells what that does to the base
        *("corda_config", "eva_config", "inference_mode", "loftq_config", "lora_dropout"),
        "lora_ga_config",
        # of use to other fields or other layers alone
        *("megatron_config", "megatron_core", "qalora_group_size", "runtime_config"),
    }
)

_FAITHFUL = frozenset({"true", "false", "none", "eva", "gaussian", "mica", "orthogonal"})
"""Values of ``init_lora_weights``, in lower case, that leave the base weights as they are."""
_CONVERTIBLE = ("corda", "lora_ga", "olora", "pissa")

_REFUSED = {
    "adapter": "PEFT has no bottleneck adapters",
    "compacter": "PEFT has no compacters",
    "bitfit": "PEFT has no BitFit",
    "full-finetune": "a whole text tower is no adapter",
}


def write_peft(job: ExportJob) -> list[Path]:
    """Write ``adapter_config.json``, ``adapter_model.safetensors``, a card and the manifest.

    LoRA's ``A``, ``B`` and scale are PEFT's; trained LayerNorms become ``modules_to_save``. A soft
    prompt becomes PEFT's prompt tuning, whose first vector is that of ``<s>``.

    Raises:
        XcliptError: The delta's kind cannot be expressed in PEFT, or is damaged.
    """
    spec = job.spec
    if not isinstance(spec, LoraSpec | SoftPromptSpec):
        raise job.refused(
            "peft", _REFUSED.get(spec.kind, f"PEFT has no place for a {spec.kind} delta")
        )
    if spec.tune_head:
        raise job.refused(
            "peft", f"PEFT wraps the encoder, and {job.manifest.name} has a text head of its own"
        )
    if isinstance(spec, LoraSpec):
        config, tensors = _lora(job, spec)
    else:
        config, tensors = _prompt_tuning(job, spec)
    wrap = 'encoder = PeftModel.from_pretrained(encoder, "{name}").eval()'
    made = encoder_fields(job, "from peft import PeftModel", wrap)
    checked = job.outline.published.checked
    card = _CARD.format(checked=checked, **(card_fields(job) | made))
    files = {
        _WEIGHTS: save(tensors, metadata={"format": "pt"}),
        CONFIG: json.dumps(config, indent=2).encode(),
        "README.md": card.encode(),
        MANIFEST: job.manifest.to_yaml().encode(),
    }
    for name, data in files.items():
        write_bytes(job.folder / name, data)
    return [job.folder / name for name in files]


def _lora(job: ExportJob, spec: LoraSpec) -> tuple[dict[str, object], dict[str, Tensor]]:
    tensors = job.delta.tensors()
    modules = {name.rsplit(".", 1)[0] for name in tensors}
    targets = sorted(m.removesuffix(".lora") for m in modules if m.endswith(".lora"))
    norms = sorted(m for m in modules if not m.endswith(".lora"))
    config: dict[str, object] = {
        "peft_type": "LORA",
        # With a task PEFT passes inputs_embeds on, which CLIP's text tower does not take.
        "task_type": "FEATURE_EXTRACTION" if job.outline.takes_embeddings else None,
        "base_model_name_or_path": job.manifest.backbone["id"],
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "modules_to_save": norms or None,
        "inference_mode": True,
    }
    return config, {_peft_name(name): tensor for name, tensor in tensors.items()}


def _prompt_tuning(
    job: ExportJob, spec: SoftPromptSpec
) -> tuple[dict[str, object], dict[str, Tensor]]:
    if spec.train_layernorm:
        raise job.refused("peft", "PEFT's prompt tuning trains no LayerNorm beside the prompt")
    vectors = leading_prompt(job, "peft")
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": job.manifest.backbone["id"],
        "num_virtual_tokens": len(vectors),
        "token_dim": vectors.shape[1],
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    return config, {"prompt_embeddings": vectors}


def _peft_name(name: str) -> str:
    module, _, parameter = name.rpartition(".")
    if module.endswith(".lora"):
        return f"{_PREFIX}{module.removesuffix('.lora')}.{parameter}.weight"
    return _PREFIX + name


def read_peft(folder: Path, tower: TextTower) -> ReadDelta:
    """A LoRA from a folder that PEFT or xclipt wrote, or a soft prompt that xclipt wrote.

    Raises:
        XcliptError: It is of another kind, asks for what xclipt's LoRA does not do, or is damaged.
    """
    path = folder / CONFIG
    config = read_json(path)
    manifest = own_manifest(folder)
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise XcliptError(f"{weights}: not there; save it again with safe_serialization=True")
    tensors = read_weights(weights)
    if config.get("peft_type") == "PROMPT_TUNING":
        if manifest is None:
            raise XcliptError(
                f"{path}: PEFT's prompts stand before <s>, xclipt's after it; only a prompt that "
                "xclipt exported can be imported"
            )
        if tensors.keys() != {"prompt_embeddings"}:
            raise XcliptError(f"{weights}: holds more or other than prompt_embeddings")
        prompt = without_start(weights, tensors["prompt_embeddings"], tower)
        (vectors,) = prompt.values()
        return ReadDelta("peft", manifest, "soft-prompt", {"tokens": len(vectors)}, prompt)
    _require_plain_lora(path, config)
    named = within_encoder(
        {_own_name(name, weights): tensor for name, tensor in tensors.items()}, tower
    )
    setting: dict[str, Any] = {
        **_scale(path, config),
        "train_layernorm": any(".lora." not in name for name in named),
    }
    if manifest is None:  # else the names of its tensors are checked against it
        setting |= {"modules": updated_modules(named, tower)}
    return ReadDelta("peft", manifest, "lora", setting, named)


def _require_plain_lora(path: Path, config: Mapping[str, Any]) -> None:
    require(path, {key: value or None for key, value in config.items()}, _NEUTRAL)
    start = str(config.get("init_lora_weights"))
    if start.lower() not in _FAITHFUL:
        effect, remedy = "may change", "train it again with init_lora_weights=True"
        if start.lower().startswith(_CONVERTIBLE):
            effect = "changes"
            remedy = "save it again with PEFT's path_initial_model_for_weight_conversion"
        raise XcliptError(
            f"{path}: init_lora_weights is {start!r}, which {effect} the base weights; {remedy}"
        )
    for key, value in config.items():
        if value and key not in {*_NEUTRAL, *_READ, *_HARMLESS}:
            raise XcliptError(
                f"{path}: {key} is {value!r}; this xclipt does not know it, and it may change the "
                "features; delete it there if it does not"
            )


def _scale(path: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """Rank and alpha; ``alpha / sqrt(r)`` of a rank-stabilised LoRA becomes ``alpha / r``."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    said = f"lora_alpha is {alpha!r}"
    if config.get("use_rslora") and isinstance(rank, int) and isinstance(alpha, int | float):
        alpha = round(alpha * math.sqrt(max(rank, 0)), 9)
        said += f" with use_rslora, {alpha:g} without"
    for text, value in ((f"r is {rank!r}", rank), (said, alpha)):
        if not isinstance(value, int | float) or value % 1:
            raise XcliptError(f"{path}: {text}; xclipt takes a whole number")
    return {"rank": int(rank or 0), "alpha": int(alpha or 0)}


def _own_name(name: str, path: Path) -> str:
    if not name.startswith(_PREFIX):
        raise XcliptError(f"{path}: '{name}' is no name that PEFT gives; save it again with PEFT")
    inner = name.removeprefix(_PREFIX)
    module, _, factor = inner.removesuffix(".weight").rpartition(".")
    return f"{module}.lora.{factor}" if factor in ("lora_A", "lora_B") else inner
