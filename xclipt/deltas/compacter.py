"""Compacters after attention output and FFN, put in by OpenDelta."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from xclipt.deltas.adapter import NON_LINEARITIES
from xclipt.deltas.kind import DeltaSpec, setting
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower

_DIVISIONS = 4


@dataclass(frozen=True)
class CompacterSpec(DeltaSpec):
    """An adapter whose matrices are sums of Kronecker products (Mahabadi et al. 2021).

    ``sum_i R_i (x) s_i t_i``, four divisions, rank 1. OpenDelta draws all factors at random; as
    the identity the up-projection's ``t`` is zero.

    Attributes:
        reduction: The tower's width divided by the bottleneck's.
        non_linearity: What is between the projections, by OpenDelta's name. The paper's code has
            ReLU: OpenDelta's configuration says so, while the model class by itself takes GELU.
    """

    kind: ClassVar[str] = "compacter"
    not_foldable: ClassVar[str] = "a compacter bends its input and cannot be folded into a matrix"
    before: ClassVar[Mapping[str, Any]] = {"non_linearity": "gelu_new"}

    reduction: int = setting(16, "the tower's width divided by the bottleneck's", least=1)
    non_linearity: str = setting("relu", "what bends the hidden layer", choices=NON_LINEARITIES)

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> Any:
        names = tower.module_names
        return _model()(
            tower.encoder,
            reduction_factor=self.reduction,
            non_linearity=self.non_linearity,
            hypercomplex_division=_DIVISIONS,
            phm_rank=1,
            modified_modules=[names.attention_output, names.ffn_output],
        )

    def make_identity(self, modules: Any) -> None:
        from torch import nn

        for layer in modules.delta_modules:
            nn.init.zeros_(layer.up_sampler.W_right)

    @property
    def description(self) -> str:
        return "Compacters after attention output and FFN"


@cache
def _model() -> Any:
    from torch import nn

    from xclipt.deltas.opendelta import import_opendelta

    class EagerCompacterModel(import_opendelta().CompacterModel):  # type: ignore[misc]
        # As with adapters: no made-up batch.
        _need_pseudo_data = False

        def new_module_like(self, module: nn.Linear) -> Any:
            width, reduction = module.out_features, self.reduction_factor
            if width // reduction % _DIVISIONS or width < reduction * _DIVISIONS:
                raise XcliptError(
                    f"the tower's width {width} divided by it must be a multiple of {_DIVISIONS}",
                    field="reduction",
                    value=reduction,
                )
            layer = super().new_module_like(module)
            layer.instantiate(module.weight.new_empty(0, width))
            return layer

    return EagerCompacterModel
