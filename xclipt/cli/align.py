"""``xclipt align``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from xclipt.cli.options import (
    CommonOptions,
    DatasetName,
    Download,
    Floor,
    Languages,
    TrainingSplit,
    TranslationsOf,
    common_options,
)
from xclipt.cli.session import Session, number_or_all
from xclipt.cli.terminal import print_json, print_line, print_table
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from xclipt.alignment.measure import AlignmentReport, LanguageAlignment


@common_options
def align_command(
    common: CommonOptions,
    lang: Languages = "all",
    routine: Annotated[
        str,
        typer.Option(
            "--routine",
            help="1: caption and English caption; 2: caption and the English caption's translation "
            "into the language; 3: the caption's translation into English and English caption.",
        ),
    ] = "1",
    dataset: DatasetName = "emoji",
    split: TrainingSplit = "full",
    shots: Annotated[
        str | None,
        typer.Option("--shots", help="Pictures, one caption each; or all. Up to 1,000 without."),
    ] = None,
    floor: Floor = None,
    translations: TranslationsOf = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the languages into a .png or .svg file.")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Only pictures whose files are here: the pairs of train-delta with this option.",
        ),
    ] = False,
    download: Download = False,
) -> None:
    """Build the pairs that train-delta trains on, and measure how far apart they are without it.

    Example: xclipt align --lang fr,de --routine 1 --plot gap.png
    """
    from xclipt.alignment.measure import align
    from xclipt.alignment.routines import ROUTINES
    from xclipt.report.alignment_plot import write_alignment_plot
    from xclipt.report.plots import check_plot_path

    if ROUTINES.get(routine) is None:
        raise XcliptError(f"--routine {routine}: choose 1, 2 or 3")
    if plot:
        check_plot_path(plot)
    # The paper's split is a number of shots; elsewhere a thousand make figures that compare.
    usual = 50 if split == "paper" else 1000
    with Session(common, create=True) as session:
        data = session.open_data(dataset, download=download)
        others = [language for language in data.languages if language != "en"]
        report = align(
            session.workspace,
            data,
            session.languages(lang, others),
            routine=ROUTINES[routine],
            shots=usual if shots is None else number_or_all("--shots", shots),
            up_to=shots is None,
            seed=common.seed,
            split=None if split == "full" else split,
            floor=floor,
            translator=translations,
            pictures=allow_missing,
        )
        if plot:
            title = f"{report.dataset}: routine {routine}, {report.backbone.id} without a delta"
            write_alignment_plot(plot, title, report.gaps())
    if common.json:
        print_json({"command": "align", **report.as_json()})
        return
    print_table(_table(report))
    if report.english_is_itself:
        print_line("en is each English caption with itself: the upper bound by construction")
    for row in report.rows:
        print_line(f"{row.language}: {_remark(row)}")


def _table(report: "AlignmentReport") -> Table:
    split = f", split {report.split}" if report.split else ""
    table = Table(
        title=f"{report.dataset}{split}: routine {report.routine}, before any training",
        title_justify="left",
    )
    table.add_column("language")
    for column in ("pairs", "cosine", "MSE", "text to partner R@1", "partner to text R@1"):
        table.add_column(column, justify="right")
    table.add_column("mean R@1 [95 %]", justify="right", no_wrap=True)
    for language, gap in report.gaps():
        low, high = gap.ci95
        table.add_row(
            language,
            f"{gap.pairs:,}",
            f"{gap.cosine:.3f}",
            f"{gap.mse:.3g}",
            f"{gap.forth.r1:.1f}",
            f"{gap.back.r1:.1f}",
            f"{gap.mean_r1:.1f} \\[{low:.1f}, {high:.1f}]",
        )
    return table


def _remark(row: "LanguageAlignment") -> str:
    parts: list[Any] = [row.path]
    if row.alignment.translator:
        parts.append(f"translated by {row.alignment.translator.name}")
    if str(row.alignment.left_out):
        parts.append(f"left out: {row.alignment.left_out}")
    return "; ".join(map(str, parts))
