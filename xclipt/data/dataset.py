"""What every data set is to the rest of xclipt: pictures, and captions by language and split."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xclipt.errors import UsageError, XcliptError


@dataclass(frozen=True)
class CaptionedPicture:
    """One picture and its captions in one language.

    ``image`` names the picture within its data set and is the same for every language.
    """

    image: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class TranslatedLines:
    """A file of translations that came with a data set, and the captions that they are of.

    ``sources[k]`` was translated to ``texts[k]``; both without outer white space, and either may
    be empty.
    """

    file: Path
    sources: tuple[str, ...]
    texts: tuple[str, ...]


class Dataset(ABC):
    """Captioned pictures in several languages.

    Attributes:
        name: The name that it is opened by, or its folder's.
        languages: ISO 639-1 codes, English first where it is there.
        splits: The splits it is published with; empty when its pictures are not split.
        caption: The number of the one caption that it has of every picture, where that was asked
            for (:mod:`xclipt.data.one_caption`); ``None`` where it has all.
        notes: One-line remarks for the user: what was left out, and how much of it.
    """

    name: str
    languages: tuple[str, ...]
    splits: tuple[str, ...]
    caption: int | None = None
    notes: list[str]

    def __init__(self) -> None:
        self.notes = []

    @abstractmethod
    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        """The captioned pictures of one language and split (``None``: all), in a fixed order.

        Raises:
            XcliptError: The language or split is not there, or its file is not usable.
        """

    @abstractmethod
    def picture_path(self, image: str) -> Path:
        """Where the picture's file is, or would be. Pictures that are drawn are drawn here."""

    def translations(self, source: str, target: str, split: str | None) -> list[TranslatedLines]:
        """Translations that lie beside the captions, from or to English; none in most data sets.

        Raises:
            XcliptError: A file is unusable, or has not as many lines as there are captions.
        """
        return []

    def _note(self, remark: str) -> None:
        if remark not in self.notes:
            self.notes.append(remark)

    def _require(self, language: str, split: str | None) -> None:
        if language not in self.languages:
            raise UsageError(
                f"{self.name}: no captions in '{language}'; it has {', '.join(self.languages)}"
            )
        if split is not None and split not in self.splits:
            raise XcliptError(
                f"{self.name} has {', '.join(self.splits) or 'no splits'}",
                field="split",
                value=split,
            )


def _recognises_nothing(folder: Path) -> Dataset | None:
    return None


@dataclass(frozen=True)
class KnownSet:
    """A published data set that xclipt knows by name.

    Attributes:
        name: What :func:`~xclipt.data.registry.open_dataset` takes.
        published_as: What its publisher calls it.
        languages: As :attr:`Dataset.languages`.
        licence: What pictures and captions may be used for.
        needs: What has to be on disk, for messages.
        open: Opens it from the data root; ``None`` where it is not on disk.
        open_folder: Opens a folder in its publisher's layout; ``None`` for any other folder.
    """

    name: str
    published_as: str
    languages: tuple[str, ...]
    licence: str
    needs: str
    open: Callable[[Path | None], Dataset | None]
    open_folder: Callable[[Path], Dataset | None] = _recognises_nothing
