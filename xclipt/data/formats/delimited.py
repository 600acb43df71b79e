"""Delimited text: any separator, quoting and encoding, read as a stream.

:func:`sniff` reads the beginning and says how the file is written; its rows are then read one by
one, in constant memory.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from xclipt.data.formats.encodings import Advance, open_text
from xclipt.errors import XcliptError

SEPARATORS = {",": "commas", ";": "semicolons", "|": "bars", "\t": "tabs"}
"""What may stand between fields, and what messages call it."""

UNNAMED = "unnamed "
"""What a column without a name is called, with its number: the row numbers that pandas writes."""

Mend = Callable[[list[str]], list[str] | None]
"""A row of another length than the header's, as it was meant; ``None`` where nobody can tell."""

_SAMPLE_CHARACTERS = 1 << 16
_SAID_BY_EXCEL = re.compile(r'"?sep=(.)"?[\r\n]+', re.IGNORECASE)


@dataclass(frozen=True)
class _Style:
    """How fields are separated and quoted, as :func:`csv.reader` takes it."""

    separator: str
    quote: str | None = '"'
    spaced: bool = False  # a quotation mark may follow a space
    escaped: bool = False  # \" stands for a quotation mark within quotation marks

    def reader(self, lines: Iterator[str]) -> Any:
        return csv.reader(
            lines,
            delimiter=self.separator,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.spaced,
            doublequote=not self.escaped,
            escapechar="\\" if self.escaped else None,
            strict=True,
        )


@dataclass(frozen=True)
class Delimited:
    """A file of delimited text.

    Attributes:
        path: Where it is.
        names: Its columns, from its first row; those without a name are numbered.
    """

    path: Path
    names: tuple[str, ...]
    _encoding: str | None
    _style: _Style
    _preamble: bool

    @property
    def separator(self) -> str:
        """One of :data:`SEPARATORS`."""
        return self._style.separator

    def rows(
        self,
        mend: Mend | None = None,
        *,
        headed: bool = True,
        advance: Advance | None = None,
    ) -> Iterator[list[str]]:
        """Every row after the first, with a field for each of :attr:`names`; empty ones left out.

        Args:
            mend: Asked for rows that are longer or shorter, before they are refused.
            headed: The first row names the columns; else it is one as the others.
            advance: Told of the bytes that were read.

        Raises:
            XcliptError: A row is neither, a quotation mark is not closed, or the file cannot be
                read. Names the line.
        """
        width = len(self.names)
        with open_text(self.path, self._encoding, advance=advance) as text:
            if self._preamble:
                text.readline()
            reader = self._style.reader(text)
            records = filter(None, reader)
            try:
                if headed:
                    next(records, None)
                for fields in records:
                    if len(fields) > width and not any(fields[width:]):
                        del fields[width:]  # spreadsheets end rows with separators
                    whole = fields if len(fields) == width else mend(fields) if mend else None
                    if whole is None and not any(fields):
                        continue  # and tables with rows of nothing else
                    if whole is None:
                        raise XcliptError(
                            f"{self.path}: line {reader.line_num + self._preamble} has "
                            f"{len(fields)} fields for {width} columns; put quotation marks round "
                            "text that holds a separator"
                        )
                    yield whole
            except csv.Error as error:
                raise XcliptError(
                    f"{self.path}: line {reader.line_num + self._preamble}: {error}; is a "
                    "quotation mark not closed or doubled?"
                ) from error


