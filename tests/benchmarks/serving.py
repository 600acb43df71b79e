"""A server under load against one process that calls ``encode_text``.

The load is Debian's ``hey``: each client asks for one text at a time, and for the next as soon as
it has its answer. Half of the clients ask in French, half in German.
"""

import csv
import io
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    Timings,
    at_least,
    at_most,
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
    """Texts that were encoded in so many seconds, and what that took of the processor.

    Attributes:
        texts: How many.
        seconds: Of the clock.
        processor: Seconds of all threads of the process that encodes.
        answers: Seconds until each answer, where clients asked.
    """

    texts: int
    seconds: float
    processor: float
    answers: tuple[float, ...] = ()

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
    found: dict[str, list[Load]] = {name: [] for name in (*named, _ALONE, _TOGETHER)}
    model = load(artifacts, device=setting.device.type)
    with _server(artifacts, setting) as url:
        for number in range(-1, setting.rounds):  # the first warms
            for name in list(found)[:: -1 if number % 2 else 1]:
                if name in named:
                    one = _load(url, named[name], seconds)
                else:
                    one = _plainly(model, _AT_ONCE if name == _TOGETHER else 1, seconds)
                if number >= 0:
                    found[name].append(one)
    clock = Timings.of({n: [one.seconds / one.texts for one in f] for n, f in found.items()})
    own = Timings.of({n: [one.processor / one.texts for one in f] for n, f in found.items()})
    told = ", ".join(f"{name} {1 / clock.median(name):.0f}" for name in found)
    spent = ", ".join(f"{name} {1000 * own.median(name):.0f}" for name in found)
    remark = f"texts a second: {told}; ms of the processor a text: {spent}"
    targets = dict(zip(named, (at_least(0.7), at_least(1), at_least(1.5)), strict=True))
    at_64 = list(named)[-1]
    return Measured(
        (
            *(clock.times_as_fast(name, _ALONE, targets[name], remark) for name in named),
            clock.times_as_fast(at_64, _TOGETHER, at_least(0.7)),
            *(
                replace(own.times_as_long(name, against, at_most(1.4)), what=f"{name}, processor")
                for name, against in ((next(iter(named)), _ALONE), (at_64, _TOGETHER))
            ),
            *(_waiting(name, share, found[name]) for name in named for share in (0.5, 0.99)),
        )
    )


def _waiting(name: str, share: float, found: Sequence[Load]) -> Figure:
    rounds = [one.percentile(share) for one in found]
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
    before, started = _processor(url), time.perf_counter()
    running = [_hey(url, code, clients // len(codes), seconds) for code in codes]
    printed = [process.communicate()[0] for process in running]
    taken, after = time.perf_counter() - started, _processor(url)
    rows = [row for text in printed for row in csv.DictReader(io.StringIO(text))]
    if wrong := [row["status-code"] for row in rows if row["status-code"] != "200"]:
        raise RuntimeError(f"{len(wrong)} of {len(rows)} requests were not answered: {wrong[0]}")
    answers = tuple(float(row["response-time"]) for row in rows)
    return Load(len(rows), taken, after - before, answers)


def _processor(url: str) -> float:
    """Seconds that the server has had of the processor; no number where it cannot tell."""
    with urllib.request.urlopen(f"{url}/metrics") as page:
        told = re.search(r"^process_cpu_seconds_total (\S+)", page.read().decode(), re.MULTILINE)
    return float(told[1]) if told else math.nan


def _hey(url: str, code: str, clients: int, seconds: int) -> "subprocess.Popen[str]":
    asked = json.dumps({"input": TEXTS[code], "language": code, "encoding_format": "base64"})
    given = ["-z", f"{seconds}s", "-c", str(clients), "-o", "csv", "-m", "POST"]
    body = ["-T", "application/json", "-d", asked]
    command = ["hey", *given, *body, f"{url}/v1/embeddings"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _plainly(model: Model, at_once: int, seconds: float) -> Load:
    """Calls of so many texts, in both languages."""
    codes: Sequence[str] = [code for code in TEXTS for _ in range(max(1, at_once // 2))]
    calls = [codes] if at_once > 1 else [[code] for code in TEXTS]
    own, started, done = time.process_time(), time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        for call in calls:
            model.encode_text([TEXTS[code] for code in call], call)
            done += len(call)
    return Load(done, spent, time.process_time() - own)


ROWS = (Row("serving", "a server under load", serving),)
