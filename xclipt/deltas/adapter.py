"""Bottleneck adapters after attention output and FFN, put in by OpenDelta."""

from functools import cache
from typing import Any

from torch import nn

from xclipt.backbones.backbone import TextTower
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import AdapterSpec
from xclipt.deltas.towers import TowerNames


def insert_adapter(tower: TextTower, spec: AdapterSpec, names: TowerNames) -> Any:
    """``h + U gelu(D h + d) + u`` on the outputs ``h`` of both modules; ``U`` starts as zero."""
    return _model()(
        tower.encoder,
        bottleneck_dim=spec.bottleneck,
        modified_modules=[names.attention_output, names.ffn_output],
    )


@cache
def _model() -> Any:
    class EagerAdapterModel(import_opendelta().AdapterModel):  # type: ignore[misc]
        # OpenDelta makes the weights while a made-up batch runs through the whole tower, and
        # swallows the errors of that run. The width is known without it.
        _need_pseudo_data = False

        def new_module_like(self, module: nn.Linear) -> Any:
            layer = super().new_module_like(module)
            layer.instantiate(module.weight.new_empty(0, module.out_features))
            nn.init.zeros_(layer.modulelist.up_proj.weight)
            return layer

    return EagerAdapterModel
