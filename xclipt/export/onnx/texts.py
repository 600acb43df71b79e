"""A text tower on its way into a graph, and the token ids that it is given."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.export.exchange import ExportJob

TRACED = ("a", "two dogs run over the grass")
CHECKED = (
    ("a dog",),
    ("a", "deux enfants jouent dans la neige près d'une maison", "犬が走っている"),
    ("a cat " * 200, "", "кошка", "قطة"),
)
"""Batches that every graph is held against PyTorch on: of one text, of several, and too long."""

_INPUTS = ("input_ids", "attention_mask")


class _Unmasked(nn.Module):
    """A tower of texts of one length, where padding is not told apart."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, input_ids: Tensor) -> Tensor:
        features: Tensor = self.tower(input_ids, torch.ones_like(input_ids))
        return features


@dataclass(frozen=True)
class TextSide:
    """A backbone's text side as a graph sees it.

    Attributes:
        backbone: Whose it is.
        spec: Of the delta in it.
        language: The delta's.
    """

    backbone: Backbone
    spec: DeltaSpec
    language: str

    @classmethod
    def of(cls, job: ExportJob) -> "TextSide":
        """That of a delta on its way out; the backbone is loaded."""
        return cls(job.backbone(), job.spec, job.manifest.language)

    @property
    def fixed(self) -> bool:
        """Whether all texts are padded to one length, and there is no mask."""
        return self.backbone.tokenizer.padded

    @property
    def limit(self) -> int:
        """Tokens that are kept of a text."""
        limit, positions = self.backbone.tokenizer.max_length, self.backbone.text_tower.max_length
        if isinstance(self.spec, SoftPromptSpec) and positions:
            limit = min(limit, positions - self.spec.positions)
        return limit

    @property
    def prefix(self) -> str:
        """What is put before every text."""
        return self.backbone.tokenizer.prefix + self.spec.prompted("")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the token inputs."""
        return _INPUTS[:1] if self.fixed else _INPUTS

    @property
    def shapes(self) -> dict[str, Any]:
        """Which sizes of the token inputs may change."""
        axes = {0: torch.export.Dim("batch")}
        if not self.fixed:
            axes[1] = torch.export.Dim("length", max=self.limit)
        return dict.fromkeys(self.inputs, axes)

    def as_module(self, tower: TextTower) -> nn.Module:
        """The tower with the token inputs alone."""
        return _Unmasked(tower) if self.fixed else tower

    def tokens(self, captions: Sequence[str], *, told: bool = True) -> tuple[Tensor, ...]:
        """The token inputs of a batch, ``(batch, length)`` each; the delta's prompt is not put
        before the texts.

        Args:
            captions: Texts.
            told: Tell a tower of languages which one it is.
        """
        tokenizer = self.backbone.tokenizer
        rows = tokenizer(captions, self.language if told else None)
        limit = self.limit
        rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
        ids, mask = replace(tokenizer, max_length=limit).pad(rows, torch.device("cpu"))
        return (ids,) if self.fixed else (ids, mask)

    def feed(self, tokens: Sequence[Tensor]) -> dict[str, Any]:
        """Tokens as onnxruntime takes them."""
        return {name: t.numpy() for name, t in zip(self.inputs, tokens, strict=True)}

    def adapted(self) -> AdaptedTower:
        """A copy of the tower on the CPU with a fresh delta, which is the identity if it can be."""
        tower = copy.deepcopy(self.backbone.text_tower).cpu().eval()
        return AdaptedTower(tower, self.spec, tokenizer=self.backbone.tokenizer)

    def with_delta(self, tensors: Mapping[str, Tensor]) -> TextTower:
        """A copy of the tower on the CPU with the delta in it, folded where it can be.

        Raises:
            XcliptError: The tensors do not fit.
        """
        if self.spec.not_foldable:
            adapted = self.adapted()
            adapted.load(tensors)
            return adapted.tower.requires_grad_(False)
        tower = copy.deepcopy(self.backbone.text_tower).cpu().eval()
        weights = {n.removeprefix("encoder."): t for n, t in tower.state_dict().items()}
        changed = self.spec.folded(tensors, weights.__getitem__)
        with torch.no_grad():
            for name, tensor in changed.items():
                weights[name].copy_(tensor)
        return tower
