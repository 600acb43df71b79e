"""How long commands take to start, and how much memory they take.

    python -m tests.benchmarks.startup [--runs 5]

Trains a small French delta first, then runs each command so often and prints the best run: wall
and processor time in seconds, and peak memory. ``search`` is warm: its pictures are indexed. It is
held against the time that Python takes to import torch and transformers and to load the text tower
with its tokenizer, below which no search can be.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_LOADING = """
import torch
from transformers import BertModel, PreTrainedTokenizerFast
from xclipt.files import cache_dir
folder = next(cache_dir().glob("multilingual-e5-small-*"))
BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
"""


@dataclass(frozen=True)
class Cost:
    """Of one run, children included."""

    seconds: float
    cpu: float
    megabytes: float


def run(command: list[str]) -> Cost:
    """What a command costs. It must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Cost(seconds, used.ru_utime + used.ru_stime, _megabytes(used))


def best(command: list[str], runs: int) -> Cost:
    """The run with the least wall time: what else the machine does only ever adds."""
    return min((run(command) for _ in range(runs)), key=lambda cost: cost.seconds)


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        pictures, artifacts = Path(folder, "pictures"), Path(folder, "artifacts")
        pictures.mkdir()
        for i in range(100):
            Image.new("RGB", (64, 48), (i, 255 - i, 2 * i)).save(pictures / f"{i}.png")
        xclipt = [sys.executable, "-m", "xclipt"]
        at = ["--artifacts", str(artifacts)]
        train = ["train-delta", "--lang", "fr", "--shots", "10", "--validate-on", "20"]
        subprocess.run([*xclipt, *train, "--even-if-worse", "--name", "ten", *at], check=True)
        search = [*xclipt, "search", "un chien", "--lang", "fr", "--images", str(pictures), *at]
        run(search)
        for name, command in {
            "--help": [*xclipt, "--help"],
            "status": [*xclipt, "status", *at],
            "use": [*xclipt, "use", "fr", "ten", *at],
            "verify": [*xclipt, "verify", *at],
            "search, warm": search,
            "imports and tower": [sys.executable, "-c", _LOADING],
        }.items():
            cost = best(command, runs)
            wall, cpu = f"{cost.seconds:6.2f} s", f"{cost.cpu:6.2f} s cpu"
            sys.stdout.write(f"{name:18} {wall} {cpu} {cost.megabytes:6.0f} MB\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
