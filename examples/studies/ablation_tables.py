"""What is made of the ablation's trials: means with intervals over photographs, tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from study import Plain, by_column, plain_name, resamples, table, with_interval
from xclipt.metrics import interval95

SEVEN = ("de", "es", "id", "ja", "ru", "tr", "zh")
OTHERS = "xflickrco, others"
"""The photographs of xflickrco that only German and Japanese captions were written for."""

Sets = Sequence[tuple[str, str]]
"""Pools of photographs, and the languages that they are searched in."""

GROUPS: dict[str, Sets] = {
    "tuning": [(OTHERS, "de"), (OTHERS, "ja"), ("flickr8k", "zh"), ("multi30k", "de")],
    "xflickrco": [("xflickrco", language) for language in SEVEN],
    "read": [("flickr8k", "ar"), ("multi30k", "fr"), ("multi30k", "cs")],
    "emoji": [("emoji", "fr"), ("emoji", "ja")],
    "English": [(pool, "en") for pool in ("xflickrco", OTHERS, "flickr8k", "multi30k")],
}
"""The tables' columns. A start trained without the seven has read other captions in the languages
of ``read``, and names of other emoji in French."""

COMPARED = {"unread": ("tuning", "xflickrco"), "read": ("read",)}
"""Columns whose mean is compared with the first row's."""

START, HEADS = "start", "heads"
KINDS = (START, HEADS)
"""What is trained, in the order of the tables."""


@dataclass(frozen=True)
class Trial:
    """One training: of ``heads`` or of a ``start``."""

    kind: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        """Its file's."""
        return f"{self.kind}-{plain_name(self.row)}-seed{self.seed}"


BASE = Trial(START, "base", 0)
"""The frozen backbone, which no row trains."""


@dataclass(frozen=True)
class Measured:
    """What a trial gives.

    Attributes:
        line: Of the table.
        weights: How many were trained.
        seconds: How long the training took.
        values: By ``pool/language``, reciprocal rank x 100 of each photograph, mean of both
            directions.
    """

    trial: Trial
    line: str
    weights: int
    seconds: float
    values: dict[str, list[float]]

    @classmethod
    def parse(cls, plain: Plain) -> "Measured":
        """From a line of raw figures."""
        return cls(**plain | {"trial": Trial(**plain["trial"])})


@dataclass(frozen=True)
class Group:
    """One column of one row: the mean over its sets and seeds, and its bootstrap draws."""

    value: float
    draws: NDArray[np.float64]


def group_of(trials: Sequence[Measured], sets: Sets) -> Group:
    """Mean reciprocal rank x 100; the bootstrap draws a pool's photographs for all of its sets."""
    points, drawn = [], []
    for measured in trials:
        for pool, language in sets:
            values = np.array(measured.values[f"{pool}/{language}"])
            points.append(values.mean())
            drawn.append(_weights(pool, len(values)) @ values)
    return Group(float(np.mean(points)), np.mean(drawn, axis=0))


@cache
def _weights(pool: str, photographs: int) -> NDArray[np.float64]:
    # The same photographs for every trial and language, others in every pool.
    return resamples(photographs, seed=sum(pool.encode())) / photographs


def by_line(results: Sequence[Measured], kind: str) -> dict[str, list[Measured]]:
    """All seeds of each line of a kind's table, in the order of the results."""
    lines: dict[str, list[Measured]] = defaultdict(list)
    for measured in results:
        if measured.trial.kind == kind:
            lines[measured.line].append(measured)
    return lines


def as_markdown(results: Sequence[Measured]) -> str:
    """Tables of heads and starts: what each line gives, and how far it is from the first one."""
    tables = []
    for kind in KINDS:
        lines = by_line(results, kind)
        base = lines.pop(BASE.row, None)
        if lines:
            tables += [f"### {kind.capitalize()}", "", *_table(lines, base), ""]
        if lines and base:
            tables += ["### Start, xflickrco by language", "", *_languages(lines, base), ""]
    return "\n".join(tables)


def _table(lines: Mapping[str, list[Measured]], base: Sequence[Measured] | None) -> list[str]:
    first = next(iter(lines.values()))
    against = [f"{name}, against the first row [95 %]" for name in COMPARED]
    rows = []
    if base:
        zero = _values(base, GROUPS)
        rows.append(["base", "", "", *by_column(zero, [*GROUPS]), *[""] * (len(COMPARED) + 1)])
    else:
        zero = dict.fromkeys(GROUPS, 0.0)
    sign = "+" if base else ""
    for line, trials in lines.items():
        values = _values(trials, GROUPS)
        rows.append(
            [
                line,
                str(len(trials)),
                f"{trials[0].weights:,}",
                *(f"{value - zero[name]:{sign}.1f}" for name, value in values.items()),
                *("" if trials is first else _against(trials, first, c) for c in COMPARED.values()),
                f"{mean(measured.seconds for measured in trials):.0f}",
            ]
        )
    return table(["", "seeds", "weights", *GROUPS, *against, "seconds"], rows)


def _against(trials: Sequence[Measured], first: Sequence[Measured], columns: Sequence[str]) -> str:
    seeds = {m.trial.seed for m in trials} & {m.trial.seed for m in first}
    if not seeds:
        return ""
    ours, theirs = ([m for m in of if m.trial.seed in seeds] for of in (trials, first))
    groups = [(group_of(ours, GROUPS[g]), group_of(theirs, GROUPS[g])) for g in columns]
    point = mean(a.value - b.value for a, b in groups)
    draws = np.mean([a.draws - b.draws for a, b in groups], axis=0)
    spread = ""
    if len(seeds) > 1:
        each = [
            mean(group_of([m], GROUPS[g]).value - group_of([n], GROUPS[g]).value for g in columns)
            for m in ours
            for n in theirs
            if m.trial.seed == n.trial.seed
        ]
        spread = f", sd of seeds {stdev(each):.1f}"
    return with_interval(point, interval95(draws)) + spread


def _languages(lines: Mapping[str, list[Measured]], base: Sequence[Measured]) -> list[str]:
    sets: dict[str, Sets] = {language: [("xflickrco", language)] for language in SEVEN}
    zero = _values(base, sets)
    gains = [
        [line, *(f"{value - zero[code]:+.1f}" for code, value in _values(trials, sets).items())]
        for line, trials in lines.items()
    ]
    return table(["", *SEVEN], [["base", *by_column(zero, SEVEN)], *gains])


def _values(trials: Sequence[Measured], sets: Mapping[str, Sets]) -> dict[str, float]:
    return {name: group_of(trials, of).value for name, of in sets.items()}
