"""The text tower's biases, trained: a baseline beside its LayerNorms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xclipt.deltas.kind import DeltaSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower


@dataclass(frozen=True)
class BitFitSpec(DeltaSpec):
    """Every bias of the encoder (Ben Zaken et al. 2022), those of LayerNorms included.

    Starts as the identity.
    """

    kind: ClassVar[str] = "bitfit"
    not_foldable: ClassVar[str] = ""

    train_layernorm: bool = False

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> None:
        return None

    @property
    def description(self) -> str:
        return "The text tower's biases"

    def borrowed(self, tower: "TextTower") -> "dict[str, nn.Parameter]":
        biases = {n: p for n, p in tower.read_parameters().items() if n.endswith(".bias")}
        return biases | super().borrowed(tower)

    def folded(
        self, tensors: "Mapping[str, Tensor]", frozen: "Callable[[str], Tensor]"
    ) -> "dict[str, Tensor]":
        return dict(tensors)
