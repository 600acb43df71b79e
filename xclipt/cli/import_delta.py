"""``xclipt import-delta``."""

from pathlib import Path
from typing import Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import CommonOptions, common_options_but
from xclipt.cli.terminal import loading_libraries, print_json, print_line, size
from xclipt.cli.wording import worded
from xclipt.errors import UsageError, recommended


@common_options_but("data_dir", "dtype", "seed")
def import_delta_command(
    common: CommonOptions,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of the delta: native, hub, peft or opendelta; or a .ckpt of the paper's "
            "released code."
        ),
    ],
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang",
            autocompletion=completion.languages,
            help="Language of the delta; needed if xclipt did not write the folder.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="New name for the delta (default: its own).")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="What it was trained on, target or to-en, if the folder does not say (target).",
        ),
    ] = None,
    alpha: Annotated[
        int | None,
        typer.Option("--alpha", help="A LoRA's in a .ckpt, which does not say (16).", min=1),
    ] = None,
    use: Annotated[
        bool, typer.Option("--use", help="Make it current even where the language has another.")
    ] = False,
) -> None:
    """Take an exported delta into the artifact directory; it has to fit the backbone.

    Folders that xclipt exported carry their manifest: backbone, weights and settings are checked
    against it. If PEFT or OpenDelta wrote the folder, only names and shapes can be checked; --lang
    says that you know where it is from.

    Example: xclipt import-delta exported/fr/lora-10shot-seed1
    """
    with loading_libraries(common.quiet):
        from xclipt.export.importing import import_delta, require_importable

    with Invocation(common, create=True) as run:
        if not folder.exists():
            raise UsageError(f"{folder}: no such folder; name the folder that holds the delta")
        require_importable(folder)  # before an artifact directory is made for it
        if lang is not None:
            lang = run.language(lang)
        imported = import_delta(
            run.directory,
            folder,
            language=lang,
            name=name,
            make_current=use,
            text=text,
            alpha=alpha,
        )
        if imported.foreign:
            run.progress.note(
                f"{folder}: xclipt did not write it; that it was trained on this backbone is your "
                "word, and eval cannot leave out the pictures that it was trained on"
            )
    if common.json:
        print_json({"command": "import-delta", "delta": imported.as_json()})
        return
    manifest = imported.delta.manifest
    print_line(
        f"{manifest.language}: {manifest.name} ({imported.format}, {manifest.kind}, "
        f"{size(manifest.weights.bytes)}) is in {imported.delta.folder}"
    )
    if imported.delta.current:
        print_line(f"It is the current delta of {manifest.language}.")
    else:
        for code in manifest.taught:
            print_line(
                worded(f"To make it current: {recommended('use', code, manifest.reference)}")
            )
