"""``xclipt align``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclipt.cli.invocation import Invocation, number_or_all
from xclipt.cli.listing import Listing
from xclipt.cli.options import (
    DATA,
    Caption,
    CommonOptions,
    DatasetName,
    Download,
    Floor,
    Languages,
    ParallelSources,
    SplitSeed,
    TrainingSplit,
    TranslationsOf,
    common_options,
    reading_options,
    refuse_beside_parallel,
)
from xclipt.cli.terminal import loading_libraries, print_json, print_line, print_table
from xclipt.cli.wording import worded_error
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, blaming_what_was_named

if TYPE_CHECKING:
    from xclipt.alignment.align import LanguageAlignment
    from xclipt.alignment.similarity import PairSimilarity

_OF_CAPTIONS = (
    *("routine", "dataset", "split", "floor", "translations", "allow_missing", "caption"),
    *("download", "split_seed"),
)
"""What has no meaning for parallel sentences."""


@common_options
@reading_options
def align_command(
    context: typer.Context,
    common: CommonOptions,
    reading: Reading,
    lang: Languages = "all",
    parallel: ParallelSources = None,
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
        typer.Option(
            "--shots",
            help="Pictures, one caption each, or pairs of --parallel; or all (default: up to "
            "1,000).",
        ),
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
            rich_help_panel=DATA,
        ),
    ] = False,
    caption: Caption = None,
    download: Download = False,
    split_seed: SplitSeed = 42,
) -> None:
    """Build the pairs that train-delta trains on, and measure how far apart they are without it.

    With --parallel: how far apart the two sides of parallel sentences are.

    Examples: xclipt align --lang fr,de --routine 1 --plot pairs.png;
    xclipt align --lang te --parallel en-te.tsv
    """
    with loading_libraries(common.quiet):
        from xclipt.alignment.align import align
        from xclipt.alignment.build import AlignmentRequest
        from xclipt.alignment.routines import ROUTINES
        from xclipt.report.plots import check_plot_path, write_alignment_plot

    if ROUTINES.get(routine) is None:
        raise UsageError(f"--routine {routine}: choose 1, 2 or 3")
    if plot:
        check_plot_path(plot)
    if parallel:
        refuse_beside_parallel(context, *_OF_CAPTIONS)
        _align_sentences(common, reading, lang, parallel, shots, plot)
        return
    # The paper's split is a number of shots; elsewhere a thousand make figures that compare.
    usual = 50 if split == "paper" else 1000
    with Invocation(common, create=True) as run:
        data = run.open_data(dataset, reading, download=download, caption=caption)
        others = [language for language in data.languages if language != "en"]
        requests = [
            AlignmentRequest(
                language=language,
                shots=usual if shots is None else number_or_all("--shots", shots),
                routine=ROUTINES[routine],
                seed=common.seed,
                split=None if split == "full" else split,
                split_seed=split_seed,
                allow_missing=allow_missing,
                translator=translations,
                floor=floor,
                with_pictures=allow_missing,
                up_to=shots is None,
            )
            for language in run.languages(lang, others)
        ]
        report = align(run.workspace, data, requests)
        if plot:
            title = f"{report.dataset}: routine {routine}, {report.backbone.id} without a delta"
            write_alignment_plot(plot, title, report.similarities())
    if common.json:
        refused = {language: worded_error(why) for language, why in report.refused.items()}
        print_json({"command": "align", **report.as_json(), "refused": refused})
        return
    split_named = f", split {report.split}" if report.split else ""
    title = f"{report.dataset}{split_named}: routine {report.routine}, before any training"
    print_table(_table(title, report.similarities()))
    if report.english_is_itself:
        print_line("en is each English caption with itself: the upper bound by construction")
    for row in report.rows:
        print_line(f"{row.language}: {_remark(row)}")


def _align_sentences(
    common: CommonOptions,
    reading: Reading,
    lang: str,
    parallel: list[str],
    shots: str | None,
    plot: Path | None,
) -> None:
    with loading_libraries(common.quiet):
        from xclipt.alignment.sentences import align_sentences
        from xclipt.parallel.sources import ParallelRequest, open_sources
        from xclipt.report.plots import write_alignment_plot

    if lang == "all":
        raise UsageError("--lang: name the language of --parallel, or several with commas")
    with Invocation(common, create=True) as run:
        requests = [
            ParallelRequest(tuple(parallel), language, common.seed, reading)
            for language in run.languages(lang, [])
        ]
        number = 1000 if shots is None else number_or_all("--shots", shots)
        with blaming_what_was_named():
            for request in requests:
                open_sources(request)  # what is wrong with them is told before weights are loaded
        report = align_sentences(run.workspace, requests, number, up_to=shots is None)
        title = f"{report.source}: sentences and their English, before any training"
        if plot:
            write_alignment_plot(plot, title, report.similarities())
    if common.json:
        print_json({"command": "align", **report.as_json()})
        return
    print_table(_table(title, report.similarities()))
    for row in report.rows:
        print_line(f"{row.language}: {row.pairs.folder}")


def _table(title: str, similarities: "Sequence[tuple[str, PairSimilarity]]") -> Listing:
    table = Listing(
        f"{title}. R@1 of finding the partner by the text, the text by the partner, and their mean",
        ("lang",),
        numbers=("pairs", "cosine", "MSE", "partner", "text", "mean [95 %]"),
    )
    for language, pairs in similarities:
        low, high = pairs.ci95
        table.add_row(
            language,
            f"{pairs.pairs:,}",
            f"{pairs.cosine:.3f}",
            f"{pairs.mse:.3g}",
            f"{pairs.forth.r1:.1f}",
            f"{pairs.back.r1:.1f}",
            f"{pairs.mean_r1:.1f} [{low:.1f}, {high:.1f}]",
        )
    return table


def _remark(row: "LanguageAlignment") -> str:
    parts: list[Any] = [row.path]
    if row.alignment.translator:
        parts.append(f"translated by {row.alignment.translator.name}")
    if str(row.alignment.left_out):
        parts.append(f"left out: {row.alignment.left_out}")
    return "; ".join(map(str, parts))
