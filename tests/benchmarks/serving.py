"""Many languages on one backbone: swap time, throughput of mixed batches, memory.

    python -m tests.benchmarks.serving speed
    python -m tests.benchmarks.serving memory 200

Times are of the processor, on one thread, the least of several rounds taken in turn, so that other
work on the machine disturbs them little. Deltas are LoRAs of the default's structure with random
weights: their size counts, not what they learnt. ``memory`` measures a process of its own for each
count.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.factories.deltas import store_noise
from tests.factories.tiny import workspace_in
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.builtin import load_builtin
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.languages import resolve
from xclipt.model import Model
from xclipt.progress import Silent
from xclipt.workspace import Workspace

ROUNDS = 3
CAPTIONS = (
    "two dogs run through fresh snow",
    "a child in a red coat plays with a ball on the beach near the water",
    "a man rides a bicycle down a narrow street",
    "several people wait at a bus stop in the rain",
)


def codes(count: int) -> list[str]:
    """So many languages by their three-letter codes."""
    found: list[str] = []
    for first in "abcdefghijklmnopqrstuvwxyz":
        for second in "abcdefghijklmnopqrstuvwxyz":
            try:
                code = resolve(first + second + "a")
            except Exception:
                continue
            if code not in found and code != "en":
                found.append(code)
    return found[:count]


def taught(root: Path, count: int) -> Workspace:
    """The builtin backbone with ``count`` languages."""
    workspace = workspace_in(root, load_builtin(torch.device("cpu")))
    for seed, code in enumerate(codes(count)):
        store_noise(workspace, code, "noise", 0.01, seed=seed, spec=WARM_START_SPEC)
    return workspace


def seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least processor time of each, in turn."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - started)
    return best


def grouped(model: Model, texts: list[str], languages: list[str]) -> None:
    """What mixed batches are measured against: a call a language."""
    for language in dict.fromkeys(languages):
        rows = [i for i, code in enumerate(languages) if code == language]
        model.encode_text([texts[i] for i in rows], language)


def speed() -> None:
    """Print swap time, then throughput relative to one language, row by row and by language."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model, known = Model(taught(Path(folder), 32)), codes(32)
        model.warm(known)
    swaps = [known[i % 2] for i in range(200)]
    started = time.process_time()
    for code in swaps:
        model.warm([code])
    sys.stdout.write(f"swap: {(time.process_time() - started) / len(swaps) * 1e3:.2f} ms\n")
    for count in (32, 128):
        texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(count)]
        for languages in (2, 8, 32):
            mixed = [known[i % languages] for i in range(count)]
            best = seconds(
                {
                    "one": lambda texts=texts: model.encode_text(texts, known[0]),
                    "rows": lambda texts=texts, mixed=mixed: model.encode_text(texts, mixed),
                    "groups": lambda texts=texts, mixed=mixed: grouped(model, texts, mixed),
                }
            )
            sys.stdout.write(
                f"{count:4d} texts, {languages:2d} languages: row by row "
                f"{best['one'] / best['rows']:.2f} of one language's throughput, by language "
                f"{best['one'] / best['groups']:.2f}; one language "
                f"{count / best['one']:.0f} texts a second\n"
            )


def resident() -> float:
    """Memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(root: Path, count: int) -> dict[str, float]:
    """Resident MB of a model before and after ``count`` languages were used."""
    backbone = load_builtin(torch.device("cpu"))
    model = Model(Workspace(ArtifactDirectory.open(root), backbone, Silent()), capacity=count)
    model.encode_text(CAPTIONS)
    before = resident()
    for code in codes(count):
        model.encode_text(["a cat"], code)
    return {"deltas": count, "base": round(before), "with": round(resident())}


def main(arguments: list[str]) -> None:
    if arguments[0] == "speed":
        speed()
    elif arguments[0] == "memory":
        with tempfile.TemporaryDirectory() as folder:
            root = taught(Path(folder), int(arguments[1])).directory.root
            for count in sorted({1, 10, int(arguments[1])}):
                command = ["-m", "tests.benchmarks.serving", "one", str(root), str(count)]
                subprocess.run([sys.executable, *command], check=True)
    else:
        sys.stdout.write(f"{json.dumps(memory(Path(arguments[1]), int(arguments[2])))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
