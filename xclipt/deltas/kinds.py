"""The kinds of deltas, a row each, and how one is made from plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.kind import BESIDE, DeltaSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError

KINDS: dict[str, type[DeltaSpec]] = {
    spec.kind: spec
    for spec in (
        LoraSpec,
        AdapterSpec,
        CompacterSpec,
        SoftPromptSpec,
        BitFitSpec,
        FullSpec,
    )
}
"""Every kind by the name that manifests know it by."""

_NEAREST = {
    "low-rank-adapter": CompacterSpec.kind,
    "parallel-adapter": AdapterSpec.kind,
    "prefix": SoftPromptSpec.kind,
}
"""What else OpenDelta has, and the kind here that is most like it."""


def spec_from(kind: str, setting: Mapping[str, Any]) -> DeltaSpec:
    """The spec that plain values describe, such as a manifest's.

    Raises:
        XcliptError: No such kind, settings that it does not have, or a value out of range.
    """
    own = {entry.name for entry in fields(_kind(kind))}
    for name in setting:
        if name not in own:
            owners = [k for k, spec in KINDS.items() if name in {f.name for f in fields(spec)}]
            whose = f"of {' and '.join(owners)}" if owners else "unknown"
            raise XcliptError(f"is no setting of a {kind} delta; it is {whose}", field=name)
    return _kind(kind)(**setting)


def stored_spec(kind: str, setting: Mapping[str, Any]) -> DeltaSpec:
    """As :func:`spec_from`, of a manifest that an earlier release may have written.

    Raises:
        XcliptError: As :func:`spec_from`.
    """
    return spec_from(kind, {**_kind(kind).before, **setting})


@dataclass(frozen=True)
class PartialSpec:
    """A kind of delta, and those of its settings that somebody named.

    Attributes:
        kind: A name in :data:`KINDS`.
        named: Settings and their values.

    Raises:
        XcliptError: No such kind, settings that it does not have, or a value out of range.
    """

    kind: str = LoraSpec.kind
    named: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec_from(self.kind, self.named)

    def completed(self, start: DeltaSpec | None) -> DeltaSpec:
        """The whole specification.

        Where nothing is named that changes the architecture, the other settings are those of
        ``start``, so that the delta can begin from it; else they are the kind's own.

        Args:
            start: What the training would begin from, if it begins from a delta.
        """
        own = spec_from(self.kind, self.named)
        if start is None or start.kind != self.kind or not self.named.keys() <= BESIDE:
            return own
        return replace(start, **self.named)


def _kind(name: str) -> type[DeltaSpec]:
    if name not in KINDS:
        known = f"choose {', '.join(KINDS)}"
        if nearest := _NEAREST.get(name.replace("_", "-")):
            known = f"OpenDelta has it, xclipt does not; nearest is {nearest}; {known}"
        raise XcliptError(known, field="kind", value=name)
    return KINDS[name]
