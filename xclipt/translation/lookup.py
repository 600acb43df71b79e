"""Translations that have been made already, for whoever needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.errors import XcliptError
from xclipt.translation.store import Direction, Translation, TranslationStore, Translator, stores


@dataclass(frozen=True)
class LookedUp:
    """Translations of texts, in their order, all by one translator.

    Attributes:
        texts: The translations; ``None`` for what was not translated or was dropped.
        absent: Positions of the texts that were never translated. The other texts without a
            translation have one that the guards of ``xclipt translate`` dropped.
        translator: Who made them; ``None`` where nobody translated any.
    """

    texts: tuple[str | None, ...]
    absent: frozenset[int]
    translator: Translator | None

    @property
    def missing(self) -> int:
        """How many of the texts have no translation to use."""
        return sum(text is None for text in self.texts)


def look_up(
    directory: ArtifactDirectory,
    texts: Sequence[str],
    direction: Direction,
    translator: str | None = None,
) -> LookedUp:
    """Translations of ``texts`` by one translator: the one that has most of them.

    Among those that have as many, the first by name is taken.

    Args:
        directory: Where the translations are.
        texts: Texts in the direction's source language.
        direction: From which language into which.
        translator: Consider only translators of this engine, of this model, or of this folder name.

    Raises:
        XcliptError: A translator's file cannot be read.
    """
    best = LookedUp((None,) * len(texts), frozenset(range(len(texts))), None)
    for store in stores(directory, direction.source, direction.target):
        if translator is None or _is_called(store, translator):
            found = LookedUp(
                tuple(_usable(store.get(text)) for text in texts),
                frozenset(i for i, text in enumerate(texts) if text not in store),
                store.translator,
            )
            # What was dropped counts for one thing: that somebody translated at all.
            any_at_all = best.translator is None and len(found.absent) < len(texts)
            if found.missing < best.missing or any_at_all:
                best = found
    return best


def captions_in_english(
    directory: ArtifactDirectory,
    captions: Sequence[str],
    language: str,
    dataset: str,
    translator: str | None = None,
) -> tuple[tuple[str, ...], Translator, int]:
    """Captions as a model for text in English is given them, at validation and at search.

    A caption whose translation was dropped stays as it is: a user's query cannot be left out.

    Returns:
        The texts, who translated them, and how many stayed as they are.

    Raises:
        XcliptError: Some were never translated.
    """
    direction = Direction(language, "en")
    found = look_up(directory, captions, direction, translator)
    if found.absent or found.translator is None:
        raise absent_error(
            f"{len(found.absent):,} of {len(captions):,} captions",
            direction,
            dataset,
            translator,
        )
    pairs = zip(found.texts, captions, strict=True)
    texts = tuple(caption if text is None else text for text, caption in pairs)
    return texts, found.translator, found.missing


def absent_error(
    what: str,
    direction: Direction,
    dataset: str,
    translator: str | None,
    paper_shots: int | None = None,
) -> XcliptError:
    """The refusal that names the command to run: ``what`` of the data set is not translated.

    Args:
        paper_shots: Training pictures of the paper's split, where that is what is wanted; without,
            the command translates all of the data set.
    """
    by = f" by '{translator}'" if translator else ""
    other = ", or name another: `translator=NAME`" if translator else ""
    way = (direction.language, direction.name, dataset)
    command = (
        "`xclipt translate --lang {} --direction {} --dataset {}`".format(*way)
        if paper_shots is None
        else "`xclipt translate --lang {} --direction {} --dataset {} --split paper "
        "--shots {}`".format(*way, paper_shots)
    )
    return XcliptError(
        f"{dataset}: {what} have no translation{by} from '{direction.source}' into "
        f"'{direction.target}'; run {command} first{other}"
    )


def _is_called(store: TranslationStore, name: str) -> bool:
    translator = store.translator
    return name in (translator.engine, translator.model, translator.name)


def _usable(translation: Translation | None) -> str | None:
    return None if translation is None or translation.dropped else translation.text
