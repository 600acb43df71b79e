"""``xclipt import-delta``."""

from pathlib import Path
from typing import Annotated

import typer

from xclipt.cli.options import CommonOptions, common_options
from xclipt.cli.session import Session
from xclipt.cli.terminal import print_json, print_line, size
from xclipt.errors import XcliptError


@common_options
def import_delta_command(
    common: CommonOptions,
    folder: Annotated[
        Path, typer.Argument(help="Folder of the delta: native, hub, peft or opendelta.")
    ],
    lang: Annotated[
        str | None,
        typer.Option("--lang", help="Its language; needed where xclipt did not write the folder."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; as it is called.")
    ] = None,
    use: Annotated[
        bool, typer.Option("--use", help="Make it current even where the language has another.")
    ] = False,
) -> None:
    """Take a delta into the artifact directory, if it is one for its backbone.

    Folders that xclipt exported carry their manifest: backbone, weights and settings are checked
    against it. Of a folder that PEFT or OpenDelta wrote by itself only names and shapes can be
    checked; --lang says that you know where it is from.

    Example: xclipt import-delta exported/fr/lora-10shot-seed1
    """
    from xclipt.artifacts.directory import ArtifactDirectory
    from xclipt.export.importing import import_delta

    with Session(common, create=True) as session:
        if not folder.is_dir():
            raise XcliptError(f"{folder}: no such folder; name the folder that holds the delta")
        there = (common.artifacts / "xclipt.yaml").exists() and common.backbone is None
        directory = (
            ArtifactDirectory.open(common.artifacts) if there else session.workspace.directory
        )
        if lang is not None:
            lang = session.language(lang)
        imported = import_delta(directory, folder, language=lang, name=name, make_current=use)
        if imported.foreign:
            session.progress.note(
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
        print_line(f"To make it current: xclipt use {manifest.language} {manifest.name}")
