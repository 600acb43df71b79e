"""A delta from sentence pairs alone: pairs a second and peak memory, whatever the file's size.

    python -m tests.benchmarks.text_alone [SECONDS] [PAIRS ...]

A file of so many synthetic pairs (1,000 and 1,000,000) trains for so many seconds (60) on the
builtin backbone, in float32 and in bfloat16, each in a process of its own. Told are how long it
took to read, screen and sort the file (the second time it is known), how many pairs were trained on
a second, and the peak of the process's resident memory before the training and in all.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xclipt.alignment.build import AlignmentRequest
from xclipt.progress import Silent, Task
from xclipt.training.recipe import SENTENCES
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import open_workspace

ENGLISH = (
    *("the", "dog", "runs", "over", "a", "green", "field", "and", "two", "men", "look", "at"),
    *("water", "with", "red", "hats", "in", "front", "of", "an", "old", "house", "while", "girl"),
)
FRENCH = (
    *("le", "chien", "court", "sur", "un", "vert", "champ", "et", "deux", "hommes", "regardent"),
    *("vers", "eau", "avec", "rouges", "chapeaux", "dans", "devant", "de", "une", "vieille"),
    *("maison", "pendant", "fille"),
)


def main(arguments: list[str]) -> None:
    """Measure each size in each number type."""
    seconds, *sizes = arguments or ["60"]
    sys.stdout.write("    pairs  dtype      read   pairs/s  before training  peak\n")
    for size in sizes or ["1000", "1000000"]:
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder) / "en-fr.tsv", int(size))
            for dtype in ("float32", "bfloat16"):
                command = [sys.executable, "-m", __spec__.name, "one", folder, dtype, seconds]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout)
                sys.stdout.write(
                    f"{int(size):9,}  {dtype:8} {found['read']:5.0f} s  {found['rate']:8.1f}  "
                    f"{found['before']:12,.0f} MB  {found['peak']:,.0f} MB\n"
                )


def write_pairs(path: Path, count: int) -> None:
    """So many pairs of twelve words, all different."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            picks = draw.choices(range(len(ENGLISH)), k=12)
            file.write(" ".join(ENGLISH[i] for i in picks) + "\t")
            file.write(" ".join(FRENCH[i] for i in picks) + "\n")


class _StopError(Exception):
    pass


class _Watch(Silent):
    """Stops a training when its time is up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.began = self.last = 0.0
        self.steps = 0
        self.before = 0.0

    def start(self, description: str, total: int) -> Task:
        if not description.startswith("Training"):
            return super().start(description, total)
        self.began, self.before = time.monotonic(), peak()
        return self

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self.steps += steps
        self.last = time.monotonic()
        if self.last - self.began > self._seconds:
            raise _StopError

    def finish(self) -> None:
        pass


def peak() -> float:
    """Peak of this process's resident memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_one(folder: str, dtype: str, seconds: str) -> None:
    """Train, and print what was measured as JSON."""
    watch = _Watch(float(seconds))
    workspace = open_workspace(Path(folder) / "artifacts", watch, dtype=dtype, create=True)
    request = TrainingRequest(
        AlignmentRequest("fr", shots=0),
        recipe=replace(SENTENCES, epochs=1000, max_steps=1_000_000, evaluations=1),
        parallel=Parallel((f"{folder}/en-fr.tsv",), held_out=0),
    )
    started = time.monotonic()
    with suppress(_StopError):
        train_delta(workspace, None, request)
    took = watch.last - watch.began
    found = {
        "read": watch.began - started,
        "rate": watch.steps * SENTENCES.batch_size / took,
        "before": watch.before,
        "peak": peak(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        measure_one(*sys.argv[2:])
    else:
        main(sys.argv[1:])
