"""Parallel sentences, screened once and kept in an order that seed and content fix."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.errors import XcliptError, blaming_what_was_named
from xclipt.files import content_hash, file_key, placing, sweep
from xclipt.parallel.buckets import Buckets
from xclipt.parallel.pairs import SentencePair
from xclipt.parallel.screening import DUPLICATES, Screen, find_doubt, told
from xclipt.parallel.source import Source
from xclipt.parallel.sources import ParallelRequest, open_sources
from xclipt.parallel.stored import (
    CARD,
    FORMAT,
    OFFSETS,
    PAIRS,
    StoredPairs,
    check_pairs,
    open_pairs,
    read_card,
)
from xclipt.progress import Progress

_KEY_BYTES = 16
_MEGABYTE = 1 << 20
_OFFSETS_IN_MEMORY = 1 << 16


def store_pairs(
    directory: ArtifactDirectory, request: ParallelRequest, progress: Progress
) -> StoredPairs:
    """Read, screen and keep the pairs of a request, or find those that were kept before.

    Sources are read once, as streams. The order is that of a hash of seed and pair: whatever the
    order and number of the sources, the first 10 of 50 are the same 10, and of equal pairs one is
    kept.

    Args:
        directory: Where they are kept, in ``parallel/LANG/KEY/``; the key is a hash of the sources'
            content and of how they are read.
        request: Which.
        progress: Told of what was understood and left out.

    Raises:
        UsageError: A source is not there, is malformed, or holds no pairs of the language.
        XcliptError: The directory cannot be written to, or what is there is damaged.
    """
    with blaming_what_was_named():
        sources = open_sources(request)
        before = [source.content() for source in sources]
    name = ",".join(source.name for source in sources)
    folder = directory.root / "parallel" / request.language / _key(request, sources, before)
    sweep(folder.parent)
    if not (folder / CARD).is_file():
        _store(folder, request, sources, before, progress)
    else:
        card = read_card(folder)
        progress.note(_said(name, request.language, card, "read before"))
    if problem := check_pairs(folder):
        raise XcliptError(f"{folder}: {problem}")
    pairs = open_pairs(folder, name)
    if doubt := find_doubt(pairs, request.language):
        progress.note(f"{name}: {doubt}; check the language and the columns")
    return pairs


def _key(request: ParallelRequest, sources: Sequence[Source], content: Sequence[str]) -> str:
    reading = request.reading
    plain = [
        FORMAT,
        request.language,
        request.seed,
        reading.encoding,
        sorted(reading.columns.items()),
        [[source.layout, known] for source, known in zip(sources, content, strict=True)],
    ]
    return content_hash(json.dumps(plain).encode())[:16]


def _store(
    folder: Path,
    request: ParallelRequest,
    sources: Sequence[Source],
    content: Sequence[str],
    progress: Progress,
) -> None:
    keyed = hashlib.blake2b(digest_size=_KEY_BYTES, key=str(request.seed).encode()[:64])
    screens = [Screen(request.language) for _ in sources]
    with placing(folder) as aside:
        buckets = Buckets(aside)
        for source, known, screen in zip(sources, content, screens, strict=True):
            for pair in _screened(source, known, screen, progress):
                line = f"{pair.english}\t{pair.text}".encode()
                digest = keyed.copy()
                digest.update(line)
                buckets.add(digest.digest(), line)
        left_out = sum((screen.left_out for screen in screens), Counter[str]())
        sums = _write(buckets, aside)
        left_out[DUPLICATES] = sum(screen.kept for screen in screens) - sums["pairs"]
        card = {
            "format": FORMAT,
            "language": request.language,
            "source": ",".join(source.name for source in sources),
            "seed": request.seed,
            "pairs": sums["pairs"],
            "left_out": dict(+left_out),
            "sha256": sums["sha256"],
            "offsets": sums["offsets"],
        }
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
        (aside / CARD).write_text(text, encoding="utf-8")
    layout = sources[0].layout
    for source, screen in zip(sources, screens, strict=True) if len(sources) > 1 else ():
        own = {"pairs": screen.kept, "left_out": screen.left_out}
        progress.note(_said(source.name, request.language, own, source.layout))
        layout = "together"
    progress.note(_said(card["source"], request.language, card, layout))


def _screened(
    source: Source, content: str, screen: Screen, progress: Progress
) -> Iterator[SentencePair]:
    task = progress.start(f"Reading {source.name}, MB", source.size // _MEGABYTE)
    told_of = done = 0

    def advance(count: int) -> None:
        nonlocal told_of, done
        done += count
        if steps := done // _MEGABYTE - told_of:
            told_of += steps
            task.advance(steps)

    with blaming_what_was_named():
        try:
            for pair in source.read(advance):
                if fit := screen(pair):
                    yield fit
        finally:
            task.finish()
        screen.require_fit(source.name, source.exchanged)
        if source.content() != content:
            raise XcliptError(f"{source.name}: was changed while it was read; start again")


def _write(buckets: Buckets, folder: Path) -> dict[str, Any]:
    """Write the lines by their keys, each once, and where they begin."""
    digest, last, pairs = hashlib.sha256(), b"", 0
    with (folder / PAIRS).open("wb") as file, _Offsets(folder / OFFSETS) as offsets:
        for line in buckets.sorted(_KEY_BYTES):
            if line != last:
                file.write(line)
                digest.update(line)
                offsets.add(file.tell())
                last, pairs = line, pairs + 1
    return {
        "pairs": pairs,
        "sha256": digest.hexdigest(),
        "offsets": file_key(folder / OFFSETS).hex(),
    }


class _Offsets:
    """An array of numpy's that grows on disk, and begins with 0: a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._waiting = array("Q", (0,))
        self._count = 0

    def __enter__(self) -> "_Offsets":
        self._head()
        return self

    def __exit__(self, *exception: object) -> None:
        self._put_away()
        self._file.seek(0)
        self._head()
        self._file.close()

    def add(self, offset: int) -> None:
        self._waiting.append(offset)
        if len(self._waiting) >= _OFFSETS_IN_MEMORY:
            self._put_away()

    def _put_away(self) -> None:
        self._count += len(self._waiting)
        self._waiting.tofile(self._file)
        del self._waiting[:]

    def _head(self) -> None:
        # As long for any number: numpy leaves room for it to grow.
        kind = np.lib.format.dtype_to_descr(np.dtype(np.uint64))
        plain = {"descr": kind, "fortran_order": False, "shape": (self._count,)}
        np.lib.format.write_array_header_1_0(self._file, plain)


def _said(source: str, language: str, card: Mapping[str, Any], layout: str) -> str:
    left_out = told(card["left_out"])
    return (
        f"{source}: {card['pairs']:,} pairs en-{language} ({layout})"
        f"{'; left out: ' if left_out else ''}{left_out}"
    )
