"""Translations that have been made already, for whoever needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.errors import XcliptError, recommended
from xclipt.translation.dropped import dropped_error
from xclipt.translation.store import Direction, Translation, TranslationStore, Translator, stores


@dataclass(frozen=True)
class LookedUp:
    """Translations of texts, in their order, all by one translator.

    Attributes:
        texts: The translations; ``None`` for what was not translated or was dropped.
        absent: Positions of the texts that were never translated. The other texts without a
            translation have one that the guards of ``xclipt translate`` dropped.
        translator: Who made them; ``None`` where nobody translated any.
        dropped: Those that the guards dropped.
    """

    texts: tuple[str | None, ...]
    absent: frozenset[int]
    translator: Translator | None
    dropped: tuple[Translation, ...] = ()

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
    """Translations of ``texts`` by one translator: the one that has most of them to use.

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
            stored = [store.get(text) for text in texts]
            found = LookedUp(
                tuple(None if t is None or t.dropped else t.text for t in stored),
                frozenset(i for i, translation in enumerate(stored) if translation is None),
                store.translator,
                tuple(translation for translation in stored if translation and translation.dropped),
            )
            # Where there are none to use, one that dropped some can say why.
            if found.missing < best.missing or (best.translator is None and found.dropped):
                best = found
    return best


def captions_translated(
    directory: ArtifactDirectory,
    captions: Sequence[str],
    direction: Direction,
    dataset: str,
    translator: str | None = None,
) -> tuple[tuple[str, ...], Translator, int]:
    """Captions as queries in another language, at validation and at search.

    A caption whose translation was dropped stays as it is: a user's query cannot be left out.

    Returns:
        The texts, who translated them, and how many stayed as they are.

    Raises:
        XcliptError: Some were never translated, or the translations of all were dropped.
    """
    found = look_up(directory, captions, direction, translator)
    if found.absent or found.translator is None:
        english = "English " if direction.source == "en" else ""
        raise absent_error(
            f"{len(found.absent):,} of {len(captions):,} {english}captions",
            direction,
            dataset,
            translator,
            directory,
        )
    if captions and found.missing == len(captions):
        raise dropped_error(
            f"{dataset}: no caption in '{direction.source}' to use",
            direction,
            dataset,
            found.dropped,
            found.missing,
            found.translator,
        )
    pairs = zip(found.texts, captions, strict=True)
    texts = tuple(caption if text is None else text for text, caption in pairs)
    return texts, found.translator, found.missing


def absent_error(
    what: str,
    direction: Direction,
    dataset: str,
    translator: str | None,
    directory: ArtifactDirectory,
    paper_shots: int | None = None,
) -> XcliptError:
    """The refusal that names the command to run: ``what`` of the data set is not translated.

    Args:
        paper_shots: Training pictures of the paper's split, where that is what is wanted; without,
            the command translates all of the data set.
    """
    by = f" by '{translator}'" if translator else ""
    other = ", or name another: `translator=NAME`" if translator else ""
    command = recommended(
        "translate",
        lang=direction.language,
        direction=direction.name,
        dataset=dataset,
        split=None if paper_shots is None else "paper",
        shots=paper_shots,
        artifacts=directory.root,
    )
    return XcliptError(
        f"{dataset}: {what} have no translation{by} from '{direction.source}' into "
        f"'{direction.target}'; run {command} first{other}"
    )


def _is_called(store: TranslationStore, name: str) -> bool:
    translator = store.translator
    return name in (translator.engine, translator.model, translator.name)
