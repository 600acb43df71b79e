"""What ``open_clip_config.json`` says, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xclipt.backbones.model_files import read_json, read_weights, weight_shapes, weights_file
from xclipt.backbones.text_tower import Similarity
from xclipt.errors import XcliptError

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

USAGE = """
```python
from pathlib import Path

import open_clip
import torch

import xclipt

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:{name}")
with torch.inference_mode():
    features = model.encode_text(open_clip.get_tokenizer("local-dir:{name}")(["..."]))
{pictures}
{cosines}
```

Run it beside this folder. It is the whole model; the image side is unchanged.
"""
"""How a checkpoint in the folder ``{name}`` is used, for a card."""


PLACE = "the backbone's folder, in open_clip's format"
CHECKED = "Checked with PEFT 0.21 on transformers 5.24 and open_clip 3.3"
"""The same of exports for other libraries."""


@dataclass(frozen=True)
class Description:
    """A model's folder, and its configuration.

    Attributes:
        folder: Where it is.
        model: ``model_cfg``.
        pixels: ``preprocess_cfg``.
    """

    folder: Path
    model: Mapping[str, Any]
    pixels: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Width of the joint space."""
        return int(self.model["embed_dim"])

    @property
    def text(self) -> Mapping[str, Any]:
        """``text_cfg``."""
        text: Mapping[str, Any] = self.model["text_cfg"]
        return text

    @property
    def encoder(self) -> str | None:
        """What the encoder of transformers is called; ``None`` for open_clip's own transformer."""
        return self.text.get("hf_model_name") or None

    @property
    def context_length(self) -> int:
        """Tokens that are kept of a text."""
        return int(self.text.get("context_length", 77))

    @property
    def tokenizer_settings(self) -> Mapping[str, Any]:
        """What open_clip's tokenizer is told beside its files."""
        settings: Mapping[str, Any] = self.text.get("tokenizer_kwargs") or {}
        return settings

    @property
    def cleaning(self) -> str:
        """What is done to texts first, by open_clip's name."""
        named = bool(self.text.get("hf_tokenizer_name"))
        return str(self.tokenizer_settings.get("clean", "whitespace" if named else "lower"))

    @property
    def input_notes(self) -> str:
        """The same, for a card."""
        return f'\nTexts are cleaned first: `open_clip.tokenizer.get_clean_fn("{self.cleaning}")`.'

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``, by what follows.

        Raises:
            XcliptError: The file is missing or damaged.
        """
        tensors = read_weights(weights_file(self.folder, WEIGHTS), prefix)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}

    def shapes(self, prefix: str) -> dict[str, tuple[int, ...]] | None:
        """As :meth:`weights`, their shapes alone, and little is read; ``None`` without a file.

        Raises:
            XcliptError: The file is damaged.
        """
        if not any((self.folder / name).is_file() for name in WEIGHTS):
            return None
        shapes = weight_shapes(weights_file(self.folder, WEIGHTS))
        return {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}

    @staticmethod
    def similarity(weights: Mapping[str, Tensor]) -> Similarity:
        """The scale and the bias among the weights of a whole checkpoint."""
        scale, bias = weights.get("logit_scale"), weights.get("logit_bias")
        return Similarity(
            Similarity.scale if scale is None else _rounded(scale.float().exp()),
            None if bias is None else _rounded(bias),
        )

    def fill(self, module: nn.Module, prefix: str, weights: Mapping[str, Tensor]) -> None:
        """Put weights into a module, in float32.

        Args:
            module: Gets them.
            prefix: What their names begin with in the file, for the message.
            weights: By the module's own names.

        Raises:
            XcliptError: Names or shapes are not the module's.
        """
        self.require_shapes(prefix, module.state_dict(), weights)
        module.load_state_dict({name: t.float() for name, t in weights.items()}, assign=True)

    def require_shapes(
        self, prefix: str, wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]
    ) -> None:
        """Refuse weights that are not, by name and shape, those that are wanted.

        Raises:
            XcliptError: Names the first.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
        there = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        different = sorted(n for n in expected | there if expected.get(n) != there.get(n))
        if different:
            first = different[0]
            raise XcliptError(
                f"{weights_file(self.folder, WEIGHTS)}: {len(different)} weights do not fit "
                f"{CONFIG}, first {prefix}{first}: {there.get(first, 'missing')}, expected "
                f"{expected.get(first, 'none')}"
            )

    def refused(self, why: str) -> XcliptError:
        """The error of a configuration that nothing is made of."""
        return XcliptError(f"{self.folder / CONFIG}: {why}")


def _rounded(number: Tensor) -> float:
    return float(f"{number.item():.4g}")  # 100 is stored as a rounded logarithm


def describe(folder: Path) -> Description:
    """Read ``open_clip_config.json``.

    Raises:
        XcliptError: It cannot be read, or is of a model that is not known.
    """
    config = read_json(folder / CONFIG, "; copy the model's folder again")
    model, parts = config.get("model_cfg"), ("embed_dim", "vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(part in model for part in parts):
        raise XcliptError(f"{folder / CONFIG}: has no model_cfg with {', '.join(parts)}")
    described = Description(folder, model, config.get("preprocess_cfg") or {})
    if "multimodal_cfg" in model or described.text.get("embed_cls"):
        raise described.refused("is a CoCa, whose text tower is not known; choose another model")
    return described
