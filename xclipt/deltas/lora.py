"""LoRA, put in by OpenDelta."""

from typing import Any

from xclipt.backbones.backbone import TextTower
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import LoraSpec
from xclipt.deltas.towers import TowerNames


def insert_lora(tower: TextTower, spec: LoraSpec, names: TowerNames) -> Any:
    """``B A x`` beside every module of the spec; ``A`` is ``(r, in)``, ``B`` ``(out, r)`` zero."""
    return import_opendelta().LoraModel(
        tower.encoder,
        lora_r=spec.rank,
        lora_alpha=spec.alpha,
        modified_modules=[*names.lora_modules(spec.modules)],
    )
