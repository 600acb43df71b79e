"""Batches whose rows have LoRAs of their own: one pass of the tower for many languages.

Beside every shared product ``W x`` each row gets ``(alpha/r) B_i A_i x`` of its own language, and
every output LayerNorm scales and shifts it with that language's weights.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xclipt.backbones.backbone import Backbone
from xclipt.deltas.adapted import sharing_copy
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import LoraSpec, ends_in

Tensors = Mapping[str, Tensor]
"""A delta's tensors by name, on the backbone's device."""


def can_mix(spec: DeltaSpec) -> bool:
    """Whether rows with different deltas of this architecture can share a batch."""
    return isinstance(spec, LoraSpec) and not spec.tune_head


class _Rows(threading.local):
    """The delta of every row of the batch that the thread has in the tower."""

    def __init__(self) -> None:
        self.deltas: list[Tensors] = []

    def stacked(self, name: str) -> Tensor:
        """``(batch, ...)``: one tensor of every row's delta."""
        return torch.stack([delta[name] for delta in self.deltas])


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
    """A tower for rows of different LoRAs of one architecture. Thread-safe."""

    def __init__(self, backbone: Backbone, architecture: LoraSpec) -> None:
        tower = sharing_copy(backbone.text_tower, architecture)
        self._backbone = replace(backbone, text_tower=tower)
        self._rows = _Rows()
        self._shapes: dict[str, torch.Size] = {}
        targets = architecture.targets(tower)
        for name, module in list(tower.encoder.named_modules()):
            new: nn.Module
            if ends_in(name, targets):
                out, width = module.get_parameter("weight").shape
                self._shapes[f"{name}.lora.lora_A"] = torch.Size((architecture.rank, width))
                self._shapes[f"{name}.lora.lora_B"] = torch.Size((out, architecture.rank))
                new = _RowwiseLora(module, name, architecture.scale, self._rows)
            elif architecture.train_layernorm and name.endswith(tower.module_names.layer_norms):
                assert isinstance(module, nn.LayerNorm)
                for kind, parameter in module.named_parameters():
                    self._shapes[f"{name}.{kind}"] = parameter.shape
                new = _RowwiseLayerNorm(module, name, self._rows)
            else:
                continue
            parent, _, leaf = name.rpartition(".")
            setattr(tower.encoder.get_submodule(parent), leaf, new)

    def fits(self, delta: Tensors) -> bool:
        """Whether names and shapes are those of the architecture."""
        return {name: tensor.shape for name, tensor in delta.items()} == self._shapes

    def encode(self, deltas: Sequence[Tensors], rows: Sequence[list[int]]) -> Tensor:
        """Features ``(len(rows), dim)`` of token ids, each with its own delta, not normalised.

        Every delta must fit.

        Raises:
            NonFiniteError: Names the first text by its number.
        """

        def encode(batch: list[int], ids: Tensor, mask: Tensor) -> Tensor:
            self._rows.deltas = [deltas[i] for i in batch]
            try:
                features: Tensor = self._backbone.text_tower(ids, mask)
            finally:
                self._rows.deltas = []
            return features

        return self._backbone.in_batches(rows, encode)
