"""``xclipt status``."""

from typing import TYPE_CHECKING, Any

from xclipt.cli.invocation import Invocation, data_root
from xclipt.cli.listing import Listing
from xclipt.cli.options import CommonOptions, common_options_but
from xclipt.cli.terminal import (
    delta_table,
    kept_cell,
    print_json,
    print_line,
    print_table,
    size,
    validation_cells,
)
from xclipt.cli.wording import worded

if TYPE_CHECKING:
    from xclipt.artifacts.directory import StoredDelta


@common_options_but("backbone", "device", "dtype", "seed")
def status_command(common: CommonOptions) -> None:
    """List the backbone, the data sets and the deltas with what they measured.

    Example: xclipt status --artifacts xclipt-artifacts
    """
    from xclipt.data.registry import data_at_hand
    from xclipt.parallel.stored import kept_pairs

    directory = Invocation(common).existing
    deltas = directory.deltas()
    parallel = kept_pairs(directory)
    data = data_at_hand(data_root(common))
    if common.json:
        print_json(
            {
                "command": "status",
                "artifacts": str(directory.root),
                "backbone": directory.backbone.plain(),
                "data": [vars(entry) for entry in data],
                "parallel": [
                    {
                        "language": pairs.language,
                        "source": pairs.source,
                        "pairs": len(pairs),
                        "path": str(pairs.folder),
                    }
                    for pairs in parallel
                ],
                "deltas": [_as_json(delta) for delta in deltas],
            }
        )
        return
    backbone = directory.backbone
    print_line(f"artifacts  {directory.root}")
    fingerprint = backbone.fingerprint[:12]
    print_line(f"backbone   {backbone.named} ({backbone.revision}), fingerprint {fingerprint}")
    print_line("data       " + "; ".join(f"{e.name} ({', '.join(e.languages)})" for e in data))
    for pairs in parallel:
        print_line(f"sentences  {pairs.language}: {len(pairs):,} pairs of {pairs.source}")
    if deltas:
        print_table(_table(deltas))
    else:
        print_line(
            worded("deltas     none yet; train one: `xclipt train-delta --lang fr --shots 10`")
        )


def _as_json(delta: "StoredDelta") -> dict[str, Any]:
    manifest = delta.manifest
    return {
        "language": manifest.language,
        "languages": [*manifest.taught],
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
        "pairs": manifest.data.all_pairs,
        "validation": manifest.validation,
        "chosen_step": manifest.validation.get("step"),
        "kept_start": manifest.kept_start,
        "created": manifest.created,
    }


def _table(deltas: list["StoredDelta"]) -> Listing:
    table = delta_table(
        "Deltas (* is current), their kept steps, and mean R@1 on validation",
        ("lang", "delta", "kind", "data"),
        ("pairs", "kept", "size", "base", "delta"),
    )
    for delta in deltas:
        manifest = delta.manifest
        table.add_row(
            manifest.language,
            f"{manifest.name}{' *' if delta.current else ''}",
            manifest.kind,
            manifest.data.dataset,
            f"{manifest.data.all_pairs:,}",
            kept_cell(manifest),
            size(manifest.weights.bytes),
            *validation_cells(manifest.validation),
        )
    return table
