"""What makes a transformers checkpoint a sentence-transformers folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

_POOLING, _DENSE = "1_Pooling", "2_Dense"
_MODULES = "sentence_transformers.models"


def write_modules(folder: Path, head: Mapping[str, Tensor], prompt: str, max_tokens: int) -> None:
    """Write what follows the encoder whose checkpoint is in ``folder``: masked mean and head.

    Args:
        head: Weight ``(dim, width)`` and bias ``(dim,)``, by names that end so.
        prompt: Put before every text unless the caller asks for another.
        max_tokens: Tokens kept of a text.
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
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, plain in described.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(plain, indent=2), encoding="utf-8")
    save_file(dense, folder / _DENSE / "model.safetensors", metadata={"format": "pt"})
