"""Tables that never cut a name or a number, however narrow the terminal is."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

_GAP = "  "
_INDENT = 4


@dataclass
class Listing:
    """Rows of a name and what belongs to it.

    Where there is room a row is a line. Else the name has a line to itself, and the others stand in
    columns below it; and where even these have no room, one after another with their headings.

    Attributes:
        title: Stands above.
        names: Headings of the columns that tell rows apart: language and delta, for example.
        words: Headings of further columns of text.
        numbers: Headings of the columns of figures.
    """

    title: str
    names: Sequence[str]
    words: Sequence[str] = ()
    numbers: Sequence[str] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        """A cell for every column, in their order."""
        assert len(cells) == len(self._headings)
        self.rows.append(cells)

    def lines(self, width: int | None) -> list[str]:
        """The lines for a terminal of so many columns; ``None`` is as many as it takes.

        A line is longer than the terminal only where a single cell is: then the terminal breaks it.
        """
        headings = self._headings
        whole = [self._line(row, 0) for row in (headings, *self.rows)]
        if width is None or max(map(cell_len, whole)) <= width:
            return [*self._titled(width), whole[0], "─" * max(map(cell_len, whole)), *whole[1:]]
        split = len(self.names)
        tail = [" " * _INDENT + self._line(row[split:], split) for row in (headings, *self.rows)]
        named = [_GAP.join(filter(None, row[:split])) for row in (headings, *self.rows)]
        if max(map(cell_len, tail)) <= width:
            head = [named[0], tail[0], "─" * max(map(cell_len, tail))]
            return [*self._titled(width), *head, *_alternating(named[1:], tail[1:])]
        lines = self._titled(width)
        for name, row in zip(named[1:], self.rows, strict=True):
            told = zip(headings[split:], row[split:], strict=True)
            lines += [name, *_wrapped([f"{heading} {cell}" for heading, cell in told], width)]
        return lines

    @property
    def _headings(self) -> tuple[str, ...]:
        return (*self.names, *self.words, *self.numbers)

    def _titled(self, width: int | None) -> list[str]:
        return [*(textwrap.wrap(self.title, width) if width else [self.title]), ""]

    def _line(self, cells: Sequence[str], first: int) -> str:
        columns = list(zip(self._headings, *self.rows, strict=True))
        texts = len(self.names) + len(self.words)
        padded = []
        for number, cell in enumerate(cells, first):
            space = " " * (max(map(cell_len, columns[number])) - cell_len(cell))
            padded.append(cell + space if number < texts else space + cell)
        return _GAP.join(padded).rstrip()


def _alternating(one: Sequence[str], other: Sequence[str]) -> list[str]:
    return [line for both in zip(one, other, strict=True) for line in both]


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + cell_len(part) + len(_GAP) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(" " * _INDENT + part)
    return lines
