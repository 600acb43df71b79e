"""What a delta is made of, before it is trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xclipt.errors import XcliptError


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank updates of the query and value projections (Hu et al. 2021): ``W + (alpha/r) B A``.

    Attributes:
        rank: ``r``.
        alpha: Scale of the update, OpenDelta's default 16.
        train_layernorm: Train every ``output.LayerNorm`` of the tower beside it.
    """

    kind: ClassVar[str] = "lora"

    rank: int = 8
    alpha: int = 16
    train_layernorm: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise XcliptError(f"--rank {self.rank}: must be at least 1")
        if self.alpha < 1:
            raise XcliptError(f"--alpha {self.alpha}: must be at least 1")


DeltaSpec = LoraSpec

KINDS: dict[str, type[DeltaSpec]] = {LoraSpec.kind: LoraSpec}


def spec_from(kind: str, setting: dict[str, Any]) -> DeltaSpec:
    """The spec that a manifest describes.

    Raises:
        XcliptError: No such kind, or settings that it does not have.
    """
    if kind not in KINDS:
        raise XcliptError(f"delta kind '{kind}' is unknown; it can be {', '.join(KINDS)}")
    try:
        return KINDS[kind](**setting)
    except TypeError as error:
        raise XcliptError(f"delta of kind '{kind}': {error}") from None
