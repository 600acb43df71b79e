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

    rows = list(reversed(evaluation.rows))
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for position, row in enumerate(rows):
        low, high = row.ci95
        axes.barh(position, row.mean_r1, color=_colour(row), height=0.72)
        axes.plot([low, high], [position, position], color="#1a1c20", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_xlim(0, min(100, 1.05 * max(row.ci95[1] for row in rows) or 100))
    axes.set_xlabel("mean of t2i and i2t R@1, per cent, with 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [axes.barh(0, 0, color=_BASE, label="base")]
    handles += [axes.barh(0, 0, color=c, label=f"delta: {v}") for v, c in _COLOURS.items()]
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
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    with replacing(path) as aside:
        from matplotlib import rc_context

        with rc_context({"svg.hashsalt": "xclipt"}):
            figure.savefig(aside, format=path.suffix.lower()[1:], dpi=160, metadata=metadata)


def _label(row: RecallRow) -> str:
    return f"{language_name(row.language)}: {row.system}"


def _colour(row: RecallRow) -> str:
    return _COLOURS[row.gain.verdict] if row.gain and row.delta else _BASE
