"""``xclipt backbones``."""

from dataclasses import asdict

from xclipt.cli.listing import Listing
from xclipt.cli.options import CommonOptions, common_options_but
from xclipt.cli.terminal import print_json, print_line, print_table, size


@common_options_but("artifacts", "backbone", "data_dir", "device", "dtype", "seed")
def backbones_command(common: CommonOptions) -> None:
    """List published backbones by the name that --backbone takes, and what a delta of each weighs.

    It takes other models of these families too, from the hub or a folder.

    Example: xclipt backbones
    """
    from xclipt.backbones.catalogue import CATALOGUE

    if common.json:
        rows = [asdict(one) | {"percent": one.percent} for one in CATALOGUE]
        for row in rows:
            del row["config"]
        print_json({"command": "backbones", "backbones": rows})
        return
    table = Listing(
        "Backbones, and a LoRA's default size on each",
        ("name",),
        ("languages", "licence"),
        ("dim", "text", "delta"),
    )
    for one in CATALOGUE:
        table.add_row(
            one.name,
            one.languages,
            one.licence,
            str(one.dim),
            f"{one.text_parameters / 1e6:,.0f} M",
            size(4 * one.delta_parameters),
        )
    print_table(table)
    print_line("BACKBONES.md says which to choose; --json has types, positions and exact counts.")
