"""What is made of few-shot cells: means with intervals over photographs, tables, a drawing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study import Plain, by_column, plain_name, resamples, table, with_interval
from xclipt.languages import name as language_name
from xclipt.metrics import disparity, interval95
from xclipt.report.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BASE, _DELTA, _ENGLISH = "#9aa3af", "#1a7f4b", "#1a1c20"


@dataclass(frozen=True)
class Cell:
    """One delta to train and measure."""

    ground: str
    row: str
    shots: int
    seed: int
    language: str

    @property
    def name(self) -> str:
        """Its file's and its delta's."""
        shots = self.shots or "full"
        return f"{self.ground}-{plain_name(self.row)}-{shots}-seed{self.seed}-{self.language}"


@dataclass(frozen=True)
class Measured:
    """A cell's figures, photograph by photograph.

    ``base``, ``delta`` and ``english`` are the mean of t2i and i2t R@1 in per cent of each
    photograph; t2i is the mean over its captions. English has as many captions as the language.
    """

    cell: Cell
    photographs: list[str]
    base: list[float]
    delta: list[float]
    english: list[float]
    seconds: float
    percent: float

    @classmethod
    def parse(cls, plain: Plain) -> "Measured":
        """From a line of raw figures."""
        return cls(**plain | {"cell": Cell(**plain["cell"])})


@dataclass(frozen=True)
class Summary:
    """Cells of one row over languages and seeds, in per cent, with intervals over photographs."""

    base: float
    delta: float
    english: float
    gain: tuple[float, float]
    closed: tuple[float, float]
    by_language: dict[str, tuple[float, float, float]]
    seconds: float

    @property
    def gap_closed(self) -> float:
        """Share of the base's gap to English that the delta closed, per cent."""
        return 100 * (self.delta - self.base) / (self.english - self.base)


def summarise(cells: Sequence[Measured]) -> Summary:
    """Mean over cells; the bootstrap draws photographs, the same for all cells."""
    images = sorted({image for measured in cells for image in measured.photographs})
    row = {image: i for i, image in enumerate(images)}
    draws = resamples(len(images))
    figures: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    points: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measured in cells:
        weights = draws[:, [row[image] for image in measured.photographs]].astype(np.float64)
        # A draw without any of a small cell's photographs says nothing of it.
        total = np.maximum(weights.sum(1), 1)
        for name in ("base", "delta", "english"):
            hits = np.array(getattr(measured, name))
            figures[name].append(weights @ hits / total)
            points[measured.cell.language][name].append(float(hits.mean()))
    drawn = {name: np.mean(values, axis=0) for name, values in figures.items()}
    by_language = {
        language: (mean(of["base"]), mean(of["delta"]), mean(of["english"]))
        for language, of in sorted(points.items())
    }
    base, delta, english = (mean(values) for values in zip(*by_language.values(), strict=True))
    closed = 100 * (drawn["delta"] - drawn["base"]) / (drawn["english"] - drawn["base"])
    return Summary(
        base,
        delta,
        english,
        interval95(drawn["delta"] - drawn["base"]),
        interval95(closed),
        by_language,
        mean(measured.seconds for measured in cells),
    )


