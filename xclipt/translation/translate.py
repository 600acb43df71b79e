"""``translate``: what is new of a data set's captions goes through an engine into the store."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.splits import PAPER, PAPER_SEED, PaperSplit
from xclipt.errors import FailedError, XcliptError
from xclipt.progress import Progress
from xclipt.translation.dropped import look_of
from xclipt.translation.engines.engine import CuttingEngine, Engine
from xclipt.translation.guards import find_faults
from xclipt.translation.scores import Scores, score
from xclipt.translation.store import (
    FROM_EN,
    TO_EN,
    Direction,
    Translation,
    TranslationStore,
    Translator,
)

DIRECTIONS = (TO_EN, FROM_EN)
KEEP, DROP, ERROR = ON_BAD = ("keep", "drop", "error")


@dataclass(frozen=True)
class Captions:
    """What is to be translated, and what people wrote in the other language.

    Attributes:
        pictures: The captioned pictures of the language that is translated from.
        source: ISO 639-1 code of that language.
        target: ISO 639-1 code of the other.
        references: Captions in the other language by picture; empty where it has none.
    """

    pictures: tuple[CaptionedPicture, ...]
    source: str
    target: str
    references: dict[str, tuple[str, ...]]

    @property
    def direction(self) -> Direction:
        """From which language into which."""
        return Direction(self.source, self.target)

    @property
    def rows(self) -> list[str]:
        """Every caption, in the order of the data set."""
        return [caption for picture in self.pictures for caption in picture.captions]

    def texts(self, limit: int | None = None) -> list[str]:
        """The captions without those that are there already, at most ``limit``."""
        return list(dict.fromkeys(self.rows))[:limit]


@dataclass(frozen=True)
class TranslationReport:
    """What became of the captions of one language.

    Attributes:
        language: The language that is not English.
        direction: ``to-en`` or ``from-en``.
        translator: Who translated.
        about: The engine in one line, and why it was taken if it was chosen.
        texts: Different captions that were asked for.
        translated: How many of them are new; with a dry run, would be.
        cached: How many had been translated before.
        missing: How many the engine has no translation of.
        dropped: How many are kept from use.
        flags: How many each guard found fault with; only those that found any.
        scores: chrF and BLEU of all that are translated, dropped or not, against what people
            wrote; ``None`` where nobody did.
        seconds: How long translating took.
    """

    language: str
    direction: str
    translator: Translator
    about: str
    texts: int
    translated: int
    cached: int
    missing: int
    dropped: int
    flags: dict[str, int]
    scores: Scores | None
    seconds: float


def captions_to_translate(
    dataset: Dataset,
    language: str,
    direction: str,
    split: str | None,
    shots: int | None = None,
    split_seed: int = PAPER_SEED,
) -> Captions:
    """The captions of ``language`` (``to-en``), or the English ones (``from-en``).

    Args:
        dataset: Where the captions are.
        language: ISO 639-1 code of the language that is not English.
        direction: ``to-en`` or ``from-en``.
        split: One of the data set's own; ``None`` is all of it; ``paper`` is what the paper's split
            needs: ``to-en`` the captions that are trained, validated and tested on, ``from-en`` the
            English ones of the training pictures, as nothing else meets a translation.
        shots: Training pictures of the paper's split.
        split_seed: What it draws with.

    Raises:
        XcliptError: The data set has no such captions or split, or the language is English.
    """
    if direction not in DIRECTIONS:
        raise XcliptError(f"choose {', '.join(DIRECTIONS)}", field="direction", value=direction)
    if language == "en":
        raise XcliptError(
            "English is what the others are translated to or from", field="language", value=language
        )
    way = Direction.of(language, direction)
    source, target = way.source, way.target
    parts: Sequence[str | None] = (split,)
    if split == PAPER and split not in dataset.splits:
        dataset = view = PaperSplit(dataset, shots, split_seed)
        parts = ("train",) if direction == FROM_EN else view.parts
    pictures = [picture for part in parts for picture in dataset.captions(source, part)]
    human = (
        [picture for part in parts for picture in dataset.captions(target, part)]
        if target in dataset.languages
        else []
    )
    references = {picture.image: picture.captions for picture in human}
    return Captions(tuple(pictures), source, target, references)


def translate(
    directory: ArtifactDirectory | None,
    engine: Engine,
    captions: Captions,
    progress: Progress,
    *,
    on_bad: str = DROP,
    limit: int | None = None,
    dry_run: bool = False,
) -> TranslationReport:
    """Translate what the directory does not have yet, a batch at a time.

    A batch is stored when it is done, so that a kill loses one at most; the batches of a run that
    is taken up again are those of a run that was left alone, and so are its files.

    Args:
        directory: Where translations are kept; ``None`` is a new one, for a dry run.
        engine: What translates.
        captions: What is translated.
        progress: Listens.
        on_bad: What becomes of translations that guards find fault with: ``keep`` lets them be
            used, ``drop`` stores them as not to be used, ``error`` stops. Holds for what was
            translated before as well.
        limit: Translate at most so many different captions, the first ones.
        dry_run: Tell what would be translated, and write nothing.

    Raises:
        XcliptError: The engine failed, the directory cannot be written to, or a translation is
            bad and ``on_bad`` is ``error``.
    """
    if on_bad not in ON_BAD:
        raise XcliptError(f"choose {', '.join(ON_BAD)}", field="on_bad", value=on_bad)
    source, target = captions.source, captions.target
    judge = partial(_judge, source=source, target=target, on_bad=on_bad)
    store = TranslationStore(directory, engine.translator, source, target) if directory else None
    texts = captions.texts(limit)
    new = [text for text in texts if store is None or text not in store]
    wanted = [text for text in new if engine.covers(text)]
    started = time.monotonic()
    if store is not None and not dry_run:
        store.revise(judge)
        _translate_new(store, engine, wanted, judge, progress, f"{source}-{target}")
    done = [found for text in texts if store and (found := store.get(text))]
    dropped = [translation for translation in done if translation.dropped]
    if dropped and 2 * len(dropped) >= len(done):
        progress.note(
            f"{source} to {target}: {look_of(dropped, len(done), target)}, and are dropped; take "
            f"another `engine` or `file`, or `on_bad={KEEP}` to use them as they are"
        )
    return TranslationReport(
        language=captions.direction.language,
        direction=captions.direction.name,
        translator=engine.translator,
        about=engine.about,
        texts=len(texts),
        translated=len(wanted),
        cached=len(texts) - len(new),
        missing=len(new) - len(wanted),
        dropped=len(dropped),
        flags=dict(Counter(flag for translation in done for flag in translation.flags)),
        scores=_score(captions, done),
        seconds=time.monotonic() - started,
    )


def _translate_new(
    store: TranslationStore,
    engine: Engine,
    texts: Sequence[str],
    judge: "partial[Translation]",
    progress: Progress,
    direction: str,
) -> None:
    if engine.by_length:
        # The longest first: what does not fit into memory fails at once.
        texts = sorted(texts, key=lambda text: (-len(text), text))
    task = progress.start(f"Translating {direction}", len(texts))
    started = time.monotonic()
    try:
        for start in range(0, len(texts), engine.batch_size):
            batch = texts[start : start + engine.batch_size]
            made = engine.translate(batch)
            if len(made) != len(batch):
                raise FailedError(
                    f"gave {len(made)} translations of {len(batch)} texts; take another `engine` "
                    "or `model`",
                    field="engine",
                    value=engine.translator.engine,
                )
            judged = [
                judge(Translation(text, " ".join(translation.split())))
                for text, translation in zip(batch, made, strict=True)
            ]
            store.add(judged)
            rate = (start + len(batch)) / max(1e-9, time.monotonic() - started)
            task.advance(len(batch), f"{rate:,.1f}/s")
    finally:
        task.finish()
    if texts and isinstance(engine, CuttingEngine) and engine.cut:
        progress.note(
            f"{direction}: {engine.cut:,} of {len(texts):,} texts are too long for "
            f"{engine.translator.model} and were cut before they were translated"
        )


def _judge(translation: Translation, source: str, target: str, on_bad: str) -> Translation:
    faults = find_faults(translation.source, translation.text, source, target)
    if faults and on_bad == ERROR:
        raise FailedError(
            f"'{_short(translation.source)}' was translated to '{_short(translation.text)}' "
            f"({', '.join(faults)}); `on_bad={DROP}` goes on without such, {KEEP} with them",
            field="on_bad",
            value=on_bad,
        )
    return replace(translation, flags=faults, dropped=bool(faults) and on_bad == DROP)


def _score(captions: Captions, done: Sequence[Translation]) -> Scores | None:
    by_text = {translation.source: translation.text for translation in done}
    translations, references = [], []
    for picture in captions.pictures:
        human = captions.references.get(picture.image, ())
        for caption in picture.captions:
            if human and caption in by_text:
                translations.append(by_text[caption])
                references.append(human)
    return score(translations, references, captions.target)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
