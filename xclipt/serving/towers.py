"""Text towers that share one backbone's frozen weights, each with one kind of delta in it.

The backbone's own tower is never touched, so nothing has to be restored: the base is the base
while any language is in use beside it. Changing the language of a tower copies the delta's tensors
into the modules that are already there.
"""

import copy
import dataclasses
import threading
from collections.abc import Sequence

from torch import Tensor

from xclipt.backbones.backbone import Backbone, TextTower
from xclipt.deltas.injection import InjectedDelta, borrowed_parameters
from xclipt.deltas.spec import DeltaSpec
from xclipt.serving.cache import LoadedDelta


def sharing_copy(backbone: Backbone, spec: DeltaSpec) -> TextTower:
    """The text tower's modules anew, on the same weights but for those that the kind trains."""
    tower = backbone.text_tower
    own = {id(p) for p in borrowed_parameters(tower, spec, backbone.family).values()}
    shared = {id(t): t for t in (*tower.parameters(), *tower.buffers()) if id(t) not in own}
    # deepcopy takes what its memo holds for copied already.
    return copy.deepcopy(tower, shared)


class DeltaTower:
    """One structure of delta in a tower of its own; deltas take turns in it. Thread-safe.

    Args:
        structure: :attr:`LoadedDelta.structure` of every delta that it will hold.
    """

    def __init__(self, backbone: Backbone, structure: DeltaSpec) -> None:
        tower = sharing_copy(backbone, structure)
        self._backbone = dataclasses.replace(backbone, text_tower=tower)
        self._injected = InjectedDelta(tower, structure, backbone.family)
        tower.eval()
        self._holds: LoadedDelta | None = None
        self._lock = threading.Lock()

    def swap(self, delta: LoadedDelta) -> None:
        """Make ``delta`` the one that the tower holds.

        Raises:
            XcliptError: Its tensors do not fit.
        """
        with self._lock:
            self._swap(delta)

    def encode(self, delta: LoadedDelta, rows: Sequence[list[int]]) -> Tensor:
        """Features ``(len(rows), dim)`` of token ids with the delta, not normalised.

        Raises:
            XcliptError: The delta's tensors do not fit.
        """
        with self._lock:
            self._swap(delta)
            return self._backbone.encode_tokens(rows)

    def _swap(self, delta: LoadedDelta) -> None:
        if delta is not self._holds:
            self._holds = None  # should the new one fit in part only
            self._injected.load(delta.tensors)
            self._holds = delta
