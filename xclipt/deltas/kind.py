"""What every kind of delta is to the rest of xclipt: its settings, and what it does to a tower."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from xclipt.errors import XcliptError, require_finite

if TYPE_CHECKING:  # the command line reads the settings, and need not wait for torch
    from torch import Tensor, nn

    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower

HEAD = "head."
"""What the names of a tuned text head's tensors start with; all others are the encoder's."""


BESIDE = frozenset(("tune_head", "hard_prompt"))
"""Settings that change no module: deltas that differ in them alone can start from each other."""


def setting(
    default: Any, help: str, *, least: int | None = None, choices: Collection[str] = ()
) -> Any:
    """A setting of one kind: a dataclass field that the command line makes an option of.

    Args:
        default: Its value unless another is given.
        help: What it is, for the command line's help.
        least: The smallest number that it may be.
        choices: What a text may be, unless it may be anything.
    """
    return field(default=default, metadata={"help": help, "least": least, "choices": choices})


def with_prompt(prompt: str, caption: str) -> str:
    """A caption after a hard prompt, as a delta's own is put before it; an empty one adds nothing.

    The tower's tokenizers take words apart at spaces, so that the prompt's tokens are those that it
    has alone.
    """
    return f"{prompt} {caption}" if prompt else caption


@dataclass(frozen=True, kw_only=True)
class DeltaSpec(ABC):
    """One kind of delta with its settings: what it is made of, before it is trained.

    A kind is a frozen dataclass of its own :func:`setting` fields, and a row in
    :data:`xclipt.deltas.kinds.KINDS`.

    Attributes:
        kind: What the kind is called.
        not_foldable: Why its effect cannot be folded into the tower's weights; empty where it can.
        before: Settings that manifests did not always have, as they were until then.
        train_layernorm: Train every output LayerNorm of the tower beside the delta.
        tune_head: Train the text head too; its tensors are stored with the delta.
        hard_prompt: Text that is put before every caption, in training and at inference.

    Raises:
        XcliptError: A setting is out of range.
    """

    kind: ClassVar[str]
    not_foldable: ClassVar[str] = "nothing says how it folds into the tower's weights"
    before: ClassVar[Mapping[str, Any]] = {}

    train_layernorm: bool = True
    tune_head: bool = False
    hard_prompt: str = ""

    def __post_init__(self) -> None:
        require_finite(self)
        for entry in fields(self):
            least, value = entry.metadata.get("least"), getattr(self, entry.name)
            if value is None and entry.type == int | None:
                continue
            if entry.type in (int, int | None) and type(value) is not int:
                raise XcliptError("must be a whole number", field=entry.name, value=value)
            if least is not None and value < least:
                raise XcliptError(f"must be at least {least}", field=entry.name, value=value)
            choices = entry.metadata.get("choices")
            if choices and value not in choices:
                raise XcliptError(f"choose {', '.join(choices)}", field=entry.name, value=value)

    @abstractmethod
    def insert(
        self, tower: "TextTower", tokenizer: "CaptionTokenizer | None"
    ) -> "nn.Module | None":
        """Put the kind's modules into ``tower``, a copy that shares the backbone's weights.

        Their initial values are OpenDelta's own.

        Args:
            tower: The copy.
            tokenizer: The tower's, where it is at hand.

        Returns:
            The module whose parameters are the inserted ones; ``None`` without any.

        Raises:
            XcliptError: The settings do not suit the tower.
        """

    def make_identity(self, modules: "nn.Module") -> None:  # noqa: B027
        """Change fresh modules so that they do nothing yet, where they would and can be told to.

        Args:
            modules: What :meth:`insert` gave.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """What it is, in words for a card: ``A LoRA of the query and value projections``."""

    def borrowed(self, tower: "TextTower") -> "dict[str, nn.Parameter]":
        """The tower's own parameters that are trained beside the modules, by their delta names."""
        trained = {}
        if self.train_layernorm:
            for module_name, module in tower.encoder.named_modules():
                if module_name.endswith(tower.module_names.layer_norms):
                    for kind, parameter in module.named_parameters(recurse=False):
                        trained[f"{module_name}.{kind}"] = parameter
        return trained | self._head(tower)

    def folded(
        self, tensors: "Mapping[str, Tensor]", frozen: "Callable[[str], Tensor]"
    ) -> "dict[str, Tensor]":
        """The tower's weights that the delta changes, by the delta's own names for them.

        Args:
            tensors: The delta's.
            frozen: The backbone's weight of a name.

        Raises:
            XcliptError: It cannot be folded.
        """
        raise XcliptError(f"a delta of kind '{self.kind}' cannot be folded: {self.not_foldable}")

    def counted(self, tokenizer: "CaptionTokenizer | None") -> Self:
        """The spec with every number that the tower's tokenizer decides, where it is at hand."""
        return self

    @property
    def positions(self) -> int:
        """How many of the tower's positions it takes from every text."""
        return 0

    @property
    def architecture(self) -> Self:
        """Equal for deltas whose modules have the same shapes and the same forward."""
        return replace(self, hard_prompt="")

    def prompted(self, caption: str) -> str:
        """The caption as the tower is given it."""
        return with_prompt(self.hard_prompt, caption)

    def _head(self, tower: "TextTower") -> "dict[str, nn.Parameter]":
        if not self.tune_head:
            return {}
        head = {HEAD + name: p for name, p in tower.head.named_parameters()}
        if not head:
            raise XcliptError(
                "the tower has no text head: what its encoder makes is in the joint space",
                field="tune_head",
            )
        return head
