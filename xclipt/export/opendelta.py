"""The format of OpenDelta's ``save_finetuned``, for its ``AutoDeltaModel.from_finetuned``.

Its weights are a pickle by definition, so the file is written with ``torch.save`` of nothing but
tensors, and read with ``weights_only``.
"""

import io
import json
from pathlib import Path
from typing import Any

import torch

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.model_files import read_json, read_weights
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import LoraSpec, updated_modules
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields, encoder_fields
from xclipt.export.exchange import ExportJob, ReadDelta, own_manifest, require, within_encoder
from xclipt.export.leading_prompt import leading_prompt, without_start

CONFIG = "config.json"
WEIGHTS = "pytorch_model.bin"
_PROMPT = "soft_prompt_layer.soft_embeds"
_COMPACTER = {
    "hypercomplex_division": 4,
    "phm_rank": 1,
    "learn_phm": True,
    "factorized_phm": True,
    "factorized_phm_rule": False,
    "shared_phm_rule": False,
    "shared_W_phm": False,
    "use_bias_up_sampler": True,
    "use_bias_down_sampler": True,
    "kronecker_prod": None,
}

_CARD = """\
# {name}: a {language} delta for {backbone}

{origin}.

{code_block}

Run it beside this folder. OpenDelta 0.3.2 does not import on transformers 5 by itself; xclipt's
`import_opendelta` mends that. `pytorch_model.bin` is a pickle because the format is; it holds
tensors alone and loads with `torch.load(..., weights_only=True)`.

The encoder is that of the text tower of `{backbone}`: {place}.
The backbone's fingerprint was `{fingerprint}`. What it returns is
pooled, and the backbone's own text head takes it to the space that it shares with the image
tower.{notes}{prompt}{translated}
"""


def write_opendelta(job: ExportJob) -> list[Path]:
    """Write ``config.json``, ``pytorch_model.bin``, a card and the manifest.

    Trained LayerNorms go along: OpenDelta loads whatever names of the encoder the file holds. A
    soft prompt becomes OpenDelta's own, whose first vector is that of ``<s>``.

    Raises:
        XcliptError: OpenDelta has no place for it, or the delta is damaged.
    """
    spec, manifest = job.spec, job.manifest
    config = _config(spec, job.outline)
    if config is None:
        instead = "native" if spec.not_foldable else "merged"
        raise job.refused("opendelta", f"OpenDelta has no place for a {spec.kind} delta", instead)
    if spec.tune_head:
        raise job.refused(
            "opendelta", f"OpenDelta wraps the encoder, and {manifest.name} has a text head"
        )
    tensors = job.delta.tensors()
    if isinstance(spec, SoftPromptSpec):
        vectors = leading_prompt(job, "opendelta")
        tensors = {n: t for n, t in tensors.items() if not n.endswith(".soft_prompt.vectors")}
        tensors[_PROMPT] = vectors
    wrap = 'import_opendelta().AutoDeltaModel.from_finetuned("{name}", backbone_model=encoder)'
    imports = "from xclipt.deltas.opendelta import import_opendelta"
    made = encoder_fields(job, imports, f"{wrap}\nencoder.eval()")
    card = _CARD.format(**(card_fields(job) | made))
    packed = io.BytesIO()  # what torch says of a disk that is full names neither
    torch.save(tensors, packed)
    (job.folder / WEIGHTS).write_bytes(packed.getbuffer())
    (job.folder / CONFIG).write_text(json.dumps(config, indent=2))
    (job.folder / "README.md").write_text(card, "utf-8")
    (job.folder / MANIFEST).write_text(manifest.to_yaml(), "utf-8")
    return [job.folder / name for name in (WEIGHTS, CONFIG, "README.md", MANIFEST)]


def _config(spec: DeltaSpec, tower: TextTower) -> dict[str, Any] | None:
    """OpenDelta's configuration of a delta; ``None`` for a kind that it does not have."""
    after = [tower.module_names.attention_output, tower.module_names.ffn_output]
    own: dict[str, Any]
    if isinstance(spec, LoraSpec):
        own = {
            "delta_type": "lora",
            "lora_r": spec.rank,
            "lora_alpha": spec.alpha,
            "lora_dropout": 0.0,
            "modified_modules": [*spec.targets(tower)],
        }
    elif isinstance(spec, AdapterSpec):
        own = {
            "delta_type": "adapter",
            "bottleneck_dim": spec.bottleneck,
            "non_linearity": spec.non_linearity,
            "modified_modules": after,
        }
    elif isinstance(spec, CompacterSpec):
        own = {
            "delta_type": "compacter",
            "reduction_factor": spec.reduction,
            "non_linearity": spec.non_linearity,
            "modified_modules": after,
            **_COMPACTER,
        }
    elif isinstance(spec, SoftPromptSpec):
        own = {
            "delta_type": "soft_prompt",
            "soft_token_num": spec.positions + 1,
            "token_init": False,
        }
    else:
        return None
    return own | {"common_structure": False, "opendelta_version": "0.3.2"}


def read_opendelta(folder: Path, tower: TextTower) -> ReadDelta:
    """A delta from a folder that OpenDelta or xclipt wrote.

    Raises:
        XcliptError: It is of another kind or place, is damaged, or its pickle holds more than
            tensors.
    """
    path = folder / CONFIG
    config = read_json(path)
    manifest = own_manifest(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise XcliptError(f"{weights}: not there; copy the whole folder of save_finetuned")
    tensors = within_encoder(read_weights(weights), tower)
    kind, setting = _setting(path, config, manifest is not None)
    if _PROMPT in tensors:
        tensors |= without_start(weights, tensors.pop(_PROMPT), tower)
    added = (".lora.", ".adapter.", ".compactor.", ".soft_prompt.")
    norms = any(not any(part in name for part in added) for name in tensors)
    setting |= {"train_layernorm": norms}
    if kind == "lora" and manifest is None:  # else the names of its tensors are checked against it
        setting |= {"modules": updated_modules(tensors, tower)}
    return ReadDelta("opendelta", manifest, kind, setting, tensors)


def _setting(path: Path, config: dict[str, Any], ours: bool) -> tuple[str, dict[str, Any]]:
    kind = config.get("delta_type")
    if kind == "lora":
        setting = {"rank": config.get("lora_r"), "alpha": config.get("lora_alpha")}
    elif kind == "adapter":
        setting = {
            "bottleneck": config.get("bottleneck_dim"),
            "non_linearity": config.get("non_linearity"),
        }
    elif kind == "compacter":
        require(path, config, {key: (value,) for key, value in _COMPACTER.items()})
        setting = {
            "reduction": config.get("reduction_factor"),
            "non_linearity": config.get("non_linearity"),
        }
    elif kind == "soft_prompt" and ours:
        given = config.get("soft_token_num")
        setting = {"tokens": given - 1 if isinstance(given, int) else given}
    elif kind == "soft_prompt":
        raise XcliptError(
            f"{path}: OpenDelta's prompts stand before <s>, xclipt's after it; only a prompt that "
            "xclipt exported can be imported"
        )
    else:
        known = "lora, adapter, compacter and soft_prompt"
        raise XcliptError(f"{path}: delta_type is {kind!r}; xclipt takes OpenDelta's {known}")
    for key, value in setting.items():
        if key != "non_linearity" and not isinstance(value, int):
            raise XcliptError(f"{path}: {key} is {value!r}; xclipt takes a whole number")
    return str(kind).replace("_", "-"), setting
