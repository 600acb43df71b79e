"""``xclipt eval``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import (
    AllowMissing,
    Caption,
    CommonOptions,
    DatasetName,
    Download,
    HubBanks,
    Languages,
    SplitSeed,
    TranslationsOf,
    common_options_but,
    reading_options,
)
from xclipt.cli.terminal import loading_libraries, print_json, print_line, print_table, print_widest
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError

if TYPE_CHECKING:
    from xclipt.data.dataset import Dataset
    from xclipt.evaluation.published import OtherRow
    from xclipt.evaluation.queries import Queries
    from xclipt.evaluation.results import Evaluation

_FILES = "Files"


@common_options_but("seed")
@reading_options
def eval_command(
    common: CommonOptions,
    reading: Reading,
    lang: Languages = "all",
    dataset: DatasetName = "emoji",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Split to measure on (default: test, else val, else all). A set in one piece "
            "also has full, and paper: what the paper's split leaves for the test.",
        ),
    ] = None,
    shots: Annotated[
        int, typer.Option("--shots", help="Training pictures that --split paper leaves out.")
    ] = 50,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="image: rank pictures; text: English captions; auto: pictures if they are here.",
        ),
    ] = "auto",
    delta: Annotated[
        str | None,
        typer.Option(
            "--delta",
            autocompletion=completion.deltas,
            help="Measure deltas of this name (default: the current ones). none: the base alone.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Compare with deltas of this name, on the same pictures."),
    ] = None,
    seeds: Annotated[
        bool,
        typer.Option("--seeds", help="Measure all deltas that differ only in -seedN: mean and sd."),
    ] = False,
    text: Annotated[
        str,
        typer.Option(
            "--text",
            help="to-en: measure the base on text translated into English too. from-en: base and "
            "deltas on the English captions translated into the language too. A delta gets the "
            "kind of text that it was trained on in any case.",
        ),
    ] = "target",
    hard_prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--hard-prompt",
            help="Measure with this text before every caption too, in place of a delta's own; "
            "repeat it for several.",
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option("--prompt-file", help="The same with every line of a UTF-8 file."),
    ] = None,
    translations: TranslationsOf = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Measure on at most so many pictures.")
    ] = None,
    same_pictures: Annotated[
        bool,
        typer.Option("--same-pictures", help="Measure on the pictures that all languages share."),
    ] = False,
    hub_bank: HubBanks = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="Show other systems' figures from a CSV file beside ours."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write one HTML file to look at.", rich_help_panel=_FILES),
    ] = None,
    gallery: Annotated[
        int,
        typer.Option(
            "--gallery",
            help="Examples of each kind and language in the report.",
            min=0,
            rich_help_panel=_FILES,
        ),
    ] = 2,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw the languages into a .png or .svg file.", rich_help_panel=_FILES
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write the rows to a CSV file.", rich_help_panel=_FILES),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write a Markdown table.", rich_help_panel=_FILES),
    ] = None,
    clip_benchmark: Annotated[
        Path | None,
        typer.Option(
            "--clip-benchmark",
            help="Write CLIP_benchmark result files into this folder.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    mteb: Annotated[
        Path | None,
        typer.Option(
            "--mteb", help="Write MTEB task results into this folder.", rich_help_panel=_FILES
        ),
    ] = None,
    allow_missing: AllowMissing = False,
    caption: Caption = None,
    download: Download = False,
    split_seed: SplitSeed = 42,
) -> None:
    """Measure image-text retrieval per language: the frozen base beside its deltas.

    Examples: xclipt eval --dataset xtd --data-dir data --report xtd.html;
    xclipt eval --lang fr --hard-prompt "Language:"
    """
    with loading_libraries(common.quiet):
        from xclipt.cli import eval_table
        from xclipt.evaluation.deltas import choose_deltas
        from xclipt.evaluation.evaluate import measure
        from xclipt.evaluation.prompts import read_prompts
        from xclipt.evaluation.published import published_beside, read_compared
        from xclipt.evaluation.queries import EvaluationRequest, select_queries
        from xclipt.hubness import open_banks
        from xclipt.report.plots import check_plot_path, write_plot

    if plot:
        check_plot_path(plot)
    if compare and not compare.is_file():
        raise UsageError(f"--compare {compare}: no such file")
    prompts = [*(hard_prompt or []), *(read_prompts(prompt_file) if prompt_file else [])]
    with Invocation(common, create=None) as run:
        data = run.open_data(dataset, reading, download=download, caption=caption)
        languages = run.languages(lang, data.languages)
        banks = open_banks(hub_bank or [], languages)
        for language in languages:
            run.home(run.workspace.directory, language)
        request = EvaluationRequest(
            languages=languages,
            split=split,
            shots=shots,
            split_seed=split_seed,
            mode=mode,
            deltas=choose_deltas(
                run.workspace.directory, languages, name=delta, against=against, seeds=seeds
            ),
            allow_missing=allow_missing,
            limit=limit,
            same_pictures=same_pictures,
            over_seeds=seeds,
            text=text,
            translator=translations,
            prompts=prompts,
            hub_banks=banks,
        )
        queries = select_queries(run.workspace, data, request)
        result = measure(run.workspace, queries, over_seeds=seeds)
        compared = published_beside(result)
        if compare:
            others, remarks = read_compared(compare, result)
            compared += others
            for remark in remarks:
                run.progress.note(remark)
        if report:
            _write_report(run, report, data, queries, result, compared, gallery)
    if plot:
        write_plot(plot, result)
    _write_files(result, csv_file, markdown, clip_benchmark, mteb)
    if common.json:
        document = result.as_json()
        if compared:
            document["compared"] = [row.as_json() for row in compared]
        print_json(document)
        return
    print_widest(
        eval_table.table(result), eval_table.narrow_table(result), last=eval_table.listing(result)
    )
    if corrected := eval_table.hub_table(result):
        print_table(corrected)
        print_line("")
    if compared:
        print_table(eval_table.compared_table(compared, result))
        print_line("")
    for line in eval_table.summary(result):
        print_line(line)


def _write_report(
    run: Invocation,
    path: Path,
    data: "Dataset",
    queries: "Queries",
    result: "Evaluation",
    compared: "list[OtherRow]",
    examples: int,
) -> None:
    from xclipt.files import write_text
    from xclipt.report.gallery import build_gallery
    from xclipt.report.html import as_html

    page = as_html(
        result,
        deltas=[delta for language in queries.languages for delta in language.deltas],
        gallery=build_gallery(run.workspace, data, queries, examples) if examples else (),
        compared=compared,
        remarks=data.notes,
    )
    write_text(path, page)


def _write_files(
    result: "Evaluation",
    csv_file: Path | None,
    markdown: Path | None,
    clip_benchmark: Path | None,
    mteb: Path | None,
) -> None:
    from xclipt.files import write_text
    from xclipt.report import interchange

    if csv_file:
        write_text(csv_file, interchange.as_csv(result))
    if markdown:
        write_text(markdown, interchange.as_markdown(result))
    for folder, files in (
        (clip_benchmark, interchange.as_clip_benchmark),
        (mteb, interchange.as_mteb),
    ):
        if folder:
            for name, text in files(result).items():
                write_text(folder / name, text)
