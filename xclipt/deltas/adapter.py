"""Bottleneck adapters after attention output and FFN, put in by OpenDelta."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from xclipt.deltas.kind import DeltaSpec, setting

if TYPE_CHECKING:
    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower

NON_LINEARITIES = ("relu", "gelu_new", "gelu_orig", "leakyrelu", "swish", "tanh")
"""What OpenDelta puts between the two projections of an adapter or a compacter."""


@dataclass(frozen=True)
class AdapterSpec(DeltaSpec):
    """A bottleneck after the attention output and after the FFN (Houlsby et al. 2019).

    ``h + U f(D h + d) + u`` on the outputs ``h`` of both modules. OpenDelta draws ``D`` and ``U``
    from N(0, 0.01), and an untrained delta then already moves the features; as the identity it has
    zeros for ``U``.

    Attributes:
        bottleneck: Width of the hidden layer.
        non_linearity: ``f``, by OpenDelta's name.
    """

    kind: ClassVar[str] = "adapter"
    not_foldable: ClassVar[str] = "an adapter bends its input and cannot be folded into a matrix"
    before: ClassVar[Mapping[str, Any]] = {"non_linearity": "gelu_new"}

    bottleneck: int = setting(24, "width of the hidden layer", least=1)
    non_linearity: str = setting("gelu_new", "what bends the hidden layer", choices=NON_LINEARITIES)

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> Any:
        names = tower.module_names
        return _model()(
            tower.encoder,
            bottleneck_dim=self.bottleneck,
            non_linearity=self.non_linearity,
            modified_modules=[names.attention_output, names.ffn_output],
        )

    def make_identity(self, modules: Any) -> None:
        from torch import nn

        for layer in modules.delta_modules:
            nn.init.zeros_(layer.modulelist.up_proj.weight)

    @property
    def description(self) -> str:
        return "Bottleneck adapters after attention output and FFN"


@cache
def _model() -> Any:
    from torch import nn

    from xclipt.deltas.opendelta import import_opendelta

    class EagerAdapterModel(import_opendelta().AdapterModel):  # type: ignore[misc]
        # OpenDelta makes the weights while a made-up batch runs through the whole tower, and
        # swallows the errors of that run. The width is known without it.
        _need_pseudo_data = False

        def new_module_like(self, module: nn.Linear) -> Any:
            layer = super().new_module_like(module)
            layer.instantiate(module.weight.new_empty(0, module.out_features))
            return layer

    return EagerAdapterModel
