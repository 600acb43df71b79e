"""A full text tower with the delta folded in, in the format that the backbone is published in."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.model_files import (
    TOKENIZER,
    TOKENIZER_BESIDE,
    read_json,
    read_weights,
    weights_file,
)
from xclipt.backbones.pixels import PIXEL_FILES
from xclipt.backbones.registry import text_folder
from xclipt.backbones.sentence_transformers import IDENTITY
from xclipt.deltas.kind import HEAD
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields, search_fields
from xclipt.export.exchange import ExportJob

_BESIDE = (*TOKENIZER, *TOKENIZER_BESIDE, *PIXEL_FILES)
_CARD = """\
# {name}: {backbone} in {language}

{origin}, folded into the
text tower of {backbone} (fingerprint `{fingerprint}`).
{prompt}{translated}
"""


def write_merged(job: ExportJob) -> list[Path]:
    """Write the checkpoint of the backbone with the weights that the delta changes in their place.

    Multilingual-CLIP's format for a backbone in it, transformers' for its dual encoders and
    open_clip's for its models (both sides), and sentence-transformers' for its own and the builtin
    one. Weights are safetensors in float32.

    Raises:
        XcliptError: The kind cannot be folded, a file of the backbone is missing, or the delta is
            damaged.
    """
    manifest, spec = job.manifest, job.spec
    if spec.not_foldable:
        raise job.refused("merged", spec.not_foldable, "onnx or native")
    backbone = job.backbone()
    source = text_folder(backbone.identity.id)
    layout = backbone.text_tower.published
    config = read_json(source / layout.config)
    path = weights_file(source, layout.weights)
    weights = layout.split(read_weights(path))

    def published(name: str) -> str:
        if layout.head_prefix is not None and name.startswith(HEAD):
            return layout.head_prefix + name.removeprefix(HEAD)
        names = [name, *(name.replace(new, old) for new, old in layout.older_names.items())]
        prefixed = [layout.encoder_prefix + name for name in names]
        return next((name for name in prefixed if name in weights), prefixed[0])

    def frozen(name: str) -> Tensor:
        try:
            return weights[published(name)]
        except KeyError:
            raise XcliptError(f"{path}: has no {published(name)}; not as published") from None

    changed = spec.folded(job.delta.tensors(), frozen)
    own_head = backbone.text_tower.head.state_dict()
    own_head |= {n.removeprefix(HEAD): t for n, t in changed.items() if n.startswith(HEAD)}
    for name, tensor in changed.items():
        if layout.head_prefix is not None or not name.startswith(HEAD):
            frozen(name)
            weights[published(name)] = tensor
    aside = job.folder
    save_file(
        {name: _full_precision(tensor) for name, tensor in layout.fuse(weights).items()},
        aside / layout.weights[0],
        metadata={"format": "pt"},
    )
    for name in _BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, aside / name)
    (aside / layout.config).write_text(json.dumps(_float32(config), indent=2), "utf-8")
    if layout.head_prefix is None:
        prefix = backbone.tokenizer.prefix + spec.prompted("")
        activation = getattr(backbone.text_tower.head, "activation_name", IDENTITY)
        write_modules(aside, own_head, prefix, backbone.tokenizer.max_length, activation)
        if not any("pooler." in name for name in weights):
            _without_pooler(aside, str(config.get("model_type")))
    fields = card_fields(job) | {"max_tokens": backbone.tokenizer.max_length}
    fields |= search_fields(manifest.backbone["id"])
    if layout.head_prefix is None:
        fields["prompt"] = ""  # sentence-transformers puts it there by itself
    card = (_CARD + layout.usage).format(**fields)
    (aside / "README.md").write_text(card, "utf-8")
    (aside / MANIFEST).write_text(manifest.to_yaml(), "utf-8")
    names = sorted(p.relative_to(aside) for p in aside.rglob("*") if p.is_file())
    return [aside / name for name in names]


def _full_precision(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _float32(config: dict[str, Any]) -> dict[str, Any]:
    return config | {key: "float32" for key in ("dtype", "torch_dtype") if key in config}


def _without_pooler(folder: Path, model_type: str) -> None:
    """Spare whoever loads a BERT the remark that it has no pooler: nothing reads one."""
    if model_type in ("bert", "roberta", "xlm-roberta"):
        path = folder / "sentence_bert_config.json"
        settings = json.loads(path.read_text("utf-8")) | {
            "model_args": {"add_pooling_layer": False}
        }
        path.write_text(json.dumps(settings, indent=2), "utf-8")


_POOLING, _DENSE = "1_Pooling", "2_Dense"
_MODULES = "sentence_transformers.models"


def write_modules(
    folder: Path,
    head: Mapping[str, Tensor],
    prompt: str,
    max_tokens: int,
    activation: str = IDENTITY,
) -> None:
    """Write what follows the encoder whose checkpoint is in ``folder``: masked mean and head.

    Args:
        head: Weight ``(dim, width)`` and bias ``(dim,)``, by names that end so.
        prompt: Put before every text unless the caller asks for another.
        max_tokens: Tokens kept of a text.
        activation: What comes after the head, by sentence-transformers' name.
    """
    dense = {f"linear.{name.rpartition('.')[2]}": tensor.cpu() for name, tensor in head.items()}
    dim, width = dense["linear.weight"].shape
    described = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"{_MODULES}.{kind}"}
            for i, (path, kind) in enumerate(
                [("", "Transformer"), (_POOLING, "Pooling"), (_DENSE, "Dense")]
            )
        ],
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"caption": prompt},
            "default_prompt_name": "caption",
            "similarity_fn_name": "cosine",
        },
        f"{_POOLING}/config.json": {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "include_prompt": True,
        },
        f"{_DENSE}/config.json": {
            "in_features": width,
            "out_features": dim,
            "bias": "linear.bias" in dense,
            "activation_function": activation,
        },
    }
    for name, plain in described.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(plain, indent=2), encoding="utf-8")
    save_file(dense, folder / _DENSE / "model.safetensors", metadata={"format": "pt"})
