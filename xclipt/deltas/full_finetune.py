"""The whole text tower, trained: what deltas are compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xclipt.deltas.kind import DeltaSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower


@dataclass(frozen=True)
class FullSpec(DeltaSpec):
    """Every weight that the text tower's features depend on, head included: the baseline.

    Not a delta in any useful sense, since it is as large as the tower. Starts as the identity.
    """

    kind: ClassVar[str] = "full-finetune"
    not_foldable: ClassVar[str] = ""

    tune_head: bool = True

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> None:
        return None

    @property
    def description(self) -> str:
        return "A fine-tuned text tower"

    def borrowed(self, tower: "TextTower") -> "dict[str, nn.Parameter]":
        return tower.read_parameters() | self._head(tower)

    def folded(
        self, tensors: "Mapping[str, Tensor]", frozen: "Callable[[str], Tensor]"
    ) -> "dict[str, Tensor]":
        return dict(tensors)
