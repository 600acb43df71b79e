"""What a delta is made of, before it is trained."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

from xclipt.errors import XcliptError


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What every kind has.

    Attributes:
        train_layernorm: Train every output LayerNorm of the tower beside the delta.
        tune_head: Train the text head too; its tensors are stored with the delta.
        hard_prompt: Text that is put before every caption, in training and at inference.
    """

    kind: ClassVar[str]

    train_layernorm: bool = True
    tune_head: bool = False
    hard_prompt: str = ""

    def __post_init__(self) -> None:
        for name in ("rank", "alpha", "bottleneck", "reduction", "tokens"):
            value = getattr(self, name, 1)
            if value < 1:
                raise XcliptError(f"--{name} {value}: must be at least 1")

    def prompted(self, caption: str) -> str:
        """The caption as the tower is given it."""
        return f"{self.hard_prompt} {caption}" if self.hard_prompt else caption


QUERY_VALUE, ALL_LINEAR = "query-value", "all-linear"
"""Modules of a LoRA."""


@dataclass(frozen=True)
class LoraSpec(_Common):
    """Low-rank updates of projections (Hu et al. 2021): ``W + (alpha/r) B A``.

    Starts as the identity: ``B`` is zero.

    Attributes:
        rank: ``r``.
        alpha: Scale of the update, OpenDelta's default 16.
        modules: What is updated: ``query-value``, the paper's choice, or ``all-linear``, every
            linear layer of every block.
    """

    kind: ClassVar[str] = "lora"

    rank: int = 8
    alpha: int = 16
    modules: str = QUERY_VALUE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modules not in (QUERY_VALUE, ALL_LINEAR):
            raise XcliptError(f"--modules {self.modules}: choose {QUERY_VALUE} or {ALL_LINEAR}")


@dataclass(frozen=True)
class AdapterSpec(_Common):
    """A bottleneck after the attention output and after the FFN (Houlsby et al. 2019).

    ``h + U gelu(D h + d) + u``. Starts as the identity: ``U`` is zero. OpenDelta draws it from
    N(0, 0.01), and an untrained delta then already moves the features.

    Attributes:
        bottleneck: Width of the hidden layer.
    """

    kind: ClassVar[str] = "adapter"

    bottleneck: int = 24


@dataclass(frozen=True)
class CompacterSpec(_Common):
    """An adapter whose matrices are sums of Kronecker products (Mahabadi et al. 2021).

    Four divisions, rank 1. Starts as the identity: one factor of the up-projection is zero, where
    OpenDelta draws all of them at random.

    Attributes:
        reduction: The tower's width divided by the bottleneck's.
    """

    kind: ClassVar[str] = "compacter"

    reduction: int = 16


@dataclass(frozen=True)
class SoftPromptSpec(_Common):
    """Trained vectors in the place of word embeddings right after ``<s>`` (Lester et al. 2021).

    Never the identity: every other position attends to the vectors from the start, whatever they
    hold.

    Attributes:
        tokens: How many vectors.
        prompt_init: Text whose word embeddings they start from, repeated or cut to ``tokens``;
            without it they are drawn from N(0, 0.02), as in the paper's code.
        pool_prompt: Count their positions in the mean over the text. The paper's code does: it
            lengthens the attention mask in place, and pools by that very mask. Towers that do not
            pool by mean (CLIP) are not concerned.
    """

    kind: ClassVar[str] = "soft-prompt"

    train_layernorm: bool = False
    tokens: int = 4
    prompt_init: str = ""
    pool_prompt: bool = True


@dataclass(frozen=True)
class FullSpec(_Common):
    """Every weight that the text tower's features depend on, head included: the baseline.

    Not a delta in any useful sense, since it is as large as the tower. Starts as the identity.
    """

    kind: ClassVar[str] = "full-finetune"

    tune_head: bool = True


DeltaSpec = LoraSpec | AdapterSpec | CompacterSpec | SoftPromptSpec | FullSpec

KINDS: dict[str, type[DeltaSpec]] = {spec.kind: spec for spec in get_args(DeltaSpec)}


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


def spec_for(kind: str, **settings: float | str | bool | None) -> DeltaSpec:
    """The spec that options describe; ``None`` leaves a setting at the kind's default.

    Raises:
        XcliptError: No such kind, a setting of another kind, or a value out of range.
    """
    if kind not in KINDS:
        raise XcliptError(f"--delta {kind}: choose {', '.join(KINDS)}")
    given = {name: value for name, value in settings.items() if value is not None}
    own = {field.name for field in fields(KINDS[kind])}
    for name in given.keys() - own:
        owners = [k for k, spec in KINDS.items() if name in {f.name for f in fields(spec)}]
        raise XcliptError(
            f"--{name.replace('_', '-')}: not a setting of --delta {kind}, but of "
            f"{', '.join(owners)}"
        )
    return spec_from(kind, given)
