"""Translations that exist already: beside a data set, or in a file of the user's."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from xclipt.data.dataset import Dataset, TranslatedLines
from xclipt.data.parallel import read_lines
from xclipt.errors import XcliptError
from xclipt.translation.store import Translator

_TABLES = (".tsv", ".tsv.gz")


class FileEngine:
    """Gives the translations that are in files; of texts that are there twice, the first.

    Args:
        name: What the files are called together.
        parts: Files with the texts that they are translations of.
    """

    batch_size = 5000
    by_length = False

    def __init__(self, name: str, parts: Iterable[TranslatedLines]) -> None:
        self._texts: dict[str, str] = {}
        digest = hashlib.sha256()
        files, others = [], 0
        for part in parts:
            files.append(part.file)
            for source, text in zip(part.sources, part.texts, strict=True):
                digest.update(f"{source}\n{text}\n".encode())
                if source:
                    others += self._texts.setdefault(source, text) != text
        self.translator = Translator("file", name, digest.hexdigest()[:12])
        self.about = "file: " + ", ".join(str(file) for file in files)
        if others:
            self.about += f" (of {others:,} texts that are there again the first translation)"

    def covers(self, text: str) -> bool:
        return text in self._texts

    def translate(self, texts: Sequence[str]) -> list[str]:
        return [self._texts[text] for text in texts]


def published(dataset: Dataset, source: str, target: str) -> FileEngine | None:
    """The translations that came with a data set; ``None`` where there are none.

    Raises:
        XcliptError: A file of theirs is unusable.
    """
    parts = dataset.translations(source, target, None)
    return FileEngine(f"{dataset.name}-{parts[0].file.parent.name}", parts) if parts else None


def from_file(path: Path, captions: Sequence[str]) -> FileEngine:
    """The translations in one file.

    Args:
        path: ``.tsv`` (or ``.tsv.gz``): lines of a text, a tab and its translation. Any other: a
            translation a line, the k-th of the k-th caption. ``.gz`` is unpacked.
        captions: The data set's captions, in its order.

    Raises:
        XcliptError: The file is unusable, or has not as many lines as there are captions.
    """
    if not path.is_file():
        raise XcliptError(f"--file {path}: no such file")
    if path.name.lower().endswith(_TABLES):
        return FileEngine(path.name, [_read_table(path)])
    texts = read_lines(path)
    if len(texts) != len(captions):
        raise XcliptError(
            f"--file {path}: {len(texts):,} lines for {len(captions):,} captions; give one line a "
            "caption, or a .tsv of captions and translations"
        )
    return FileEngine(path.name, [TranslatedLines(path, tuple(captions), tuple(texts))])


def _read_table(path: Path) -> TranslatedLines:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t")
        if line and len(cells) == 1:
            cells.append("")  # an empty translation, whose tab went with the outer white space
        if line and len(cells) != 2:
            raise XcliptError(
                f"--file {path}: line {number} has {len(cells)} columns; give two, a text and its "
                "translation"
            )
        if line:
            rows.append((cells[0].strip(), cells[1].strip()))
    if not rows:
        raise XcliptError(f"--file {path}: empty; give lines of a text, a tab and its translation")
    sources, texts = zip(*rows, strict=True)
    return TranslatedLines(path, sources, texts)
