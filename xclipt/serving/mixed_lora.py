"""Batches whose rows have LoRAs of their own: one pass of the tower for many languages.

Beside every shared product ``W x`` each row gets ``(alpha/r) B_i A_i x`` of its own language, and
every output LayerNorm scales and shifts it with that language's weights.
"""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xclipt.backbones.backbone import TOKENS_PER_BATCH, Backbone, length_batches
from xclipt.deltas.spec import LoraSpec
from xclipt.deltas.towers import FAMILIES
from xclipt.errors import XcliptError
from xclipt.serving.cache import LoadedDelta
from xclipt.serving.towers import sharing_copy


class _Rows:
    """The delta of every row of the batch that is in the tower."""

    def __init__(self) -> None:
        self.deltas: list[LoadedDelta] = []

    def stacked(self, name: str) -> Tensor:
        """``(batch, ...)``: one tensor of every row's delta."""
        return torch.stack([delta.tensors[name] for delta in self.deltas])


class _RowwiseLora(nn.Module):
    def __init__(self, linear: nn.Module, name: str, scale: float, rows: _Rows) -> None:
        super().__init__()
        self.linear = linear
        self._name = name
        self._scale = scale
        self._rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, length, in)`` -> ``(batch, length, out)``."""
        down = self._rows.stacked(f"{self._name}.lora.lora_A")
        up = self._rows.stacked(f"{self._name}.lora.lora_B")
        shared: Tensor = self.linear(x)
        return shared + (x @ down.mT @ up.mT) * self._scale


class _RowwiseLayerNorm(nn.Module):
    def __init__(self, norm: nn.LayerNorm, name: str, rows: _Rows) -> None:
        super().__init__()
        self._shape, self._eps = norm.normalized_shape, norm.eps
        self._name = name
        self._rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, length, width)`` -> the same."""
        weight = self._rows.stacked(f"{self._name}.weight").unsqueeze(1)
        bias = self._rows.stacked(f"{self._name}.bias").unsqueeze(1)
        return F.layer_norm(x, self._shape, eps=self._eps) * weight + bias


class MixedLoraTower:
    """A tower for rows of different LoRAs of one rank, alpha and LayerNorm setting. Thread-safe."""

    def __init__(self, backbone: Backbone, structure: LoraSpec) -> None:
        self._backbone = backbone
        self._rows = _Rows()
        self._tower = sharing_copy(backbone, structure)
        self._lock = threading.Lock()
        self._shapes: dict[str, torch.Size] = {}
        encoder, names = self._tower.encoder, FAMILIES[backbone.family]
        for name, module in list(encoder.named_modules()):
            new: nn.Module
            if name.endswith(names.lora_modules(structure.modules)):
                out, width = module.get_parameter("weight").shape
                self._shapes[f"{name}.lora.lora_A"] = torch.Size((structure.rank, width))
                self._shapes[f"{name}.lora.lora_B"] = torch.Size((out, structure.rank))
                new = _RowwiseLora(module, name, structure.alpha / structure.rank, self._rows)
            elif structure.train_layernorm and name.endswith(names.layer_norms):
                assert isinstance(module, nn.LayerNorm)
                for kind, parameter in module.named_parameters():
                    self._shapes[f"{name}.{kind}"] = parameter.shape
                new = _RowwiseLayerNorm(module, name, self._rows)
            else:
                continue
            parent, _, leaf = name.rpartition(".")
            setattr(encoder.get_submodule(parent), leaf, new)

    def encode(self, deltas: Sequence[LoadedDelta], rows: Sequence[list[int]]) -> Tensor:
        """Features ``(len(rows), dim)`` of token ids, each with its own delta, not normalised.

        Raises:
            XcliptError: A delta's tensors do not fit.
        """
        for delta in dict.fromkeys(deltas):
            if {name: tensor.shape for name, tensor in delta.tensors.items()} != self._shapes:
                raise XcliptError(
                    f"delta '{delta.name}' of '{delta.language}': its tensors do not fit this "
                    "tower; train it again"
                )
        backbone = self._backbone
        features = torch.empty(len(rows), backbone.dim)
        with self._lock, torch.inference_mode(), backbone.autocast():
            for batch in length_batches([len(row) for row in rows], TOKENS_PER_BATCH):
                ids, mask = backbone.tokenizer.pad([rows[i] for i in batch], backbone.device)
                self._rows.deltas = [deltas[i] for i in batch]
                features[batch] = self._tower(ids, mask).float().cpu()
            self._rows.deltas = []
        return features
