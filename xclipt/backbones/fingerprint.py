"""A backbone's fingerprint: what makes two backbones interchangeable for a delta, or not."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.files import write_text


def fingerprint(
    weights: Mapping[str, Tensor], tokenizer_json: str, preprocessing: Mapping[str, object]
) -> str:
    """SHA-256 (hexadecimal) over weights, tokenizer and preprocessing.

    Args:
        weights: Every tensor of both towers by name; order does not matter, dtype and shape do.
        tokenizer_json: The tokenizer's full definition.
        preprocessing: Whatever else decides what the towers are given, as plain values.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(tokenizer_json.encode())
    digest.update(json.dumps(preprocessing, sort_keys=True).encode())
    return digest.hexdigest()


def tokenizer_definition(tokenizer: Any) -> str:
    """A transformers fast tokenizer as JSON, without what calls of it have left behind."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    definition: str = backend.to_str()
    return definition


def tower_weights(text_tower: nn.Module, image_tower: nn.Module) -> dict[str, Tensor]:
    """Every tensor of both towers by name."""
    return {
        f"{side}.{name}": tensor
        for side, tower in (("text", text_tower), ("image", image_tower))
        for name, tensor in tower.state_dict(keep_vars=True).items()
    }


def remembered(memory: Path, files: Sequence[Path], measure: Callable[[], str]) -> str:
    """A fingerprint from the file ``memory``, or measured and kept there.

    Hashing gigabytes takes longer than loading them. What is remembered is bound to the ``files``
    it was computed from, by size and time of change.
    """
    stamps = [
        [str(path), status.st_size, status.st_mtime_ns]
        for path in files
        for status in [path.stat()]
    ]
    try:
        known = json.loads(memory.read_text())
        if known["stamps"] == stamps:
            return str(known["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = measure()
    write_text(memory, json.dumps({"stamps": stamps, "fingerprint": value}))
    return value