def sniff(
    path: Path,
    wanted: Callable[[str], bool],
    encoding: str | None = None,
    *,
    sentences: bool = False,
) -> Delimited:
    """How a file of delimited text is written, from its beginning.

    Of the :data:`SEPARATORS` it is the one that makes a wanted column of the header; where that
    does not tell, the one by which all rows are of one length, and that makes the most columns.

    Args:
        path: The file.
        wanted: Whether a column of that name is looked for.
        encoding: As :func:`~xclipt.data.formats.encodings.open_text` takes it.
        sentences: Its first row may be one as the others. Nobody quotes sentences that tabs
            separate, so that a quotation mark far down would swallow lines: it is text.

    Raises:
        UsageError: ``encoding`` is none, or not the file's.
        XcliptError: The file cannot be read or is empty, two columns have one name, or two
            separators do as well as each other.
    """
    with open_text(path, encoding) as text:
        sample = text.read(_SAMPLE_CHARACTERS)
        whole = not text.read(1)
    said = _SAID_BY_EXCEL.match(sample)
    sample = sample[said.end() :] if said else sample
    if not sample.strip():
        needs = "" if sentences else "; its first line must name the columns"
        raise XcliptError(f"{path}: empty{needs}")
    if sentences and "\t" in sample.lstrip("\r\n").splitlines()[0]:
        style = _Style("\t", quote=None)
        return Delimited(
            path,
            _names(next(style.reader(StringIO(sample.lstrip("\r\n"), newline="")))),
            encoding,
            style,
            False,
        )
    candidates = said[1] if said else "".join(SEPARATORS)
    tried = [_try(separator, sample, whole, wanted) for separator in candidates]
    best = max(tried, key=lambda one: one.worth)
    tied = [one.style.separator for one in tried if one.worth == best.worth]
    if len(tied) > 1 and len(best.names) > 1:
        either = " or ".join(SEPARATORS[one] for one in tied)
        ways_out = (
            "separate them with tabs"
            if sentences
            else "call the pictures' column image, or say which it is with `columns=image=NAME`"
        )
        raise XcliptError(f"{path}: {either} may separate its columns; {ways_out}")
    repeated = [name for name in best.names if best.names.count(name) > 1]
    if repeated and not sentences:
        raise XcliptError(
            f"{path}: two columns have the same name, {repeated[0]}; it has {', '.join(best.names)}"
        )
    return Delimited(path, best.names, encoding, best.style, said is not None)


@dataclass(frozen=True)
class _Trial:
    style: _Style
    names: tuple[str, ...]
    worth: tuple[bool, float, int]


def _try(separator: str, sample: str, whole: bool, wanted: Callable[[str], bool]) -> _Trial:
    """The first style of a separator by which the sample has rows of one length, else the usual."""
    usual = None
    for style in _styles(separator, sample):
        rows, sound = _parse(style, sample, whole)
        header = rows[0] if rows else []
        width = len(header)
        agree = sum(len(row) == width for row in rows) / max(1, len(rows))
        names = _names(header)
        trial = _Trial(style, names, (width > 1 and any(map(wanted, names)), agree, width))
        if width > 1 and sound and agree == 1:
            return trial
        if style == _Style(separator):
            usual = trial if sound else _Trial(style, names, (trial.worth[0], 0.0, width))
    assert usual is not None
    return usual


def _names(header: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() or f"{UNNAMED}{i}" for i, name in enumerate(header))


def _styles(separator: str, sample: str) -> Iterator[_Style]:
    """Ways of quoting that the sample may be written in, the particular before the usual."""
    sep = re.escape(separator)
    single = re.findall(rf"(?:^|{sep})'(?:[^'\n]|'')*'(?={sep}|\r?$)", sample, re.MULTILINE)
    if 2 * len(single) > sample.count("\n"):
        yield _Style(separator, quote="'")
    if re.search(rf'{sep} +"', sample):
        yield _Style(separator, spaced=True)
    yield _Style(separator)
    if '\\"' in sample:
        yield _Style(separator, escaped=True)
    if separator in "\t|":  # rare enough in text for people not to quote at all
        yield _Style(separator, quote=None)


def _parse(style: _Style, sample: str, whole: bool) -> tuple[Sequence[list[str]], bool]:
    """The sample's rows, without the last where it is cut off; and whether all could be read."""
    rows: list[list[str]] = []
    reader = style.reader(StringIO(sample, newline=""))
    lines = sample.count("\n")
    try:
        rows += filter(None, reader)
    except csv.Error:
        return rows, not whole and reader.line_num >= lines
    return rows if whole else rows[:-1], True
