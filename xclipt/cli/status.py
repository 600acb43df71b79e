"""``xclipt status``."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from xclipt.cli.invocation import data_root
from xclipt.cli.options import CommonOptions, common_options
from xclipt.cli.terminal import print_json, print_line, print_table, size_cells, validation_cells

if TYPE_CHECKING:
    from xclipt.artifacts.directory import StoredDelta


@common_options
def status_command(common: CommonOptions) -> None:
    """List the backbone, the data sets and the deltas with what they measured.

    Example: xclipt status --artifacts xclipt-artifacts
    """
    from xclipt.artifacts.directory import ArtifactDirectory
    from xclipt.data.registry import data_at_hand

    directory = ArtifactDirectory.open(common.artifacts)
    deltas = [delta for language in directory.languages() for delta in directory.deltas(language)]
    data = data_at_hand(data_root(common))
    if common.json:
        print_json(
            {
                "command": "status",
                "artifacts": str(directory.root),
                "backbone": vars(directory.backbone),
                "data": [vars(entry) for entry in data],
                "deltas": [_as_json(delta) for delta in deltas],
            }
        )
        return
    backbone = directory.backbone
    print_line(f"artifacts  {directory.root}")
    print_line(
        f"backbone   {backbone.id} ({backbone.revision}), fingerprint {backbone.fingerprint[:12]}"
    )
    print_line("data       " + "; ".join(f"{e.name} ({', '.join(e.languages)})" for e in data))
    if deltas:
        print_table(_table(deltas))
    else:
        print_line("deltas     none yet; train one with xclipt train-delta --lang fr --shots 10")


def _as_json(delta: "StoredDelta") -> dict[str, Any]:
    manifest = delta.manifest
    return {
        "language": manifest.language,
        "name": manifest.name,
        "current": delta.current,
        "kind": manifest.kind,
        "routine": manifest.routine,
        "text": manifest.text,
        "path": str(delta.folder),
        "trainable_parameters": manifest.weights.parameters,
        "percent": manifest.percent,
        "bytes": manifest.weights.bytes,
        "dataset": manifest.data.dataset,
        "shots": manifest.data.shots,
        "pairs": manifest.data.pairs,
        "validation": manifest.validation,
        "created": manifest.created,
    }


def _table(deltas: list["StoredDelta"]) -> Table:
    table = Table(title="Deltas (* is current)", title_justify="left")
    for column in ("language", "delta", "kind", "data"):
        table.add_column(column)
    for column in ("pairs", "parameters", "share", "size", "val R@1 base", "delta"):
        table.add_column(column, justify="right")
    for delta in deltas:
        manifest = delta.manifest
        table.add_row(
            manifest.language,
            f"{manifest.name}{' *' if delta.current else ''}",
            manifest.kind,
            manifest.data.dataset,
            f"{manifest.data.pairs:,}",
            *size_cells(manifest.weights.parameters, manifest.percent, manifest.weights.bytes),
            *validation_cells(manifest.validation),
        )
    return table
