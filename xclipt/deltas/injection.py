"""Putting a delta's modules into a text tower, filling them, and taking them out again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import TextTower
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import DeltaSpec
from xclipt.deltas.towers import FAMILIES
from xclipt.errors import XcliptError


class InjectedDelta:
    """A delta inside a text tower: its modules, and the LayerNorms that are trained beside them.

    The tower's own weights are frozen. Where a delta trains a LayerNorm the frozen values are
    kept, so that :meth:`remove` and :meth:`bypassed` give the backbone back bit by bit.

    Args:
        tower: The tower to put the modules into, in place. It holds one delta at a time.
        spec: Kind and settings.
        family: Row of :data:`~xclipt.deltas.towers.FAMILIES` for the tower's encoder.
        seed: Of the modules' random initial values.
    """

    def __init__(self, tower: TextTower, spec: DeltaSpec, family: str, seed: int = 0) -> None:
        names = FAMILIES[family]
        self.tower = tower
        self.spec = spec
        tower.requires_grad_(False)
        opendelta = import_opendelta()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._modules = opendelta.LoraModel(
                tower.encoder,
                lora_r=spec.rank,
                lora_alpha=spec.alpha,
                modified_modules=[names.query, names.value],
            )
        self._trained: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in tower.encoder.named_parameters()
            if ".lora." in name
        }
        self._frozen_norms: dict[str, Tensor] = {}
        if spec.train_layernorm:
            for module_name, module in tower.encoder.named_modules():
                if module_name.endswith(names.layer_norms):
                    for kind, parameter in module.named_parameters(recurse=False):
                        name = f"{module_name}.{kind}"
                        self._trained[name] = parameter
                        self._frozen_norms[name] = parameter.detach().clone()
        for parameter in self._trained.values():
            parameter.requires_grad_(True)

    @property
    def trainable_parameters(self) -> int:
        """How many numbers the delta holds."""
        return sum(parameter.numel() for parameter in self._trained.values())

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, in the order of :meth:`tensors`."""
        return list(self._trained.values())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by their names within the encoder."""
        return dict(self._trained)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the trained tensors on the CPU, by their names within the encoder."""
        return {name: p.detach().cpu().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill the delta in place.

        Raises:
            XcliptError: Names or shapes are not this delta's.
        """
        if tensors.keys() != self._trained.keys():
            odd = sorted(tensors.keys() ^ self._trained.keys())
            raise XcliptError(
                f"the delta's tensors do not fit this tower: {len(odd)} differ, first {odd[0]}"
            )
        for name, parameter in self._trained.items():
            if tensors[name].shape != parameter.shape:
                raise XcliptError(
                    f"the delta's {name} is {tuple(tensors[name].shape)}, "
                    f"the tower wants {tuple(parameter.shape)}"
                )
            parameter.copy_(tensors[name])

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Within the block the tower is the frozen backbone; afterwards the delta is as it was."""
        tensors = self.tensors()
        self.clear()
        try:
            yield
        finally:
            self.load(tensors)

    @torch.no_grad()
    def clear(self) -> None:
        """Make the delta the identity: ``B = 0`` and the frozen LayerNorms."""
        for name, parameter in self._trained.items():
            if name in self._frozen_norms:
                parameter.copy_(self._frozen_norms[name])
            elif name.endswith("lora_B"):
                parameter.zero_()

    def remove(self) -> None:
        """Take the modules out; the tower is the frozen backbone again."""
        self.clear()
        self._modules.detach(reset_state_dict=False)
        for module in self.tower.encoder.modules():
            # What OpenDelta leaves behind on a module: its ledger, and bound copies of forward.
            for attribute in ("_delta_infos", "forward", "_replicate_for_data_parallel"):
                vars(module).pop(attribute, None)
        for name in self._frozen_norms:
            self._trained[name].requires_grad_(False)