def grouped(
    results: Sequence[Measured], rows: Sequence[str]
) -> dict[str, dict[str, list[Measured]]]:
    """Cells by ground and shots, in words, and by row in the order of ``rows``."""
    groups: dict[tuple[str, int], dict[str, list[Measured]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for measured in sorted(results, key=lambda measured: rows.index(measured.cell.row)):
        groups[measured.cell.ground, measured.cell.shots][measured.cell.row].append(measured)
    return {
        f"{ground}, {f'{shots} shots' if shots else 'all training pictures'}": by_row
        for (ground, shots), by_row in sorted(groups.items())
    }


def as_markdown(results: Sequence[Measured], rows: Sequence[str]) -> str:
    """One table for every ground and number of shots."""
    lines = []
    for title, by_row in grouped(results, rows).items():
        codes = sorted({m.cell.language for cells in by_row.values() for m in cells})
        header = ["", "seeds", *codes, "mean", "gain [95 %]", "gap closed [95 %]"]
        header += ["sd", "range", "seconds"]
        widest = max(by_row.values(), key=len)
        figures = _references(widest, codes)
        figures += [_figures(row, cells, codes) for row, cells in by_row.items()]
        lines += [f"### {title}", "", *table(header, figures), ""]
    return "\n".join(lines)


def _references(cells: Sequence[Measured], codes: Sequence[str]) -> list[list[str]]:
    by_language = summarise(cells).by_language
    english, base = ({code: of[i] for code, of in by_language.items()} for i in (2, 0))
    even = disparity(base)
    spread = [f"{even.sd:.1f}", f"{even.range:.1f}"]
    return [
        [name, _seeds(cells), *by_column(of, codes), f"{mean(of.values()):.1f}", "", "", *rest, ""]
        for name, of, rest in (("English captions", english, ["", ""]), ("base", base, spread))
    ]


def _figures(row: str, cells: Sequence[Measured], codes: Sequence[str]) -> list[str]:
    summary = summarise(cells)
    values = {code: of[1] for code, of in summary.by_language.items()}
    even = disparity(values)
    return [
        row,
        _seeds(cells),
        *by_column(values, codes),
        f"{summary.delta:.1f}",
        with_interval(summary.delta - summary.base, summary.gain),
        with_interval(summary.gap_closed, summary.closed, ".0f", " %"),
        f"{even.sd:.1f}",
        f"{even.range:.1f}",
        f"{summary.seconds:.0f}",
    ]


def _seeds(cells: Sequence[Measured]) -> str:
    return str(len({measured.cell.seed for measured in cells}))


def draw(path: Path, results: Sequence[Measured], rows: Sequence[str]) -> None:
    """The first row's way from the base to English, and the gap that each row closes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups = grouped(results, rows)
    first = {title: next(iter(by_row.items())) for title, by_row in groups.items()}
    ways = {title: summarise(cells) for title, (_, cells) in first.items()}
    lengths = [len(summary.by_language) + 1 for summary in ways.values()]
    figure = Figure(figsize=(11, 1.5 + 0.22 * sum(lengths)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    panels = left.subplots(len(ways), 1, sharex=True, squeeze=False, height_ratios=lengths)[:, 0]
    for axes, (title, summary) in zip(panels, ways.items(), strict=True):
        axes.set_title(f"{title}: {first[title][0]}", fontsize=8, loc="left")
        _draw_ways(axes, summary)
    panels[-1].set_xlim(left=0)
    panels[-1].set_xlabel("R@1, mean of both directions, per cent", fontsize=8)
    handles, labels = panels[-1].get_legend_handles_labels()
    left.legend(handles, labels, ncols=3, fontsize=8, frameon=False, loc="outside upper center")

    title, widest = max(groups.items(), key=lambda group: len(group[1]))
    axes = right.subplots()
    axes.set_title(title, fontsize=8, loc="left")
    _draw_closed(axes, {row: summarise(cells) for row, cells in widest.items()})
    axes.set_xlabel("gap to English closed, per cent, with 95 % interval", fontsize=8)
    with rc_context({"svg.fonttype": "none"}):
        save_figure(path, figure)


def _draw_ways(axes: "Axes", summary: Summary) -> None:
    places = range(len(summary.by_language))
    base, delta, english = zip(*summary.by_language.values(), strict=True)
    axes.hlines(places, base, english, color="#e2e5ea", linewidth=2, zorder=0)
    axes.hlines(places, base, delta, color=_DELTA, linewidth=2, zorder=1)
    for values, colour, label in (
        (base, _BASE, "base"),
        (delta, _DELTA, "delta"),
        (english, _ENGLISH, "English captions"),
    ):
        axes.scatter(values, places, color=colour, s=22, label=label, zorder=2)
    axes.set_yticks(places, [language_name(code) for code in summary.by_language], fontsize=8)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_closed(axes: "Axes", summaries: Mapping[str, Summary]) -> None:
    for place, summary in enumerate(summaries.values()):
        axes.plot(summary.closed, [place, place], color=_BASE, linewidth=2)
        axes.scatter(summary.gap_closed, place, color=_DELTA, s=22, zorder=2)
    axes.axvline(0, color=_ENGLISH, linewidth=0.8)
    axes.set_yticks(range(len(summaries)), list(summaries), fontsize=8)
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
