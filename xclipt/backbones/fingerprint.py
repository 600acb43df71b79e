"""A backbone's fingerprint: what makes two backbones interchangeable for a delta, or not."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.documents import read_json
from xclipt.files import write_text

_PART = 1 << 24


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
    """A transformers tokenizer as JSON, without what calls of it have left behind.

    A fast one is its own definition; another's is its class, its special tokens and the content of
    its vocabulary's file.
    """
    if not tokenizer.is_fast:
        vocabulary = hashlib.sha256(Path(tokenizer.vocab_file).read_bytes()).hexdigest()
        described = {
            "class": type(tokenizer).__name__,
            "vocabulary": vocabulary,
            "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            "added": {str(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()},
            "lower": getattr(tokenizer, "do_lower_case", None),
        }
        return json.dumps(described, sort_keys=True)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    definition: str = backend.to_str()
    return definition


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, looked at a part at a time.

    ``isfinite`` of a matrix of embeddings would need as much memory again as the matrix has.
    """
    flat = tensor.detach().reshape(-1)
    parts = (flat[start : start + _PART] for start in range(0, len(flat), _PART))
    return all(part.isfinite().all() for part in parts)


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
        known = read_json(memory)
        if known["stamps"] == stamps:
            return str(known["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    value = measure()
    write_text(memory, json.dumps({"stamps": stamps, "fingerprint": value}))
    return value
