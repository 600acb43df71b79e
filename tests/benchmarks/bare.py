"""Bare torch: a tower on tensors that lie ready, and nothing around it."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec

Batch = tuple[Tensor, Tensor]
"""Ids and mask, both ``(batch, length)``."""


def sorted_batches(backbone: Backbone, rows: Sequence[list[int]]) -> list[Batch]:
    """The rows in the batches that xclipt makes of them, padded, on the device."""
    return [
        backbone.tokenizer.pad([rows[i] for i in batch], backbone.device)
        for batch in backbone.batches(rows)
    ]


class BareTower:
    """A text tower, with a delta in it where there is a ``spec``, in the backbone's number type.

    Frozen weights have that type beforehand, so that no pass casts them; what torch would compute
    in float32 beside bfloat16 stays in float32.
    """

    def __init__(self, backbone: Backbone, spec: DeltaSpec | None = None) -> None:
        own = copy.deepcopy(backbone.text_tower)
        delta = AdaptedTower(own, spec) if spec else None
        self._tower: TextTower = delta.tower if delta else own
        self._trained = delta.parameters() if delta else []
        self._backbone = backbone
        for module in self._tower.modules():
            if isinstance(module, nn.Linear):
                for parameter in module.parameters(recurse=False):
                    if not parameter.requires_grad:
                        parameter.data = parameter.data.to(backbone.dtype)

    def forward(self, batches: Iterable[Batch]) -> None:
        """Encode."""
        with torch.inference_mode(), self._backbone.autocast():
            for ids, mask in batches:
                self._tower(ids, mask)

    def forward_and_backward(self, batches: Iterable[Batch]) -> None:
        """Encode, and differentiate the sum of all features."""
        for ids, mask in batches:
            with self._backbone.autocast(), self._attention():
                features = self._tower(ids, mask)
            features.float().sum().backward()
        for parameter in self._trained:
            parameter.grad = None

    @contextmanager
    def _attention(self) -> Iterator[None]:
        # Whichever is faster: on a processor in bfloat16 the fused one takes half of a step.
        if self._backbone.device.type == "cpu" and self._backbone.dtype != torch.float32:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield
