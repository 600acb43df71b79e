"""Languages on one line by their figure, with labels that do not run into each other."""

from collections.abc import Mapping
from dataclasses import dataclass

_LETTER = 2.8  # per cent of the line's width on a telephone, where it is narrowest


@dataclass(frozen=True)
class Mark:
    """One language.

    Attributes:
        left: Where it is, per cent of the line's width.
        lane: Of its label, 0 is next to the line.
    """

    language: str
    value: float
    left: float
    lane: int


def strip(values: Mapping[str, float], top: float) -> list[Mark]:
    """Place the languages' ``values`` on a line from 0 to ``top``, smallest first.

    A label takes the lowest lane where it is clear of the one before.
    """
    marks: list[Mark] = []
    ends: list[float] = []
    for language, value in sorted(values.items(), key=lambda one: (one[1], one[0])):
        left = 100 * min(1.0, value / top)
        half = _LETTER * len(language) / 2
        lane = next((i for i, end in enumerate(ends) if end <= left - half), len(ends))
        ends[lane : lane + 1] = [left + half]
        marks.append(Mark(language, value, left, lane))
    return marks
