"""Translations that have been made already, for whoever needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.translation.store import Translation, TranslationStore, Translator, stores


@dataclass(frozen=True)
class LookedUp:
    """Translations of texts, in their order, all by one translator.

    Attributes:
        texts: The translations; ``None`` for what was not translated or was dropped.
        translator: Who made them; ``None`` where nobody translated any.
    """

    texts: tuple[str | None, ...]
    translator: Translator | None

    @property
    def missing(self) -> int:
        """How many of the texts have no translation."""
        return sum(text is None for text in self.texts)


def look_up(
    directory: ArtifactDirectory,
    texts: Sequence[str],
    source: str,
    target: str,
    engine: str | None = None,
) -> LookedUp:
    """Translations of ``texts`` by one translator: the one that has most of them.

    Among those that have as many, the first by name is taken.

    Args:
        directory: Where the translations are.
        texts: Texts in the language ``source``.
        source: ISO 639-1 code.
        target: ISO 639-1 code.
        engine: Consider only translators of this engine, of this model, or of this folder name.

    Raises:
        XcliptError: A translator's file cannot be read.
    """
    best = LookedUp((None,) * len(texts), None)
    for store in stores(directory, source, target):
        if engine is None or _is_called(store, engine):
            found = LookedUp(tuple(_usable(store.get(text)) for text in texts), store.translator)
            if found.missing < best.missing:
                best = found
    return best


def _is_called(store: TranslationStore, engine: str) -> bool:
    translator = store.translator
    return engine in (translator.engine, translator.model, translator.name)


def _usable(translation: Translation | None) -> str | None:
    return None if translation is None or translation.dropped else translation.text
