"""Translations that a routine needs, from those that ``xclipt translate`` stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from xclipt.alignment.routines import Direction
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.errors import XcliptError
from xclipt.translation.lookup import look_up
from xclipt.translation.store import TranslationStore, Translator


@dataclass(frozen=True)
class Translations:
    """Translations of texts, in their order, all by one translator.

    Attributes:
        texts: The translations; ``None`` where there is no usable one.
        absent: Positions of the texts that were never translated. The other texts without a
            translation have one that the guards of ``xclipt translate`` dropped.
        translator: Who made them; ``None`` where nobody translated any.
    """

    texts: tuple[str | None, ...]
    absent: frozenset[int]
    translator: Translator | None


def translations(
    directory: ArtifactDirectory,
    texts: Sequence[str],
    direction: Direction,
    translator: str | None = None,
) -> Translations:
    """The translations of ``texts`` by the named translator, or by the one that has most.

    Args:
        translator: Name of an engine, a model or a translator's folder.

    Raises:
        XcliptError: A translator's file cannot be read.
    """
    found = look_up(directory, texts, direction.source, direction.target, translator)
    lacking = [i for i, text in enumerate(found.texts) if text is None]
    if lacking and found.translator:
        store = TranslationStore(directory, found.translator, direction.source, direction.target)
        lacking = [i for i in lacking if texts[i] not in store]
    return Translations(found.texts, frozenset(lacking), found.translator)


def translated_captions(
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
    found = translations(directory, captions, direction, translator)
    if found.absent or found.translator is None:
        raise absent_error(
            f"{len(found.absent):,} of {len(captions):,} captions",
            direction,
            dataset,
            translator,
        )
    pairs = zip(found.texts, captions, strict=True)
    texts = tuple(caption if text is None else text for text, caption in pairs)
    return texts, found.translator, sum(text is None for text in found.texts)


def absent_error(
    what: str, direction: Direction, dataset: str, translator: str | None
) -> XcliptError:
    """The refusal that names the command to run: ``what`` of the data set is not translated."""
    by = f" by '{translator}'" if translator else ""
    other = ", or name another with --translations" if translator else ""
    return XcliptError(
        f"{dataset}: {what} have no translation{by} from '{direction.source}' into "
        f"'{direction.target}'; run `xclipt translate --lang {direction.language} "
        f"--direction {direction.option} --dataset {dataset}` first{other}"
    )
