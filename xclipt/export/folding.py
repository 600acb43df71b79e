"""Deltas folded into the weights that they change."""

from collections.abc import Callable, Mapping

from torch import Tensor

from xclipt.deltas.spec import DeltaSpec, FullSpec, LoraSpec

_FACTORS = (".lora.lora_A", ".lora.lora_B")

UNFOLDABLE = {
    "adapter": "an adapter bends its input with a GELU and cannot be folded into a matrix",
    "compacter": "a compacter bends its input with a GELU and cannot be folded into a matrix",
    "soft-prompt": "a soft prompt is no weight of the tower",
}
"""Why not, by kind."""


def folded(
    spec: DeltaSpec, tensors: Mapping[str, Tensor], frozen: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """The text tower's weights that a delta changes, by the delta's own names for them.

    ``W + (alpha/r) B A`` for a LoRA's projections, computed in float64; trained LayerNorms and
    heads as they are.

    Args:
        spec: A kind that is not in :data:`UNFOLDABLE`.
        tensors: The delta's.
        frozen: The backbone's weight of a name.
    """
    assert isinstance(spec, LoraSpec | FullSpec)
    changed = {name: tensor for name, tensor in tensors.items() if not name.endswith(_FACTORS)}
    for name, a in tensors.items():
        if isinstance(spec, LoraSpec) and name.endswith(_FACTORS[0]):
            module = name.removesuffix(_FACTORS[0])
            b = tensors[module + _FACTORS[1]]
            weight = frozen(f"{module}.weight")
            update = spec.alpha / spec.rank * (b.double() @ a.double())
            changed[f"{module}.weight"] = (weight.cpu().double() + update).float()
    return changed
