"""Compacters after attention output and FFN, put in by OpenDelta."""

from functools import cache
from typing import Any

from torch import nn

from xclipt.backbones.backbone import TextTower
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import CompacterSpec
from xclipt.deltas.towers import TowerNames
from xclipt.errors import XcliptError

_DIVISIONS = 4


def insert_compacter(tower: TextTower, spec: CompacterSpec, names: TowerNames) -> Any:
    """An adapter of matrices ``sum_i R_i (x) s_i t_i``; the up-projection's ``t`` starts as zero.

    Raises:
        XcliptError: The width cannot be reduced so.
    """
    return _model()(
        tower.encoder,
        reduction_factor=spec.reduction,
        hypercomplex_division=_DIVISIONS,
        phm_rank=1,
        modified_modules=[names.attention_output, names.ffn_output],
    )


@cache
def _model() -> Any:
    class EagerCompacterModel(import_opendelta().CompacterModel):  # type: ignore[misc]
        # As with adapters: no made-up batch.
        _need_pseudo_data = False

        def new_module_like(self, module: nn.Linear) -> Any:
            width, reduction = module.out_features, self.reduction_factor
            if width // reduction % _DIVISIONS or width < reduction * _DIVISIONS:
                raise XcliptError(
                    f"--reduction {reduction}: the tower's width {width} divided by it must be a "
                    f"multiple of {_DIVISIONS}"
                )
            layer = super().new_module_like(module)
            layer.instantiate(module.weight.new_empty(0, width))
            nn.init.zeros_(layer.up_sampler.W_right)
            return layer

    return EagerCompacterModel
