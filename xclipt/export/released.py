"""Checkpoints of the paper's released code: ``text_model_best.ckpt``, names and tensors alone.

They hold whatever was unfrozen, by the names of the whole text model, and say nothing of how they
were made: the kind and its sizes are read from names and shapes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xclipt.backbones.model_files import read_weights
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.kind import HEAD
from xclipt.deltas.lora import updated_modules
from xclipt.errors import XcliptError
from xclipt.export.exchange import ReadDelta
from xclipt.export.leading_prompt import vectors_name

SUFFIX = ".ckpt"
ALPHA = 16
"""OpenDelta's default, which the released code leaves."""

_PROMPT = "soft_prompt_layer.soft_embeds"


def read_released(path: Path, tower: TextTower, alpha: int | None) -> ReadDelta:
    """A delta from a checkpoint.

    Args:
        path: The file. Nothing but tensors is read from it.
        tower: The backbone's, possibly on the meta device.
        alpha: A LoRA's, which the file does not say; ``None`` is :data:`ALPHA`.

    Raises:
        XcliptError: It is damaged, holds more than tensors, or is of no M-CLIP.
    """
    tensors = _within(path, read_weights(path), tower)
    lora = _first(tensors, ".lora.lora_A")
    down = _first(tensors, ".adapter.modulelist.down_proj.bias")
    left, right = (_first(tensors, f".compactor.down_sampler.{w}") for w in ("W_left", "W_right"))
    setting: dict[str, Any] = {
        "train_layernorm": any(_is_norm(name, tower) for name in tensors),
        "tune_head": any(name.startswith(HEAD) for name in tensors),
    }
    if lora is not None:
        kind = "lora"
        modules = updated_modules(tensors, tower)
        setting |= {"rank": len(lora), "alpha": alpha or ALPHA, "modules": modules}
    elif down is not None:
        kind, setting = "adapter", setting | {"bottleneck": len(down)}
    elif left is not None and right is not None:
        # Width and bottleneck, each cut into as many parts.
        kind, setting = "compacter", setting | {"reduction": left.shape[1] // right.shape[-1]}
    elif _PROMPT in tensors:
        vectors = tensors[vectors_name(tower)] = tensors.pop(_PROMPT)
        kind, setting = "soft-prompt", setting | {"tokens": len(vectors)}
    else:
        kind, setting = "full-finetune", setting | {"train_layernorm": True}
    if alpha is not None and kind != "lora":
        raise XcliptError(f"{path} holds a delta of kind {kind}, which has none", field="alpha")
    return ReadDelta("released", None, kind, setting, tensors)


def _within(path: Path, saved: Mapping[str, Tensor], tower: TextTower) -> dict[str, Tensor]:
    encoder, head = tower.published.encoder_prefix, tower.published.head_prefix
    tensors = {}
    for name, tensor in saved.items():
        if name.startswith(encoder):
            tensors[name.removeprefix(encoder)] = tensor
        elif head is not None and name.startswith(head):
            tensors[HEAD + name.removeprefix(head)] = tensor
        else:
            raise XcliptError(
                f"{path}: '{name}' is no name in this backbone's checkpoints, which begin with "
                f"{encoder} or {head}; is it of another model?"
            )
    # The released code unfreezes a pooler that nothing reads.
    return {n: t.float() for n, t in tensors.items() if not n.startswith("pooler.")}


def _first(tensors: Mapping[str, Tensor], end: str) -> Tensor | None:
    return next((tensor for name, tensor in tensors.items() if name.endswith(end)), None)


def _is_norm(name: str, tower: TextTower) -> bool:
    return name.rpartition(".")[0].endswith(tower.module_names.layer_norms)
