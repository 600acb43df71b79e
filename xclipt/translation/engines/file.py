"""Translations that exist already: beside a data set, or in a file of the user's."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from xclipt.data.dataset import Dataset, TranslatedLines
from xclipt.data.formats.lines import read_lines
from xclipt.errors import XcliptError
from xclipt.translation.engines.engine import EngineKind, EngineRequest, TranslationTask
from xclipt.translation.store import FROM_FILE, Translator

BATCH_SIZE = 5000
_TABLES = (".tsv", ".tsv.gz")


class FileEngine:
    """Gives the translations that are in files; of texts that are there twice, the first.

    Args:
        name: What the files are called together.
        parts: Files with the texts that they are translations of.
        batch_size: Texts a shard.
    """

    by_length = False

    def __init__(
        self, name: str, parts: Iterable[TranslatedLines], batch_size: int = BATCH_SIZE
    ) -> None:
        self.batch_size = batch_size
        self._texts: dict[str, str] = {}
        digest = hashlib.sha256()
        files, others = [], 0
        for part in parts:
            files.append(part.file)
            for source, text in zip(part.sources, part.texts, strict=True):
                digest.update(f"{source}\n{text}\n".encode())
                if source:
                    others += self._texts.setdefault(source, text) != text
        self.translator = Translator(FROM_FILE, name, digest.hexdigest()[:12])
        self.about = f"{FROM_FILE}: " + ", ".join(str(file) for file in files)
        if others:
            self.about += f" (of {others:,} texts that are there again the first translation)"

    def covers(self, text: str) -> bool:
        return text in self._texts

    def translate(self, texts: Sequence[str]) -> list[str]:
        return [self._texts[text] for text in texts]


def published(
    dataset: Dataset, source: str, target: str, batch_size: int = BATCH_SIZE
) -> FileEngine | None:
    """The translations that came with a data set; ``None`` where there are none.

    Raises:
        XcliptError: A file of theirs is unusable.
    """
    parts = dataset.translations(source, target, None)
    if not parts:
        return None
    return FileEngine(f"{dataset.name}-{parts[0].file.parent.name}", parts, batch_size)


def from_file(path: Path, captions: Sequence[str], batch_size: int = BATCH_SIZE) -> FileEngine:
    """The translations in one file.

    Args:
        path: ``.tsv`` (or ``.tsv.gz``): lines of a text, a tab and its translation. Any other: a
            translation a line, the k-th of the k-th caption. ``.gz`` is unpacked.
        captions: The data set's captions, in its order.
        batch_size: Texts a shard.

    Raises:
        XcliptError: The file is unusable, or has not as many lines as there are captions.
    """
    if not path.is_file():
        raise _unusable(path, "no such file")
    if path.name.lower().endswith(_TABLES):
        return FileEngine(path.name, [_read_table(path)], batch_size)
    texts = read_lines(path)
    if len(texts) != len(captions):
        raise _unusable(
            path,
            f"{len(texts):,} lines for {len(captions):,} captions; give one line a caption, or a "
            ".tsv of captions and translations",
        )
    return FileEngine(path.name, [TranslatedLines(path, tuple(captions), tuple(texts))], batch_size)


def _read_table(path: Path) -> TranslatedLines:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t")
        if line and len(cells) == 1:
            cells.append("")  # an empty translation, whose tab went with the outer white space
        if line and len(cells) != 2:
            raise _unusable(
                path,
                f"line {number} has {len(cells)} columns; give two, a text and its translation",
            )
        if line:
            rows.append((cells[0].strip(), cells[1].strip()))
    if not rows:
        raise _unusable(path, "empty; give lines of a text, a tab and its translation")
    sources, texts = zip(*rows, strict=True)
    return TranslatedLines(path, sources, texts)


def _unusable(path: Path, why: str) -> XcliptError:
    return XcliptError(why, field="file", value=path)


def _open(request: EngineRequest, task: TranslationTask) -> FileEngine:
    batch_size = request.batch_size or BATCH_SIZE
    if request.file is not None:
        return from_file(request.file, task.captions, batch_size)
    if request.model or request.beams is not None:
        raise XcliptError(
            "`model` and `beams` go with the engines that run a model",
            field="engine",
            value=FROM_FILE,
        )
    if engine := published(task.dataset, task.source, task.target, batch_size):
        return engine
    raise XcliptError(
        f"no translations from {task.source} to {task.target} lie beside {task.dataset.name}; "
        "name a `file`",
        field="engine",
        value=FROM_FILE,
    )


def _at_hand(request: EngineRequest, task: TranslationTask) -> FileEngine | None:
    if request.file is not None:
        return _open(request, task)
    if request.model:
        return None
    engine = published(task.dataset, task.source, task.target, request.batch_size or BATCH_SIZE)
    if engine:
        engine.about += f" (auto: they lie beside {task.dataset.name})"
    return engine


FILE = EngineKind(FROM_FILE, _open, _at_hand)
