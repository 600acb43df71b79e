"""``eval --plot``: base and deltas by language as a picture file."""

from pathlib import Path
from typing import TYPE_CHECKING

from xclipt.artifacts.atomic import replacing
from xclipt.errors import XcliptError
from xclipt.evaluation.evaluation import Evaluation, RecallRow
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
        raise XcliptError(f"--plot {path}: must end in {' or '.join(FORMATS)}")


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
    return language_name(row.language) if row.system == "base" else row.system


def _colour(row: RecallRow) -> str:
    return _COLOURS[row.gain.verdict] if row.gain and row.delta else _BASE
