"""LoRA, put in by OpenDelta."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from xclipt.deltas.kind import DeltaSpec, setting
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from torch import Tensor

    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import ModuleNames, TextTower

QUERY_VALUE, ALL_LINEAR = "query-value", "all-linear"
_MODULES = {
    QUERY_VALUE: "the query and value projections",
    ALL_LINEAR: "every linear layer of every block",
}
_A, _B = ".lora.lora_A", ".lora.lora_B"


@dataclass(frozen=True)
class LoraSpec(DeltaSpec):
    """Low-rank updates of projections (Hu et al. 2021): ``W + (alpha/r) B A``.

    ``A`` is ``(r, in)``; ``B`` is ``(out, r)`` and starts as zero, so that a fresh delta is the
    identity.

    Attributes:
        rank: ``r``.
        alpha: Scale of the update, OpenDelta's default 16.
        modules: What is updated: ``query-value``, the paper's choice, or ``all-linear``, every
            linear layer of every block.
    """

    kind: ClassVar[str] = "lora"
    not_foldable: ClassVar[str] = ""

    rank: int = setting(8, "rank of the updates", least=1)
    alpha: int = setting(16, "scale of the updates", least=1)
    modules: str = setting(
        QUERY_VALUE, "what is updated, query-value or all-linear (at rank 2 about as large)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modules not in _MODULES:
            raise XcliptError(
                f"choose {' or '.join(_MODULES)}", field="modules", value=self.modules
            )

    @property
    def scale(self) -> float:
        """What ``B A x`` is multiplied by."""
        return self.alpha / self.rank

    def targets(self, names: "ModuleNames") -> tuple[str, ...]:
        """Ends of the names of the modules that are updated."""
        if self.modules == QUERY_VALUE:
            return (names.query, names.value)
        attention = (names.query, names.key, names.value, names.attention_output)
        return (*attention, names.ffn_input, names.ffn_output)

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> Any:
        from xclipt.deltas.opendelta import import_opendelta

        return import_opendelta().LoraModel(
            tower.encoder,
            lora_r=self.rank,
            lora_alpha=self.alpha,
            modified_modules=[*self.targets(tower.module_names)],
        )

    @property
    def description(self) -> str:
        return f"A LoRA of {_MODULES[self.modules]}"

    def folded(
        self, tensors: "Mapping[str, Tensor]", frozen: "Callable[[str], Tensor]"
    ) -> "dict[str, Tensor]":
        """``W + (alpha/r) B A``, computed in float64; trained LayerNorms and heads as they are."""
        changed = {name: t for name, t in tensors.items() if not name.endswith((_A, _B))}
        for name, a in tensors.items():
            if name.endswith(_A):
                module = name.removesuffix(_A)
                update = self.scale * (tensors[module + _B].double() @ a.double())
                weight = frozen(f"{module}.weight").cpu().double()
                changed[f"{module}.weight"] = (weight + update).float()
        return changed


def updated_modules(names: Collection[str], tower: "ModuleNames") -> str:
    """:attr:`LoraSpec.modules` of a LoRA, from the names of its tensors in a tower.

    Only the feed-forward layers tell: a LoRA of other modules fits neither, and no tower takes it.
    """
    widened = f"{tower.ffn_input}.lora."
    return ALL_LINEAR if any(widened in name for name in names) else QUERY_VALUE
