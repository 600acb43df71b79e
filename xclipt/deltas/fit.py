"""Whether a delta's tensors are those of a tower, told without the tower's weights."""

from collections.abc import Callable, Mapping

from torch import Tensor

from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import TextTower
from xclipt.backbones.registry import empty_tower
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import DeltaSpec, spec_from
from xclipt.errors import XcliptError


def fit_check(backbone: str) -> Callable[[StoredDelta, Mapping[str, Tensor]], None]:
    """What holds a stored delta's tensors against the backbone of that name.

    Raises:
        XcliptError: There is no such backbone, or its description cannot be had.
    """
    tower, family = empty_tower(backbone)

    def check(delta: StoredDelta, tensors: Mapping[str, Tensor]) -> None:
        spec = spec_from(delta.manifest.kind, delta.manifest.setting)
        require_fit(delta.folder, tower, spec, family, tensors)

    return check


def require_fit(
    where: object, tower: TextTower, spec: DeltaSpec, family: str, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that are not finite or whose names or shapes a tower has no place for.

    Args:
        where: The delta's folder, for the message.
        tower: On the meta device, as :func:`xclipt.backbones.registry.empty_tower` gives it.

    Raises:
        XcliptError: Names the first tensor that does not fit.
    """
    injected = InjectedDelta(tower, spec, family)
    wanted = {name: tuple(p.shape) for name, p in injected.named_parameters().items()}
    injected.remove()
    there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    odd = sorted(name for name in wanted | there if wanted.get(name) != there.get(name))
    if odd:
        raise XcliptError(
            f"{where}: {len(odd)} tensors do not fit this backbone, first {odd[0]}: "
            f"{there.get(odd[0], 'missing')}, the tower wants {wanted.get(odd[0], 'none')}"
        )
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise XcliptError(f"{where}: {name} holds values that are not finite; train it again")
