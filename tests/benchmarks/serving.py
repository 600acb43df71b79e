"""A server under load against one process that calls ``encode_text``.

The load is Debian's ``hey``: each client asks for one text at a time, and for the next as soon as
it has its answer. Half of the clients ask in French, half in German.
"""

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    Timings,
    at_least,
)
from xclipt.model import Model, load

TEXTS = {
    "fr": "deux chiens courent dans la neige fraîche",
    "de": "ein Kind spielt mit einem Ball am Strand",
}
_CLIENTS = (1, 8, 64)
_SECONDS = 5
_ALONE = "encode_text, 1 by 1"
_TOGETHER = "encode_text, 64 at once"
_AT_ONCE = 64


@dataclass(frozen=True)
class Load:
    """What clients saw, in seconds: until each answer, and for all of them."""

    answers: tuple[float, ...]
    seconds: float

    def percentile(self, share: float) -> float:
        """Milliseconds within which a share of the requests was answered."""
        ordered = sorted(self.answers)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def serving(setting: Setting) -> Measured:
    """Throughput and waiting at 1, 8 and 64 clients, in turn with plain calls."""
    if shutil.which("hey") is None:
        return Measured((Figure("64 clients", _ALONE, remark="hey: `apt-get install hey`"),))
    artifacts = _taught(setting)
    seconds = setting.size(_SECONDS)
    named = {f"{n} client{'s' * (n > 1)}": n for n in _CLIENTS}
    spent: dict[str, list[float]] = {name: [] for name in (*named, _ALONE, _TOGETHER)}
    waits: dict[tuple[str, float], list[float]] = {}
    model = load(artifacts, device=setting.device.type)
    with _server(artifacts, setting) as url:
        for number in range(-1, setting.rounds):  # the first warms
            for name in list(spent)[:: -1 if number % 2 else 1]:
                if name in named:
                    found = _load(url, named[name], seconds)
                    each = found.seconds / len(found.answers)
                    for share in (0.5, 0.99):
                        waits.setdefault((name, share), []).append(found.percentile(share))
                else:
                    each = _plainly(model, _AT_ONCE if name == _TOGETHER else 1, seconds)
                spent[name].append(each)
    taken = Timings.of({name: rounds[1:] for name, rounds in spent.items()})
    told = ", ".join(f"{name} {1 / taken.median(name):.0f}" for name in spent)
    targets = dict(zip(named, (at_least(0.7), at_least(1), at_least(1.5)), strict=True))
    remark = f"texts a second: {told}"
    return Measured(
        (
            *(taken.times_as_fast(name, _ALONE, targets[name], remark) for name in named),
            taken.times_as_fast("64 clients", _TOGETHER, at_least(0.7), remark),
            *(
                _waiting(name, share, waits[name, share][1:])
                for name in named
                for share in (0.5, 0.99)
            ),
        )
    )


def _waiting(name: str, share: float, rounds: Sequence[float]) -> Figure:
    return Figure(
        f"{name}, p{100 * share:.0f}",
        value=statistics.median(rounds),
        unit="ms",
        spread=(min(rounds), max(rounds)),
    )


def _taught(setting: Setting) -> Path:
    """A directory with a small delta of both languages."""
    artifacts = setting.folder / "served"
    for code in TEXTS:
        train = ["train-delta", "--lang", code, "--shots", "10", "--validate-on", "20"]
        few = ["--epochs", "5", "--even-if-worse", "--artifacts", str(artifacts)]
        command = [sys.executable, "-m", "xclipt", *train, *few, "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return artifacts


@contextmanager
def _server(artifacts: Path, setting: Setting) -> Iterator[str]:
    at = ["--artifacts", str(artifacts), "--device", setting.device.type]
    command = [sys.executable, "-m", "xclipt", "serve", "--port", "0", "--json", "-q", *at]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("}"):
                    break
            yield json.loads("".join(lines))["url"]
        finally:
            process.terminate()


def _load(url: str, clients: int, seconds: int) -> Load:
    """So many clients for so many seconds; each language has half of them."""
    codes = list(TEXTS)[: min(clients, len(TEXTS))]
    started = time.perf_counter()
    running = [_hey(url, code, clients // len(codes), seconds) for code in codes]
    printed = [process.communicate()[0] for process in running]
    taken = time.perf_counter() - started
    rows = [row for text in printed for row in csv.DictReader(io.StringIO(text))]
    if wrong := [row["status-code"] for row in rows if row["status-code"] != "200"]:
        raise RuntimeError(f"{len(wrong)} of {len(rows)} requests were not answered: {wrong[0]}")
    return Load(tuple(float(row["response-time"]) for row in rows), taken)


def _hey(url: str, code: str, clients: int, seconds: int) -> "subprocess.Popen[str]":
    asked = json.dumps({"input": TEXTS[code], "language": code, "encoding_format": "base64"})
    given = ["-z", f"{seconds}s", "-c", str(clients), "-o", "csv", "-m", "POST"]
    body = ["-T", "application/json", "-d", asked]
    command = ["hey", *given, *body, f"{url}/v1/embeddings"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _plainly(model: Model, at_once: int, seconds: float) -> float:
    """Seconds a text of calls of so many texts, in both languages."""
    codes: Sequence[str] = [code for code in TEXTS for _ in range(max(1, at_once // 2))]
    calls = [codes] if at_once > 1 else [[code] for code in TEXTS]
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        for call in calls:
            model.encode_text([TEXTS[code] for code in call], call)
            done += len(call)
    return spent / done


ROWS = (Row("serving", "a server under load", serving),)
