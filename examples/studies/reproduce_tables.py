"""What is made of a grid's figures: a table like the paper's, and a file for programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from grid import Label
from study import table, with_interval
from xclipt.metrics import Disparity, disparity, interval95
from xclipt.printable import spreadsheet_cell

Draws = NDArray[np.float64]
Difference = tuple[float, tuple[float, float]]
"""Of two mean R@1 on the same pictures, with a paired 95 % interval over them."""


@dataclass(frozen=True)
class Figures:
    """Mean of both directions' R@1 on one language's test pictures, per cent.

    Attributes:
        by_seed: A figure a seed.
        draws: Bootstrap samples of their mean, ``(draws,)``.
        pictures: What the samples are drawn with: the same for the same pictures only.
        mode: ``image``, or ``text`` where English captions were ranked for want of pictures.
        chosen: The point whose deltas these are; ``None`` without a delta.
        validation: Its mean R@1 on validation pictures, the mean over seeds.
    """

    by_seed: tuple[float, ...]
    draws: Draws
    pictures: int
    mode: str
    chosen: Label | None = None
    validation: float | None = None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return mean(self.by_seed)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        label: What it is called.
        parameters: Numbers that a delta holds.
        of: Figures by language.
        zero_shot: Those of the frozen base, on the text as it is and on the same pictures.
    """

    label: Label
    parameters: int
    of: Mapping[str, Figures]
    zero_shot: Mapping[str, Figures]

    @property
    def by_language(self) -> dict[str, float]:
        """Means over seeds."""
        return {language: figures.mean for language, figures in self.of.items()}

    @property
    def by_seed(self) -> list[float]:
        """Means over languages."""
        every = [figures.by_seed for figures in self.of.values()]
        return [mean(values) for values in zip(*every, strict=True)]

    @property
    def spread(self) -> Disparity:
        """Over languages, of the means over seeds."""
        return disparity(self.by_language)

    def gain(self, languages: Sequence[str]) -> Difference | None:
        """Over the frozen base, in the mean over these languages."""
        return _difference(self.of, self.zero_shot, languages)

    def over(self, other: "Row", languages: Sequence[str]) -> Difference | None:
        """Over another row; ``None`` where it was measured on other pictures."""
        return _difference(self.of, other.of, languages)


def _difference(
    one: Mapping[str, Figures], other: Mapping[str, Figures], languages: Sequence[str]
) -> Difference | None:
    pairs = [(one[language], other[language]) for language in languages]
    if any(a.pictures != b.pictures for a, b in pairs):
        return None
    draws = np.mean([a.draws - b.draws for a, b in pairs], axis=0)
    return mean(a.mean - b.mean for a, b in pairs), interval95(draws)


def as_markdown(rows: Sequence[Row]) -> str:
    """Languages with their spread over seeds, mean, disparity over languages, and what is gained.

    Brackets behind a figure hold the standard deviation over seeds; ``sd`` is that over languages.
    """
    languages = list(rows[0].of)
    points = ("learning_rate", "align_loss", "align_weight")
    named = [field for field in points if any(getattr(row.label, field) for row in rows)]
    header = [
        *("model", "routine", *(field.replace("_", " ") for field in named), "parameters"),
        *(*languages, "mean", "sd", "range", "gain [95 %]", "over baseline [95 %]"),
    ]
    lines = [
        [
            *(row.label.kind, row.label.strategy),
            *(_plain(getattr(row.label, field)) for field in named),
            f"{row.parameters:,}",
            *(_over_seeds(row.of[language].by_seed) for language in languages),
            _over_seeds(row.by_seed),
            *(f"{row.spread.sd:.2f}", f"{row.spread.range:.1f}"),
            *(with_interval(*found, "+z.1f") if found else "" for found in gains),
        ]
        for row, gains in _with_gains(rows, languages)
    ]
    remarks = []
    if any(figures.mode == "text" for row in rows for figures in row.of.values()):
        remarks = ["", "Text mode: English captions are ranked, as the test pictures are not here."]
    return "\n".join([*table(header, lines), *remarks]) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """A line per row and language with the point that was chosen, and one of language ``mean``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("model", "routine", "parameters", "language", "learning_rate", "align_loss"),
            *("align_weight", "seeds", "validation_R@1", "mean_R@1", "sd_over_seeds"),
            *("sd_over_languages", "range_over_languages", "gain", "gain_low", "gain_high"),
            *("over_baseline", "over_baseline_low", "over_baseline_high"),
        ]
    )
    for language in rows[0].of:
        for row, gains in _with_gains(rows, [language]):
            figures = row.of[language]
            where = figures.chosen or row.label
            measured = [figures.validation, figures.mean, _sd(figures.by_seed), None, None]
            writer.writerow(_line(row, language, where, len(figures.by_seed), measured, gains))
    for row, gains in _with_gains(rows, list(rows[0].of)):
        seeds = row.by_seed
        measured = [None, mean(seeds), _sd(seeds), row.spread.sd, row.spread.range]
        writer.writerow(_line(row, "mean", row.label, len(seeds), measured, gains))
    return text.getvalue()


def _line(
    row: Row,
    language: str,
    where: Label,
    seeds: int,
    measured: Sequence[float | None],
    gains: Sequence[Difference | None],
) -> list[object]:
    numbers = [*measured]
    for found in gains:
        numbers += (found[0], *found[1]) if found else (None, None, None)
    named = [row.label.kind, row.label.strategy, row.parameters, language]
    return [
        *(spreadsheet_cell(part) if isinstance(part, str) else part for part in named),
        *map(_plain, (where.learning_rate, where.align_loss, where.align_weight)),
        seeds,
        *("" if number is None else f"{number:.4f}" for number in numbers),
    ]


def _with_gains(
    rows: Sequence[Row], languages: Sequence[str]
) -> list[tuple[Row, list[Difference | None]]]:
    """Each row with its gain over the frozen base, and over its baseline where that is a row."""
    by_label = {row.label: row for row in rows}
    found = []
    for row in rows:
        baseline = by_label.get(row.label.baseline)
        over = row.over(baseline, languages) if baseline and baseline is not row else None
        frozen = row.of is row.zero_shot
        found.append((row, [None if frozen else row.gain(languages), over]))
    return found


def _plain(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else spreadsheet_cell(value or "")


def _sd(by_seed: Sequence[float]) -> float | None:
    return stdev(by_seed) if len(by_seed) > 1 else None


def _over_seeds(by_seed: Sequence[float]) -> str:
    sd = _sd(by_seed)
    return f"{mean(by_seed):.1f}" + ("" if sd is None else f" ({sd:.1f})")
