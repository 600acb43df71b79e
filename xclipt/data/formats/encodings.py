"""Text files of other people's programs: their encoding, which is never guessed in silence."""

import codecs
import gzip
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO, FileIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from xclipt.errors import UsageError, XcliptError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CODE_PAGES = (
    *(f"cp125{n}" for n in (2, 4, 0, 1, 3, 5, 6, 7, 8)),
    *("gb18030", "big5", "cp932", "cp949", "euc_jp", "koi8_r", "koi8_u", "cp874", "mac_roman"),
    *("iso8859_2", "cp850", "cp866"),
)
"""What files are found in, the usual first; others of charset-normalizer's hundred fit as well and
are rare."""
_HEAD = 4096
_LEAST_ZEROS = 0.1
_SAMPLE_LINES = 2000
_SHOWN = 12
_MOST_PROPOSED = 3


Advance = Callable[[int], object]
"""Told of every so many bytes of a file, as it lies on disk, that were read."""


@contextmanager
def open_bytes(path: Path, advance: Advance | None = None) -> Iterator[BinaryIO]:
    """A file's bytes as a stream, unpacked where it ends in ``.gz``.

    Raises:
        XcliptError: The file cannot be read or unpacked; also while it is read.
    """
    try:
        if path.exists() and not path.is_file():
            raise XcliptError(f"{path}: is a {'folder' if path.is_dir() else 'device'}, no file")
        with BufferedReader(_Counted(path, advance)) as packed:
            if path.suffix.lower() != ".gz":
                yield packed
                return
            with gzip.GzipFile(fileobj=packed) as unpacked:
                yield cast(BinaryIO, unpacked)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise XcliptError(f"{path}: damaged gzip file ({error}); fetch or pack it again") from error
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from error


class _Counted(FileIO):
    def __init__(self, path: Path, advance: Advance | None) -> None:
        super().__init__(path)
        self._advance = advance

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer) or 0
        if self._advance:
            self._advance(count)
        return count


@contextmanager
def open_text(
    path: Path,
    encoding: str | None = None,
    *,
    newline: str = "",
    advance: Advance | None = None,
) -> Iterator[TextIO]:
    r"""A text file, gzipped if it ends in ``.gz``, as a stream with its line ends as they are.

    It is UTF-8, or UTF-16 or UTF-32 with a byte order mark, unless ``encoding`` says otherwise.

    Args:
        path: The file.
        encoding: Its code page, where it is not Unicode.
        newline: What ends a line: ``\n`` alone, or without a name ``\r`` and ``\r\n`` too.
        advance: Told of the bytes that were read.

    Raises:
        UsageError: ``encoding`` is none, or not that of the byte order mark.
        XcliptError: The file cannot be read, is no text, or is in another encoding; also while it
            is read. The message proposes one.
    """
    with open_bytes(path) as file:
        head = file.read(_HEAD)
    chosen = _chosen(path, head, encoding)
    try:
        with open_bytes(path, advance) as file:
            yield TextIOWrapper(file, chosen, newline=newline)
    except UnicodeError as error:
        raise XcliptError(_undecodable(path, chosen, encoding)) from error


def read_text(path: Path, encoding: str | None = None) -> str:
    """All of a text file; raises as :func:`open_text` does."""
    with open_text(path, encoding) as text:
        return text.read()


def _chosen(path: Path, head: bytes, encoding: str | None) -> str:
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is None:
        if marked is None and (wide := _without_mark(head)):
            raise XcliptError(
                f"{path}: is UTF-16 without a byte order mark, it seems; "
                f"`encoding={wide}` reads it so"
            )
        return marked or "utf-8-sig"
    try:
        named = codecs.lookup(encoding)
        TextIOWrapper(BytesIO(), encoding)  # refuses what is no encoding of text, such as base64
    except LookupError:
        raise UsageError(
            "no encoding that Python knows; cp1252, cp1254, gb18030 and utf-16 are some",
            field="encoding",
            value=encoding,
        ) from None
    if marked and not marked.startswith(named.name.removesuffix("-sig")):
        raise UsageError(
            f"{path.name} begins with the byte order mark of {marked.removesuffix('-sig')}; "
            "leave it out",
            field="encoding",
            value=encoding,
        )
    return marked or named.name


def _without_mark(head: bytes) -> str | None:
    """UTF-16 shows in zeros at every other place, which no text in UTF-8 has."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even + odd < _LEAST_ZEROS * len(head) or 10 * min(even, odd) > max(even, odd) or not head:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _undecodable(path: Path, chosen: str, asked: str | None) -> str:
    if chosen.startswith(("utf-16", "utf-32")):
        return f"{path}: is damaged {chosen.upper()}; save it again"
    with open_bytes(path) as file:
        if b"\0" in file.read(_HEAD):
            return f"{path}: is no text (it holds zero bytes); name a file of text"
    name = "UTF-8" if chosen.startswith("utf-8") else chosen
    number, sample = _offending(path, chosen)
    told = f"{path}: line {number} is not {name}"
    if asked is not None:
        return f"{told}; name another encoding, or save the file as UTF-8"
    likely = _likely(b"".join(sample), max(sample, key=_strange, default=b""))
    if not likely:
        return f"{told}; save the file as UTF-8, or name its code page with `encoding=NAME`"
    readings = " or ".join(f"{name} ({shown!r})" for name, shown in likely.items())
    way = f"`encoding={next(iter(likely))}` takes {'it' if len(likely) == 1 else 'the first'}"
    return f"{told} but perhaps {readings}; {way}, or save the file as UTF-8"


def _offending(path: Path, encoding: str) -> tuple[int, list[bytes]]:
    """The number of the first line that cannot be decoded; itself and others beyond ASCII."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeError:
                more = islice(file, _SAMPLE_LINES)
                return number, [line, *(one for one in more if not one.isascii())]
    return 1, []


def _strange(line: bytes) -> int:
    """How much a line tells of its encoding: its different bytes that are not ASCII."""
    return len({byte for byte in line if byte > 0x7F})


def _likely(sample: bytes, line: bytes) -> dict[str, str]:
    """What charset-normalizer proposes, the likeliest first, and what a line would be by each."""
    from charset_normalizer import from_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = from_bytes(sample, cp_isolation=list(_CODE_PAGES))
    # Of those that read all the same, and of those that are as likely, the one that people know.
    named = [(match, min(match.could_be_from_charset, key=_CODE_PAGES.index)) for match in found]
    named.sort(key=lambda m: (round(m[0].chaos, 2), -m[0].coherence, _CODE_PAGES.index(m[1])))
    shown: dict[str, str] = {}
    for _, name in named:
        if (text := _excerpt(line, name)) not in shown.values():
            shown[name] = text
    return dict(islice(shown.items(), _MOST_PROPOSED))


def _excerpt(line: bytes, encoding: str) -> str:
    """Where the line has most that is not ASCII, for the user to judge."""
    text = line.decode(encoding, errors="replace").strip()
    foreign = [i for i, character in enumerate(text) if not character.isascii()]
    middle = max(foreign, key=lambda i: sum(abs(i - j) <= _SHOWN for j in foreign), default=0)
    return text[max(0, middle - _SHOWN) : middle + _SHOWN].strip()
