"""What every engine is to the rest of xclipt, and what it is opened for: one row an engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError
from xclipt.translation.store import FROM_FILE, Translator

AUTO = "auto"
"""What ``engine`` may be beside a program: left to choose, or translations that exist."""


class Engine(Protocol):
    """Translates texts of one language into one other.

    Attributes:
        translator: Who makes the translations; the key that they are kept under.
        about: One line for the user: what it is, and why it was taken if it was chosen.
        batch_size: How many texts it likes to be given at once.
        by_length: Whether it works faster on texts of about one length.
    """

    @property
    def translator(self) -> Translator: ...
    @property
    def about(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def by_length(self) -> bool: ...

    def covers(self, text: str) -> bool:
        """Whether it has a translation of ``text`` to give."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation a text, in order. The first call may load a model.

        Raises:
            XcliptError: It failed, or gave more or fewer translations than texts.
        """


@runtime_checkable
class CuttingEngine(Protocol):
    """An engine that translates the beginning alone of a text that is too long for it."""

    @property
    def cut(self) -> int:
        """To how many texts that happened so far."""


@dataclass(frozen=True)
class EngineRequest:
    """Which engine the user asks for.

    Attributes:
        engine: The name of one, or ``auto``.
        model: A hub id, a folder, or Apertium's chain of pairs.
        file: Translations that exist, for ``file``.
        beams: Width of the beam search; the engine's own choice without.
        batch_size: Texts at once; the engine's own choice without.
        device: Where a model runs, as :func:`xclipt.devices.choose_device` takes it.
        dtype: In which numbers, as :func:`xclipt.devices.choose_dtype` takes it.

    Raises:
        XcliptError: There is a file, and an engine or model that does not read it.
    """

    engine: str = AUTO
    model: str | None = None
    file: Path | None = None
    beams: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.file is not None and (self.engine not in (AUTO, FROM_FILE) or self.model):
            raise XcliptError("goes with `engine=file` and without `model`", field="file")


@dataclass(frozen=True)
class TranslationTask:
    """What an engine is wanted for.

    Attributes:
        dataset: The data set whose captions are translated.
        captions: All of them, in its order.
        source: ISO 639-1 code of the captions.
        target: ISO 639-1 code of the translations.
        fetch: Whether a model may be fetched from the hub.
    """

    dataset: Dataset
    captions: Sequence[str]
    source: str
    target: str
    fetch: bool = True


@dataclass(frozen=True)
class EngineKind:
    """One engine: how it is opened when it is named, and when it is left to choose.

    Attributes:
        name: What ``engine`` takes, and what its translators are stored under.
        open: Opens it, or raises :class:`~xclipt.errors.XcliptError` where it cannot be had or
            does not take what else is asked.
        at_hand: Opens it if all that it needs is there already, saying in ``about`` why it was
            taken; ``None`` otherwise.
    """

    name: str
    open: Callable[[EngineRequest, TranslationTask], Engine]
    at_hand: Callable[[EngineRequest, TranslationTask], Engine | None]
