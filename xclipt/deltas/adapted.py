"""A text tower with a delta in it: a copy that shares every frozen weight of the backbone's own.

The backbone's tower is never touched: it is the frozen base whatever runs beside it.
"""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import Backbone, CaptionTokenizer
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.outline import Shapes, not_finite, require_shapes
from xclipt.errors import XcliptError

_SHARES = ("dropout", "attention_dropout")


def sharing_copy(tower: TextTower, spec: DeltaSpec) -> TextTower:
    """The tower's modules anew, on the same weights but for those that the kind trains."""
    own = {id(parameter) for parameter in spec.borrowed(tower).values()}
    shared = {id(t): t for t in (*tower.parameters(), *tower.buffers()) if id(t) not in own}
    # deepcopy takes what its memo holds for copied already.
    return copy.deepcopy(tower, shared)


class AdaptedTower:
    """A delta in a copy of a text tower: its modules, and what of the tower is trained beside them.

    Args:
        tower: The backbone's own, or that of a blueprint; it stays as it is.
        spec: Kind and settings.
        seed: Decides the modules' random initial values.
        tokenizer: The tower's; only a soft prompt that starts from a text asks for it.
        identity: Begin as the identity, where the kind can; else with OpenDelta's own values.

    Attributes:
        spec: As it was given, with what the tokenizer decides.
        tower: The copy, in evaluation mode; all but the delta is frozen.

    Raises:
        XcliptError: The kind's settings do not suit the tower.
    """

    def __init__(
        self,
        tower: TextTower,
        spec: DeltaSpec,
        seed: int = 0,
        tokenizer: CaptionTokenizer | None = None,
        *,
        identity: bool = True,
    ) -> None:
        self.spec = spec = spec.counted(tokenizer)
        self.tower = sharing_copy(tower, spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules = spec.insert(self.tower, tokenizer)
        if modules and identity:
            spec.make_identity(modules)
        inserted = {id(p) for p in modules.parameters()} if modules else set()
        self._trained: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in self.tower.encoder.named_parameters()
            if id(parameter) in inserted
        }
        self._trained |= spec.borrowed(self.tower)
        for parameter in self._trained.values():
            parameter.requires_grad_(True)
        self.tower.eval()

    @contextmanager
    def dropout(self, share: float, seed: str) -> Iterator[None]:
        """Run the tower with dropout, wherever it has a place for it.

        Args:
            share: Of what is left out; with 0 nothing changes.
            seed: What is left out is a function of it; the global generators stay as they are.

        Raises:
            XcliptError: The tower has no place.
        """
        if not share:
            yield
            return
        places = 0
        for module in self.tower.modules():
            # An attention of transformers holds a layer, or the share by itself.
            for name in ("p",) if isinstance(module, nn.Dropout) else _SHARES:
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, share)
                    places += 1
        if not places:
            raise XcliptError("the text tower has no place for it", field="dropout", value=share)
        device = next(self.tower.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(random.Random(f"dropout-{seed}").getrandbits(63))
            self.tower.train()
            try:
                yield
            finally:
                self.tower.eval()

    @property
    def trainable_parameters(self) -> int:
        """How many numbers the delta holds."""
        return sum(parameter.numel() for parameter in self._trained.values())

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, in the order of :meth:`tensors`."""
        return list(self._trained.values())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by their names within the encoder; the head's after ``head.``."""
        return dict(self._trained)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the trained tensors on the CPU, by the names of :meth:`named_parameters`."""
        return {name: p.detach().cpu().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill the delta in place.

        Raises:
            XcliptError: Names or shapes are not this delta's.
        """
        if tensors.keys() != self._trained.keys():
            differing = sorted(tensors.keys() ^ self._trained.keys())
            raise XcliptError(
                f"the delta's tensors do not fit this tower: {len(differing)} differ, first "
                f"{differing[0]}"
            )
        for name, parameter in self._trained.items():
            if tensors[name].shape != parameter.shape:
                raise XcliptError(
                    f"the delta's {name} is {tuple(tensors[name].shape)}, "
                    f"the tower wants {tuple(parameter.shape)}"
                )
            parameter.copy_(tensors[name])

    def within(self, backbone: Backbone) -> Backbone:
        """The backbone with this tower in the place of its own."""
        return replace(backbone, text_tower=self.tower)


def require_fit(
    where: object, tower: TextTower, spec: DeltaSpec, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that are not finite or whose names or shapes a tower has no place for.

    Args:
        where: The delta's folder, for the message.
        tower: May be on the meta device.

    Raises:
        XcliptError: Names the first tensor that does not fit.
    """
    there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    require_shapes(where, shapes(tower, spec), there)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise not_finite(where, name)


def shapes(tower: TextTower, spec: DeltaSpec) -> Shapes:
    """Names and shapes of a delta's tensors in a tower, which may be on the meta device."""
    named = AdaptedTower(tower, spec).named_parameters()
    return {name: tuple(parameter.shape) for name, parameter in named.items()}
