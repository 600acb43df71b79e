"""``align --plot``: how near each language's texts are to their partners, as a picture file."""

from collections.abc import Sequence
from pathlib import Path

from xclipt.alignment.gap import Gap
from xclipt.languages import name as language_name
from xclipt.report.plots import save_figure

_BAR, _ENGLISH = "#5470a8", "#9aa3af"


def write_alignment_plot(path: Path, title: str, gaps: Sequence[tuple[str, Gap]]) -> None:
    """Draw R@1 with its interval and the mean cosine by language.

    Args:
        path: A ``.png`` or ``.svg`` file.
        title: What was measured.
        gaps: ISO 639-1 code and gap of each, from the top.

    Raises:
        XcliptError: The file's ending is another one, or it cannot be written.
    """
    from matplotlib.figure import Figure

    rows = list(reversed(gaps))
    figure = Figure(figsize=(8, 1.4 + 0.34 * len(rows)), layout="constrained")
    recall, cosine = figure.subplots(1, 2, sharey=True)
    for position, (language, gap) in enumerate(rows):
        colour = _ENGLISH if language == "en" else _BAR
        recall.barh(position, gap.mean_r1, color=colour, height=0.7)
        recall.plot(gap.ci95, [position, position], color="#1a1c20", linewidth=1.2)
        cosine.barh(position, gap.cosine, color=colour, height=0.7)
        for axes, value, text in (
            (recall, gap.ci95[1], f"{gap.mean_r1:.1f}"),
            (cosine, gap.cosine, f"{gap.cosine:.3f}"),
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
    cosine.set_xlim(min(0.0, *(gap.cosine for _, gap in rows)), 1.15)
    recall.set_xlabel("R@1 of text and partner, mean of both ways, per cent, 95 %", fontsize=8)
    cosine.set_xlabel("mean cosine of text and partner", fontsize=8)
    for axes in (recall, cosine):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_figure(path, figure)
