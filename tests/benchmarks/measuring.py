"""What a benchmark is made of: a row of figures, and the one way to time what they compare."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch


@dataclass(frozen=True)
class Setting:
    """Where and how large a benchmark runs.

    Attributes:
        device: Where the towers are.
        data: The folder of public data sets; without one the embedded emoji stand in.
        folder: For what is written, empty at first.
        rounds: How often each candidate is timed.
        scale: Share of the full sizes.
    """

    device: torch.device
    data: Path | None
    folder: Path
    rounds: int = 3
    scale: float = 1.0

    def size(self, full: int, least: int = 1) -> int:
        """``full`` at this scale, and at least ``least``."""
        return max(least, round(full * self.scale))

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Target:
    """What a figure ought to be: at least or at most a number."""

    bound: float
    least: bool

    def held(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return value >= self.bound if self.least else value <= self.bound


def at_least(bound: float) -> Target:
    """Higher is better."""
    return Target(bound, least=True)


def at_most(bound: float) -> Target:
    """Lower is better."""
    return Target(bound, least=False)


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        against: What it is held against; empty for a figure that stands by itself.
        value: The figure; ``None`` where it could not be measured, which ``remark`` explains.
        unit: ``x`` for a ratio.
        target: What it ought to be.
        spread: Least and greatest over the rounds.
        seconds: Median times that a ratio is made of, by candidate.
        remark: What a reader has to know of it.
    """

    what: str
    against: str = ""
    value: float | None = None
    unit: str = "x"
    target: Target | None = None
    spread: tuple[float, float] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True)
class Curve:
    """Seconds over sizes, of something that ought to grow no faster than its input."""

    what: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """What a row found."""

    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class Row:
    """A group of figures that are measured together.

    Attributes:
        name: What ``--only`` calls it.
        about: What it measures, in a line.
        measure: Does so.
    """

    name: str
    about: str
    measure: Callable[[Setting], Measured]


@dataclass(frozen=True)
class Timings:
    """Seconds of every round by candidate."""

    seconds: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, seconds: Mapping[str, list[float]]) -> Self:
        """From lists that were filled in the course of the measuring."""
        return cls({name: tuple(rounds) for name, rounds in seconds.items()})

    def median(self, name: str) -> float:
        """The candidate's median."""
        return statistics.median(self.seconds[name])

    def times_as_fast(
        self, what: str, against: str, target: Target | None = None, remark: str = ""
    ) -> Figure:
        """How often ``what`` is done while ``against`` is done once."""
        return self._figure(what, against, against, what, target, remark)

    def times_as_long(
        self, what: str, against: str, target: Target | None = None, remark: str = ""
    ) -> Figure:
        """How much of the time of ``against`` is spent on ``what``."""
        return self._figure(what, against, what, against, target, remark)

    def _figure(
        self, what: str, against: str, over: str, under: str, target: Target | None, remark: str
    ) -> Figure:
        # Round by round: what else the machine does meanwhile slows both.
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        ratios = [a / b for a, b in pairs]
        return Figure(
            what,
            against,
            statistics.median(ratios),
            target=target,
            spread=(min(ratios), max(ratios)),
            seconds={name: self.median(name) for name in (what, against)},
            remark=remark,
        )


def interleaved(
    candidates: Mapping[str, Callable[[], object]], setting: Setting, *, warm: bool = True
) -> Timings:
    """Time candidates in turn, round after round, every other round in the opposite order.

    Args:
        candidates: What to run, by name.
        setting: Says how many rounds.
        warm: Run each once before it counts.
    """
    if warm:
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(setting.rounds):
        for name in list(candidates)[:: -1 if number % 2 else 1]:
            gc.collect()
            setting.synchronise()
            started = time.perf_counter()
            candidates[name]()
            setting.synchronise()
            seconds[name].append(time.perf_counter() - started)
    return Timings.of(seconds)
