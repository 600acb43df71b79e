"""Evaluations and alignments by language as picture files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xclipt.alignment.similarity import PairSimilarity
from xclipt.errors import XcliptError
from xclipt.evaluation.results import Evaluation, RecallRow
from xclipt.files import replacing
from xclipt.languages import name as language_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
_COLOURS = {
    "better": "#1a7f4b",
    "worse": "#c22f2f",
    "no clear difference": "#5470a8",
}
_BASE = "#9aa3af"


def check_plot_path(path: Path) -> None:
    """Refuse a file that could not be drawn, before anything is measured.

    Raises:
        XcliptError: It ends neither in ``.png`` nor in ``.svg``.
    """
    if path.suffix.lower() not in FORMATS:
        raise XcliptError(f"must end in {' or '.join(FORMATS)}", field="plot", value=path)


def write_plot(path: Path, evaluation: Evaluation) -> None:
    """Draw mean R@1 by language with 95 % intervals into a ``.png`` or ``.svg`` file.

    Raises:
        XcliptError: The file's ending is another one, or it cannot be written.
    """
    check_plot_path(path)
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke

    places = _places(evaluation)
    figure = Figure(figsize=(7, 1.4 + 0.3 * max(places)), layout="constrained")
    axes = figure.add_subplot()
    halo = [withStroke(linewidth=3.2, foreground="white")]
    for place, row in zip(places, evaluation.rows, strict=True):
        axes.barh(place, row.mean_r1, color=_colour(row), height=0.84)
        axes.plot(row.ci95, [place] * 2, color="#1a1c20", linewidth=1.4, path_effects=halo)
    axes.set_yticks(places, [_label(row) for row in evaluation.rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(places) + 0.7, -0.7)
    axes.set_xlim(0, min(100, 1.05 * max(row.ci95[1] for row in evaluation.rows) or 100))
    axes.set_xlabel("mean of t2i and i2t R@1, per cent, with 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=_BASE, label="base")]
    handles += [Patch(color=c, label=f"delta: {v}") for v, c in _COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    what = "pictures" if evaluation.mode == "image" else "English captions (text mode)"
    axes.set_title(f"{evaluation.dataset}: ranking {what}", fontsize=10, loc="left")
    save_figure(path, figure)


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a drawing; the same one always gives the same bytes: no date, and fixed ids in SVG.

    Raises:
        XcliptError: The file ends neither in ``.png`` nor in ``.svg``, or cannot be written.
    """
    check_plot_path(path)
    from matplotlib import rc_context

    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with replacing(path) as aside, rc_context({"svg.hashsalt": "xclipt"}):
        figure.savefig(aside, format=path.suffix.lower()[1:], dpi=160, metadata=metadata)


def _places(evaluation: Evaluation) -> list[float]:
    # A gap between languages keeps each base together with its deltas.
    places: list[float] = []
    for row in evaluation.rows:
        places.append(places[-1] + (1.5 if row.system == "base" else 1.0) if places else 0.0)
    return places


def _label(row: RecallRow) -> str:
    if row.system == "base":
        return language_name(row.language)
    return row.system.replace("$", r"\$")  # no formula, whatever a prompt holds


def _colour(row: RecallRow) -> str:
    return _COLOURS[row.gain.verdict] if row.gain and row.delta else _BASE


_BAR, _ENGLISH = "#5470a8", "#9aa3af"


def write_alignment_plot(
    path: Path, title: str, similarities: Sequence[tuple[str, PairSimilarity]]
) -> None:
    """Draw R@1 with its interval and the mean cosine by language.

    Args:
        path: A ``.png`` or ``.svg`` file.
        title: What was measured.
        similarities: ISO 639-1 code and similarity of each, from the top.

    Raises:
        XcliptError: The file's ending is another one, or it cannot be written.
    """
    from matplotlib.figure import Figure

    rows = list(reversed(similarities))
    figure = Figure(figsize=(8, 1.4 + 0.34 * len(rows)), layout="constrained")
    recall, cosine = figure.subplots(1, 2, sharey=True)
    for position, (language, pairs) in enumerate(rows):
        colour = _ENGLISH if language == "en" else _BAR
        recall.barh(position, pairs.mean_r1, color=colour, height=0.7)
        recall.plot(pairs.ci95, [position, position], color="#1a1c20", linewidth=1.2)
        cosine.barh(position, pairs.cosine, color=colour, height=0.7)
        for axes, value, text in (
            (recall, pairs.ci95[1], f"{pairs.mean_r1:.1f}"),
            (cosine, pairs.cosine, f"{pairs.cosine:.3f}"),
        ):
            axes.annotate(
                text,
                (max(0.0, value), position),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    recall.set_yticks(range(len(rows)), [language_name(language) for language, _ in rows])
    recall.set_xlim(0, 112)
    cosine.set_xlim(min(0.0, *(pairs.cosine for _, pairs in rows)), 1.15)
    recall.set_xlabel("R@1 of text and partner, mean of both ways, per cent, 95 %", fontsize=8)
    cosine.set_xlabel("mean cosine of text and partner", fontsize=8)
    for axes in (recall, cosine):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_figure(path, figure)
