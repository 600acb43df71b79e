"""``xclipt translate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclipt.cli.invocation import Invocation, number_or_all
from xclipt.cli.listing import Listing
from xclipt.cli.options import (
    Caption,
    CommonOptions,
    DatasetName,
    Download,
    Languages,
    SplitSeed,
    common_options_but,
    reading_options,
)
from xclipt.cli.terminal import loading_libraries, print_json, print_table
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError

if TYPE_CHECKING:
    from xclipt.translation.translate import TranslationReport


@common_options_but("seed")
@reading_options
def translate_command(
    common: CommonOptions,
    reading: Reading,
    lang: Languages,
    direction: Annotated[
        str,
        typer.Option(
            "--direction",
            help="to-en: the captions of --lang to English; from-en: the English ones to --lang.",
        ),
    ] = "to-en",
    dataset: DatasetName = "emoji",
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="file, ctranslate2, transformers, apertium, or auto: the first that is there.",
        ),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Hub id or folder of an opus-mt, NLLB-200 or M2M-100 model; for apertium pairs "
            "such as 'fra-cat cat-eng'.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Existing translations: a .tsv of captions and translations, or one per line.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Split of the data set (default: all of it). paper: what training and measuring "
            "on the paper's split needs in this direction.",
        ),
    ] = None,
    shots: Annotated[
        int, typer.Option("--shots", help="Training pictures of --split paper.", min=1)
    ] = 50,
    on_bad: Annotated[
        str,
        typer.Option(
            "--on-bad",
            help="Translations that are empty, copied, of a wild length, in a wrong script or "
            "repetitive: keep, drop (store, but do not use) or error.",
        ),
    ] = "drop",
    limit: Annotated[
        str,
        typer.Option("--limit", help="Translate at most so many captions, from the first; or all."),
    ] = "all",
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", help="Captions per batch, the most that an interruption loses.", min=1
        ),
    ] = None,
    beams: Annotated[
        int | None, typer.Option("--beams", help="Beam width of the model's search (4).", min=1)
    ] = None,
    caption: Caption = None,
    download: Download = False,
    split_seed: SplitSeed = 42,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be translated and by what; write nothing."),
    ] = False,
) -> None:
    """Translate captions to or from English, or take in translations that exist.

    They are kept in the artifact directory by text: what is there is not translated again.

    Example: xclipt translate --lang fr,de --direction to-en --dataset xtd
    """
    with loading_libraries(common.quiet):
        from xclipt.translation.engines.choose import open_engine
        from xclipt.translation.engines.engine import EngineRequest
        from xclipt.translation.translate import (
            DIRECTIONS,
            ON_BAD,
            captions_to_translate,
            translate,
        )

    for option, value, choices in (
        ("--direction", direction, DIRECTIONS),
        ("--on-bad", on_bad, ON_BAD),
    ):
        if value not in choices:
            raise UsageError(f"{option} {value}: choose {', '.join(choices)}")
    most = number_or_all("--limit", limit)
    request = EngineRequest(
        engine=engine,
        model=model,
        file=file,
        beams=beams,
        batch_size=batch_size,
        device=common.device,
        dtype=common.dtype,
    )
    with Invocation(common, create=True) as run:
        data = run.open_data(dataset, reading, download=download, caption=caption)
        languages = run.languages(lang, [code for code in data.languages if code != "en"])
        if file is not None and len(languages) > 1:
            raise UsageError(f"--file {file}: holds one language; give one --lang")
        there = run.directory_if_there  # a damaged one is told of before an engine is looked for
        reports = []
        for language in languages:
            captions = captions_to_translate(data, language, direction, split, shots, split_seed)
            chosen = open_engine(
                request,
                data,
                captions.rows,
                captions.source,
                captions.target,
                fetch=not dry_run,
            )
            run.progress.note(f"{captions.source} to {captions.target} by {chosen.about}")
            directory = there if dry_run else run.directory
            report = translate(
                directory,
                chosen,
                captions,
                run.progress,
                on_bad=on_bad,
                limit=most,
                dry_run=dry_run,
            )
            reports.append(report)
    if common.json:
        document: dict[str, Any] = {"command": "translate"}
        if dry_run:
            document["dry_run"] = True
        print_json(document | {"translations": [_as_json(report) for report in reports]})
    else:
        print_table(_table(reports, dry_run=dry_run))


def _as_json(report: "TranslationReport") -> dict[str, Any]:
    scores = report.scores
    return {
        "language": report.language,
        "direction": report.direction,
        "engine": report.translator.engine,
        "model": report.translator.model,
        "revision": report.translator.revision,
        "setting": report.translator.setting,
        "about": report.about,
        "texts": report.texts,
        "translated": report.translated,
        "cached": report.cached,
        "missing": report.missing,
        "dropped": report.dropped,
        "flags": report.flags,
        "chrf": scores.chrf if scores else None,
        "bleu": scores.bleu if scores else None,
        "bleu_tokens": scores.bleu_tokens if scores else None,
        "scored": scores.texts if scores else 0,
        "seconds": report.seconds,
    }


def _table(reports: "list[TranslationReport]", *, dry_run: bool) -> Listing:
    title = "Would be translated" if dry_run else "Translations"
    table = Listing(
        title,
        ("lang", "way", "model"),
        ("engine", "faults"),
        ("texts", "new", "cached", "missing", "dropped", "chrF", "BLEU"),
    )
    for report in reports:
        faults = ", ".join(f"{name} {count:,}" for name, count in report.flags.items())
        scores = report.scores
        table.add_row(
            report.language,
            report.direction,
            report.translator.model,
            report.translator.engine,
            faults or "-",
            *(f"{n:,}" for n in (report.texts, report.translated, report.cached, report.missing)),
            f"{report.dropped:,}",
            f"{scores.chrf:.1f}" if scores else "-",
            f"{scores.bleu:.1f}" if scores else "-",
        )
    return table
