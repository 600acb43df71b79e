"""Fuzzing that follows the branches of the code: atheris, where ``pip install atheris`` finds one.

``python -m tests.reliability.guided --seconds 15`` gives every reader so long, or the one that is
named; contents are those that ``fuzz`` draws, chosen by what they reach.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["xclipt"]):
    from tests.reliability.readers import READERS, Files, understood


def main() -> int:
    """The command: a process for each reader, since the fuzzer ends its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.guided", description=__doc__)
    parser.add_argument("reader", nargs="?", choices=READERS)
    parser.add_argument("--seconds", type=int, default=15)
    given = parser.parse_args()
    if given.reader:
        with tempfile.TemporaryDirectory(prefix="guided-") as folder:
            test = understood(given.reader, Files(Path(folder) / "files"))
            begin = Path(folder) / "corpus"  # of shorter inputs nothing can be drawn
            begin.mkdir()
            for number in range(8):
                (begin / str(number)).write_bytes(random.Random(number).randbytes(2048))
            settings = {
                "max_total_time": given.seconds,
                "rss_limit_mb": 0,
                "len_control": 0,
                "artifact_prefix": f"{folder}/",
            }
            arguments = [f"-{name}={value}" for name, value in settings.items()]
            draw = test.hypothesis.fuzz_one_input
            atheris.Setup([sys.argv[0], *arguments, str(begin)], draw)
            atheris.Fuzz()
    broken = tried = 0
    for name in READERS:
        command = [sys.executable, "-m", __spec__.name, name, "--seconds", str(given.seconds)]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace")
        wrong = re.findall(r"Uncaught Python exception: ===\n(.*)", ran.stderr)
        broken += ran.returncode != 0
        runs = sum(map(int, re.findall(r"^Done (\d+) runs", ran.stderr, re.MULTILINE)))
        tried += runs
        came = "; ".join(wrong[:1]) or f"{runs:,} contents, exit {ran.returncode}"
        sys.stdout.write(f"{name}: {came}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(READERS)} readers, {tried:,} contents, {broken} broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
