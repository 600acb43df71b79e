"""``xclipt eval``."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from xclipt.cli.options import CommonOptions, common_options
from xclipt.cli.session import Session
from xclipt.cli.terminal import print_json, print_line, print_table

if TYPE_CHECKING:
    from xclipt.evaluation.evaluate import Evaluation, RecallRow

_METRICS = ("R@1", "R@5", "R@10", "MRR")


@common_options
def eval_command(
    common: CommonOptions,
    lang: Annotated[
        str, typer.Option("--lang", help="Language code, a comma list, or all.")
    ] = "all",
    dataset: Annotated[
        str, typer.Option("--dataset", help="emoji, multi30k, xtd, a folder, CSV/TSV, owner/name.")
    ] = "emoji",
    split: Annotated[
        str | None, typer.Option("--split", help="Split; test, else val, else everything.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="image: rank pictures; text: rank English captions; auto: image if they are here.",
        ),
    ] = "auto",
    delta: Annotated[
        str | None,
        typer.Option("--delta", help="Name of the deltas to measure; the current ones."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many pictures.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the rows to a CSV file too.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on with the pictures that are there.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data set if it is not there.")
    ] = False,
) -> None:
    """Measure image-text retrieval per language: the frozen base beside its deltas.

    Example: xclipt eval --dataset xtd --data-dir data
    """
    from xclipt.artifacts.atomic import write_text
    from xclipt.evaluation.evaluate import evaluate

    with Session(common, create=True) as session:
        data = session.open_data(dataset, download=download)
        languages = session.languages(lang, data.languages)
        directory = session.workspace.directory
        named = {code: directory.delta(code, delta) for code in languages} if delta else None
        result = evaluate(
            session.workspace,
            data,
            languages,
            split=split,
            mode=mode,
            deltas=named,
            allow_missing=allow_missing,
            limit=limit,
        )
    if csv_file:
        write_text(csv_file, _as_csv(result))
    if common.json:
        print_json(result.as_json())
    else:
        print_table(_table(result))
        for line in _summary(result):
            print_line(line)


def _table(result: "Evaluation") -> Table:
    split = f", split {result.split}" if result.split else ""
    what = "pictures" if result.mode == "image" else "English captions (text mode)"
    table = Table(
        title=f"{result.dataset}{split}: ranking {what}",
        title_justify="left",
    )
    table.add_column("language")
    table.add_column("delta")
    table.add_column("n", justify="right")
    for direction in ("t2i", "i2t"):
        for metric in _METRICS:
            table.add_column(f"{direction} {metric}", justify="right")
    table.add_column("mean R@1 [95 %]", justify="right")
    table.add_column("gain [95 %]", justify="right")
    for row in result.rows:
        figures = [
            f"{value:.3f}" if metric == "MRR" else f"{value:.1f}"
            for direction in (row.t2i, row.i2t)
            for metric, value in direction.as_json().items()
        ]
        table.add_row(
            row.language,
            row.delta or "-",
            str(row.n),
            *figures,
            f"{row.mean_r1:.1f} [{row.ci95[0]:.1f}, {row.ci95[1]:.1f}]",
            _gain(row),
        )
    return table


def _gain(row: "RecallRow") -> str:
    if row.gain is None:
        return ""
    low, high = row.gain.ci95
    text = f"{row.gain.mean_r1:+.1f} [{low:+.1f}, {high:+.1f}]".replace("[", "\\[")
    if not row.gain.significant:
        return text
    return f"[green]{text}[/]" if row.gain.mean_r1 > 0 else f"[red]{text}[/]"


def _summary(result: "Evaluation") -> list[str]:
    lines = []
    for name, figures in (("base", result.base), ("deltas", result.deltas)):
        if figures and len({row.language for row in result.rows}) > 1:
            gap = "-" if figures.english_gap is None else f"{figures.english_gap:.1f}"
            lines.append(
                f"disparity of mean R@1, {name}: sd {figures.sd:.2f}, "
                f"range {figures.range:.1f}, English gap {gap}"
            )
    if result.mean_gain and len(result.mean_gain.languages) > 1:
        low, high = result.mean_gain.ci95
        lines.append(
            f"mean gain over {len(result.mean_gain.languages)} languages with a delta: "
            f"{result.mean_gain.mean_r1:+.1f} [{low:+.1f}, {high:+.1f}]"
        )
    left_out = {row.language: row.left_out for row in result.rows if row.delta and row.left_out}
    if left_out:
        counts = ", ".join(f"{language} {count}" for language, count in left_out.items())
        lines.append(f"left out, since the delta was trained or validated on them: {counts}")
    return lines


def _as_csv(result: "Evaluation") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    directions = [f"{direction} {metric}" for direction in ("t2i", "i2t") for metric in _METRICS]
    about = ("dataset", "split", "mode", "language", "delta", "n")
    writer.writerow([*about, *directions, "mean R@1", "ci95 low", "ci95 high"])
    for row in result.rows:
        figures = [*row.t2i.as_json().values(), *row.i2t.as_json().values(), row.mean_r1, *row.ci95]
        writer.writerow(
            [result.dataset, result.split or "", result.mode, row.language, row.delta or "", row.n]
            + [f"{figure:.4f}" for figure in figures]
        )
    return text.getvalue()
