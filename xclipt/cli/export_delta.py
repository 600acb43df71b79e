"""``xclipt export-delta``."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.listing import Listing
from xclipt.cli.options import (
    DATA,
    DATASET_HELP,
    AllowMissing,
    CommonOptions,
    Languages,
    common_options_but,
    reading_options,
)
from xclipt.cli.terminal import loading_libraries, print_json, print_line, print_table, size
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError

if TYPE_CHECKING:
    from xclipt.artifacts.directory import StoredDelta
    from xclipt.data.dataset import Dataset

_INT8 = "onnx-int8"
_MEASURED_ON = (
    "dataset",
    "split",
    "max_loss",
    "allow_missing",
    "caption_lang",
    "encoding",
    "columns",
)
"""Options that say what int8 is measured on."""


@common_options_but("seed")
@reading_options
def export_delta_command(
    context: typer.Context,
    common: CommonOptions,
    reading: Reading,
    lang: Languages = "all",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="native, hub, peft, opendelta, merged, onnx, onnx-shared or onnx-int8; see above.",
        ),
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
    max_loss: Annotated[
        float,
        typer.Option(
            "--max-loss",
            help="onnx-int8: points of mean R@1 that may be lost.",
            min=0,
            rich_help_panel=DATA,
        ),
    ] = 0.5,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            autocompletion=completion.datasets,
            help=f"onnx-int8: what the loss is measured on (default: the delta's own): "
            f"{DATASET_HELP}",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Split to measure on (default: test, else val, else all).",
            rich_help_panel=DATA,
        ),
    ] = None,
    allow_missing: AllowMissing = False,
) -> None:
    """Write deltas in a form to give away, or for another library to load.

    native: xclipt's own, for import-delta. hub: the same with a model card, ready to upload.

    peft: for Hugging Face PEFT (LoRA, soft prompt). opendelta: for OpenDelta (a pickle of tensors).

    merged: the whole text tower with a LoRA folded in, in the backbone's published format (builtin:
    sentence-transformers).

    onnx: the text tower with the delta as one graph, checked in onnxruntime.

    onnx-shared: one graph for all languages, with a delta's tensors as inputs; the image tower too.

    onnx-int8: as onnx, a quarter as large; refused where that costs recall.

    Each folder has a card that says how it is loaded.

    Example: xclipt export-delta --lang fr --format peft --out exported
    """
    for name in _MEASURED_ON if format != _INT8 else ():
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise UsageError(f"is for --format {_INT8}; leave it out", field=name)
    with loading_libraries(common.quiet):
        from xclipt.export.formats import export_delta
        from xclipt.export.recall import RecallCheck

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

        @cache
        def pictures(name: str) -> "Dataset":
            return run.open_data(name, reading)

        def check(stored: "StoredDelta") -> RecallCheck | None:
            if format != _INT8:
                return None
            chosen = pictures(dataset or _own_dataset(stored))
            return RecallCheck(run.workspace, chosen, split, max_loss, allow_missing)

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
                    check=check(stored),
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
        if export.loss:
            print_line(f"{export.language}: {export.loss}")
    shared = {path: count for export in exports for path, count in export.shared.items()}
    for path, weighs in shared.items():
        print_line(f"{path}: {size(weighs)}, for all of them")


def _own_dataset(stored: "StoredDelta") -> str:
    """The data set that a delta learnt from, where its name says where it is.

    Raises:
        UsageError: It does not.
    """
    from xclipt.data.registry import KNOWN

    name = stored.manifest.data.dataset
    if name not in [known.name for known in KNOWN]:
        taught = ", ".join(stored.manifest.taught)
        raise UsageError(
            f"name pictures with captions in {taught}, to measure what int8 costs; the delta's own "
            f"were '{name}', and emoji is always at hand",
            field="dataset",
        )
    return name
