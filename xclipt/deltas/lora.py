"""LoRA, put in by OpenDelta."""

import re
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
_MODULES: Mapping[str, Callable[["ModuleNames"], tuple[str, ...]]] = {
    QUERY_VALUE: lambda names: (names.query, names.value),
    ALL_LINEAR: lambda names: (
        *(names.query, names.key, names.value, names.attention_output),
        *(names.ffn_input, names.ffn_output),
    ),
}
"""Ends of module names by what :attr:`LoraSpec.modules` calls them."""
_A, _B = ".lora.lora_A", ".lora.lora_B"
_BLOCK = re.compile(r".*\.\d+\.")


@dataclass(frozen=True)
class LoraSpec(DeltaSpec):
    """Low-rank updates of projections (Hu et al. 2021): ``W + (alpha/r) B A``.

    ``A`` is ``(r, in)``; ``B`` is ``(out, r)`` and starts as zero, so that a fresh delta is the
    identity.

    Attributes:
        rank: ``r``.
        alpha: Scale of the update, OpenDelta's default 16.
        modules: What is updated: ``query-value``, the paper's choice; ``all-linear``, every linear
            layer of every block; or names of linear layers with commas, as OpenDelta and PEFT take
            them: a name means every layer whose full name ends in it at a dot.
    """

    kind: ClassVar[str] = "lora"
    not_foldable: ClassVar[str] = ""

    rank: int = setting(8, "rank of the updates", least=1)
    alpha: int = setting(16, "scale of the updates", least=1)
    modules: str = setting(
        QUERY_VALUE,
        "what is updated: query-value, all-linear (at rank 2 about as large), or names of the "
        "tower's linear layers with commas",
    )

    @property
    def scale(self) -> float:
        """What ``B A x`` is multiplied by."""
        return self.alpha / self.rank

    def targets(self, tower: "TextTower") -> tuple[str, ...]:
        """Ends of the names of the modules that are updated, each as it stands within a block.

        Raises:
            XcliptError: The tower has no linear layer of a name.
        """
        if self.modules in _MODULES:
            return _MODULES[self.modules](tower.module_names)
        there = linear_layers(tower)
        wanted = [name.strip() for name in self.modules.split(",")]
        for name in wanted:
            if not any(ends_in(layer, [name]) for layer in there):
                raise XcliptError(
                    f"the tower has no linear layer {name!r}; choose {', '.join(_MODULES)}, or of "
                    f"{', '.join(there)}",
                    field="modules",
                    value=self.modules,
                )
        return tuple(layer for layer in there if ends_in(layer, wanted))

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> Any:
        from xclipt.deltas.opendelta import import_opendelta

        return import_opendelta().LoraModel(
            tower.encoder,
            lora_r=self.rank,
            lora_alpha=self.alpha,
            modified_modules=[*self.targets(tower)],
        )

    @property
    def description(self) -> str:
        named = {
            QUERY_VALUE: "the query and value projections",
            ALL_LINEAR: "every linear layer of every block",
        }
        return f"A LoRA of {named.get(self.modules, self.modules.replace(',', ', '))}"

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


def linear_layers(tower: "TextTower") -> tuple[str, ...]:
    """Names of the linear layers of a tower's blocks, each as it stands within its block.

    A pooler is none of them: nothing reads it.
    """
    from torch import nn

    names = [name for name, m in tower.encoder.named_modules() if isinstance(m, nn.Linear)]
    return tuple(dict.fromkeys(_BLOCK.sub("", name) for name in names if _BLOCK.match(name)))


def ends_in(module: str, names: Collection[str]) -> bool:
    """Whether a module's name ends in one of ``names`` at a dot, as OpenDelta and PEFT see it."""
    return any(f".{module}".endswith(f".{name}") for name in names)


def updated_modules(names: Collection[str], tower: "TextTower") -> str:
    """:attr:`LoraSpec.modules` of a LoRA, from the names of its tensors in a tower."""
    updated = {_BLOCK.sub("", name.removesuffix(_A)) for name in names if name.endswith(_A)}
    for name, ends in _MODULES.items():
        if updated == {*ends(tower.module_names)}:
            return name
    return ",".join(layer for layer in linear_layers(tower) if layer in updated) or QUERY_VALUE
