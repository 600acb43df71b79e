"""``xclipt export-delta``."""

from pathlib import Path
from typing import Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.listing import Listing
from xclipt.cli.options import CommonOptions, Languages, common_options_but
from xclipt.cli.terminal import loading_libraries, print_json, print_line, print_table, size
from xclipt.errors import UsageError, XcliptError


@common_options_but("data_dir", "seed")
def export_delta_command(
    common: CommonOptions,
    lang: Languages = "all",
    format: Annotated[
        str,
        typer.Option("--format", help="native, peft, opendelta, merged, onnx or hub; see above."),
    ] = "native",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write to (default: exports/ in the artifact directory)."
        ),
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            "--delta",
            autocompletion=completion.deltas,
            help="Name of the delta (default: the current one).",
        ),
    ] = None,
) -> None:
    """Write deltas in a form to give away, or for another library to load.

    native: xclipt's own, for import-delta. hub: the same with a model card, ready to upload.

    peft: for Hugging Face PEFT (LoRA, soft prompt). opendelta: for OpenDelta (a pickle of tensors).

    merged: the whole text tower with a LoRA folded in, in the backbone's published format (builtin:
    sentence-transformers).

    onnx: the text tower with the delta as one graph, checked in onnxruntime.

    Each folder has a card that says how it is loaded.

    Example: xclipt export-delta --lang fr --format peft --out exported
    """
    with loading_libraries(common.quiet):
        from xclipt.export.formats import export_delta

    with Invocation(common) as run:
        directory = run.existing
        directory.sweep()
        known = directory.languages()
        if not known:
            raise XcliptError(
                f"{directory.root}: has no deltas; train one: "
                "`xclipt train-delta --lang fr --shots 10`"
            )
        exports = []
        for asked in run.languages(lang, known):
            language = run.home(directory, asked)
            stored = directory.delta(language, delta) if delta else directory.current(language)
            if stored is None:
                raise UsageError(
                    f"--lang {language}: {directory.root} has no delta for it; it has "
                    f"{', '.join(known)}"
                )
            exports.append(
                export_delta(
                    stored,
                    format,
                    out or directory.exports / format,
                    lambda: run.workspace.backbone,
                )
            )
    if common.json:
        print_json({"command": "export-delta", "exports": [export.as_json() for export in exports]})
        return
    table = Listing(f"Exported as {format}", ("lang", "delta"), (), ("files", "size"))
    for export in exports:
        count = f"{len(export.files):,}"
        table.add_row(export.language, export.delta, count, size(export.bytes))
    print_table(table)
    for export in exports:
        print_line(f"{export.path}: {', '.join(export.files)}")
