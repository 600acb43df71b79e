"""Putting a delta's modules into a text tower, filling them, and taking them out again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer, TextTower
from xclipt.deltas.adapter import insert_adapter
from xclipt.deltas.compacter import insert_compacter
from xclipt.deltas.lora import insert_lora
from xclipt.deltas.soft_prompt import insert_soft_prompt
from xclipt.deltas.spec import AdapterSpec, CompacterSpec, DeltaSpec, FullSpec, LoraSpec
from xclipt.deltas.towers import FAMILIES, TowerNames
from xclipt.errors import XcliptError

HEAD = "head."
"""What the names of a tuned text head's tensors start with; all others are the encoder's."""


class InjectedDelta:
    """A delta inside a text tower: its modules, and what of the tower is trained beside them.

    The tower's own weights are frozen. Where a delta trains some of them (LayerNorms, the head) the
    frozen values are kept, so that :meth:`remove` and :meth:`bypassed` give the backbone back bit
    by bit.

    Args:
        tower: The tower to put the modules into, in place. It holds one delta at a time.
        spec: Kind and settings.
        family: Row of :data:`~xclipt.deltas.towers.FAMILIES` for the tower's encoder.
        seed: Of the modules' random initial values.
        tokenizer: The tower's; only a soft prompt that starts from a text asks for it.

    Raises:
        XcliptError: The kind's settings do not suit the tower.
    """

    def __init__(
        self,
        tower: TextTower,
        spec: DeltaSpec,
        family: str,
        seed: int = 0,
        tokenizer: CaptionTokenizer | None = None,
    ) -> None:
        names = FAMILIES[family]
        self.tower = tower
        self.spec = spec
        tower.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._modules = _insert(tower, spec, names, tokenizer)
        self._prompt = tower.prompt
        inserted = {id(p) for p in self._modules.parameters()} if self._modules else set()
        self._trained: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in tower.encoder.named_parameters()
            if id(parameter) in inserted
        }
        borrowed = borrowed_parameters(tower, spec, family)
        self._trained |= borrowed
        self._frozen = {name: p.detach().clone() for name, p in borrowed.items()}
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
        self._silence()
        try:
            yield
        finally:
            self.load(tensors)
            self.tower.prompt = self._prompt

    @torch.no_grad()
    def _silence(self) -> None:
        # Zeros throughout leave every kind's modules without effect, and what was borrowed from
        # the tower gets its frozen values back.
        self.tower.prompt = None
        for name, parameter in self._trained.items():
            if name in self._frozen:
                parameter.copy_(self._frozen[name])
            else:
                parameter.zero_()

    def remove(self) -> None:
        """Take the modules out; the tower is the frozen backbone again."""
        self._silence()
        if self._modules:
            self._modules.detach(reset_state_dict=False)
        for module in self.tower.encoder.modules():
            # What OpenDelta leaves behind on a module: its ledger, and bound copies of forward.
            for attribute in ("_delta_infos", "forward", "_replicate_for_data_parallel"):
                vars(module).pop(attribute, None)
        self.tower.requires_grad_(False)


def _insert(
    tower: TextTower, spec: DeltaSpec, names: TowerNames, tokenizer: CaptionTokenizer | None
) -> Any:
    if isinstance(spec, LoraSpec):
        return insert_lora(tower, spec, names)
    if isinstance(spec, AdapterSpec):
        return insert_adapter(tower, spec, names)
    if isinstance(spec, CompacterSpec):
        return insert_compacter(tower, spec, names)
    if isinstance(spec, FullSpec):
        return None
    return insert_soft_prompt(tower, spec, tokenizer)


def borrowed_parameters(tower: TextTower, spec: DeltaSpec, family: str) -> dict[str, nn.Parameter]:
    """The tower's own parameters that the delta trains, by their names in the delta."""
    names = FAMILIES[family]
    borrowed: dict[str, nn.Parameter] = {}
    if isinstance(spec, FullSpec):
        # BERT's pooler is published with the encoder, and the mean over positions passes it by.
        borrowed = {n: p for n, p in tower.encoder.named_parameters() if not n.startswith("pooler")}
    elif spec.train_layernorm:
        for module_name, module in tower.encoder.named_modules():
            if module_name.endswith(names.layer_norms):
                for kind, parameter in module.named_parameters(recurse=False):
                    borrowed[f"{module_name}.{kind}"] = parameter
    if spec.tune_head:
        borrowed |= {HEAD + name: p for name, p in tower.head.named_parameters()}
    return borrowed
