"""The builtin backbone's two heads, which bring its frozen towers into one joint space.

The towers never saw each other: the text tower is multilingual-e5-small, the image tower
EfficientNet-Lite0. Only the heads were trained, on English captions (``train_heads.py``). The text
head is affine, so whatever the text tower holds in common between languages reaches the joint
space undistorted, also for the languages that the heads never saw.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xclipt.errors import XcliptError
from xclipt.files import write_with

FORMAT = "xclipt-heads-1"
"""What the file's metadata must say under ``format``."""
_PICTURES = "pictures"
_KEY_BYTES = 8


@dataclass(frozen=True)
class HeadsConfig:
    """Sizes of both heads.

    Attributes:
        text_features: Width of the text tower's pooled output.
        image_features: Width of the image tower's pooled output.
        hidden: Width of the image head's hidden layer.
        dim: Width of the joint space.
    """

    text_features: int
    image_features: int
    hidden: int
    dim: int


class TextHead(nn.Module):
    """Masked mean of the last hidden states ``(batch, text_features)`` -> ``(batch, dim)``.

    One affine map, into which the centring and scaling of the training texts is folded. Neither
    input nor output is L2-normalised.
    """

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.project = nn.Linear(config.text_features, config.dim)

    def forward(self, pooled: Tensor) -> Tensor:
        projected: Tensor = self.project(pooled)
        return projected


class ImageHead(nn.Module):
    """Mean-pooled image features ``(batch, image_features)`` -> ``(batch, dim)``, not normalised.

    An affine map of the features' signed square roots, and an MLP of one hidden layer beside it.
    Where a channel fires at all it can be far above its mean; the root keeps such a channel from
    outvoting the others.
    """

    def __init__(self, config: HeadsConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = config.dim
        self.skip = nn.Linear(config.image_features, config.dim)
        self.expand = nn.Linear(config.image_features, config.hidden)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.from_roots(signed_sqrt(pooled))

    def from_roots(self, roots: Tensor) -> Tensor:
        """The same from the square roots: ``(batch, image_features)`` -> ``(batch, dim)``."""
        hidden = self.dropout(nn.functional.gelu(self.expand(roots)))
        projected: Tensor = self.skip(roots) + self.project(hidden)
        return projected


@dataclass(frozen=True)
class Heads:
    """Both heads, float32 and in evaluation mode.

    Attributes:
        pictures: :func:`~xclipt.files.picture_key` of each picture trained on.
    """

    text: TextHead
    image: ImageHead
    pictures: frozenset[str] = field(repr=False)


def signed_sqrt(values: Tensor) -> Tensor:
    """``sign(x) * sqrt(|x|)``, of any shape."""
    return values.sign() * values.abs().sqrt()


def save_heads(
    path: Path, config: HeadsConfig, text: TextHead, image: ImageHead, pictures: Iterable[str]
) -> None:
    """Write both heads as fp16 into one safetensors file; the metadata states ``config``.

    Args:
        pictures: :func:`~xclipt.files.picture_key` of each picture trained on.

    Raises:
        XcliptError: The file cannot be written.
    """
    tensors = {
        f"{side}.{name}": tensor.detach().to(torch.float16).contiguous()
        for side, head in (("text", text), ("image", image))
        for name, tensor in head.state_dict().items()
    }
    keys = bytearray.fromhex("".join(sorted(set(pictures))))
    tensors[_PICTURES] = torch.frombuffer(keys, dtype=torch.uint8).view(-1, _KEY_BYTES)
    metadata = {"format": FORMAT, "config": json.dumps(asdict(config))}
    write_with(path, lambda aside: save_file(tensors, aside, metadata=metadata))


def load_heads(path: Path) -> Heads:
    """Read what :func:`save_heads` wrote.

    Raises:
        XcliptError: The file is missing, damaged or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise XcliptError(f"{path}: cannot read the heads ({error}); reinstall xclipt") from error
    if metadata.get("format") != FORMAT:
        raise XcliptError(
            f"{path}: format {metadata.get('format')!r}, {FORMAT!r} expected; reinstall xclipt"
        )
    try:
        config = HeadsConfig(**json.loads(metadata["config"]))
        text, image = TextHead(config), ImageHead(config)
        text.load_state_dict(_side(tensors, "text."))
        image.load_state_dict(_side(tensors, "image."))
        pictures = frozenset(row.numpy().tobytes().hex() for row in tensors[_PICTURES])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise XcliptError(f"{path}: not complete heads ({error}); reinstall xclipt") from error
    return Heads(text.eval(), image.eval(), pictures)


def _side(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
