"""A backbone's fingerprint: what makes two backbones interchangeable for a delta, or not."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


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
