"""Measure xclipt against the alternatives and against bare torch (PERFORMANCE.md).

python -m tests.benchmarks --data-dir DATA --json figures.json --plot growth.svg
python -m tests.benchmarks --only step,search --scale 0.1
python -m tests.benchmarks --profile
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.growth import draw
from tests.benchmarks.measuring import Row, Setting
from tests.benchmarks.profiles import profiles
from tests.benchmarks.rows import ROWS
from tests.benchmarks.table import Found, as_json, heading, lines_of
from xclipt.files import write_text
from xclipt.workspace import choose_device

_SHORT = 0.001


def main(arguments: Sequence[str]) -> None:
    """Measure the rows that are asked for, and print each as it is found."""
    known = {row.name: row for row in ROWS}
    given = _parser(known).parse_args(arguments)
    wanted = given.only.split(",") if given.only else list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"--only: no row {', '.join(unknown)}; there are {', '.join(known)}")
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="xclipt-benchmarks-") as folder:
        setting = Setting(
            choose_device(given.device),
            given.data_dir,
            Path(folder),
            rounds=1 if given.short else given.rounds,
            scale=_SHORT if given.short else given.scale,
        )
        if given.profile:
            for one in profiles(setting):
                sys.stdout.write("".join(f"{line}\n" for line in one.lines()))
            return
        sys.stdout.write(f"{heading(setting)}\n")
        for name in wanted:
            started = time.perf_counter()
            measured = known[name].measure(setting)
            found.append(Found(known[name], measured, time.perf_counter() - started))
            sys.stdout.write("".join(f"{line}\n" for line in lines_of(found[-1])))
            sys.stdout.flush()
            if given.json:  # what is there is kept, should a later row fail
                document = json.dumps(as_json(setting, found), indent=2)
                write_text(given.json, f"{document}\n")
    if given.plot:
        draw(given.plot, [curve for one in found for curve in one.measured.curves])


def _parser(rows: dict[str, Row]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog="\n".join(["rows:", *(f"  {row.name:<12} {row.about}" for row in rows.values())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = os.environ.get("XCLIPT_DATA")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(named) if named else None,
        help="the public data sets (XCLIPT_DATA); emoji stand in without",
    )
    parser.add_argument("--only", metavar="ROW,...", help="these rows alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw growth: .png or .svg")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes")
    parser.add_argument(
        "--short", action="store_true", help="run everything once, as small as it can be"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show where the time goes instead of the rows"
    )
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
