"""What is done to commands in the middle of their work, and what must be true afterwards."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.reliability.kernel import Event
from tests.reliability.processes import Done, Fault, Ran
from tests.reliability.worlds import COMMANDS, World, contents, matching

VERIFY = ("verify", "--artifacts", "artifacts", "--json")
SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
ERRORS = ("ENOSPC", "EIO", "EACCES")


@dataclass
class Tally:
    """What came of many cases: counts by what happened, and every promise that was broken."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.counts + other.counts, self.broken + other.broken)


@dataclass(frozen=True)
class Reference:
    """A command that nothing disturbs.

    Attributes:
        events: What it does to files.
        after: What is there when it has ended.
        seconds: How long it takes.
    """

    events: tuple[Event, ...]
    after: dict[str, bytes]
    seconds: float


class Trials:
    """Cases in one world.

    Args:
        world: The world.
        seed: What samples are drawn with.
        share: Of the write events of each command so many are tried; 1 is all.
    """

    def __init__(self, world: World, seed: int = 0, share: float = 1.0) -> None:
        self.world = world
        self._random = random.Random(seed)
        self._share = share
        self.reference = cache(self._reference)

    def _reference(self, name: str) -> Reference:
        folder = self.world.fresh(name)
        ran = self.world.run(self._command(name), folder=folder)
        assert ran.done and ran.done[0].code == 0, (name, ran)
        reference = Reference(tuple(ran.events), contents(folder), ran.seconds)
        self.world.discard(folder)
        return reference

    def _command(self, name: str) -> tuple[str, ...]:
        return self.world.arguments(COMMANDS[name].arguments)

    def sample(self, name: str) -> list[int]:
        """Numbers of write events."""
        every = range(len(self.reference(name).events))
        share = self._share / 10 if COMMANDS[name].slow else self._share
        count = min(len(every), max(1, round(share * len(every))))
        return sorted(self._random.sample(every, count))

    def kills(self, name: str) -> Tally:
        """SIGKILL at write events; half of what was being written arrives."""
        tally = Tally()
        for at in self.sample(name):
            with self._case(tally, name, Fault("SIGKILL", at)) as case:
                case.expect(case.ran.signal == 9, f"went on after a kill: {case.ran}")
                case.taken_up()
        return tally

    def signals(self, name: str) -> Tally:
        """SIGINT and SIGTERM at write events."""
        tally = Tally()
        for at in self.sample(name):
            number = self._random.choice([*SIGNALS])
            with self._case(tally, name, Fault(number, at)) as case:
                case.stopped(SIGNALS[number])
                case.taken_up()
        return tally

    def moments(self, count: int) -> Tally:
        """Kills and signals at any moment."""
        tally = Tally()
        quick = [name for name, command in COMMANDS.items() if not command.slow]
        for _ in range(count):
            name = self._random.choice(quick)
            number = self._random.choice(["SIGKILL", *SIGNALS])
            after = self._random.uniform(0, self.reference(name).seconds)
            with self._case(tally, name, Fault(number, after=after)) as case:
                if number in SIGNALS:
                    case.stopped(SIGNALS[number])
                case.taken_up()
        return tally

    def faults(self, name: str, do: str, *, lasting: bool = False) -> Tally:
        """A call that changes files fails, or all from one on."""
        tally = Tally()
        for at in self.sample(name):
            with self._case(tally, name, Fault(do, at, lasting=lasting)) as case:
                case.refused_or_done()
                case.taken_up(caches=False)  # what could not be kept is kept elsewhere, or not
        return tally

    def _case(self, tally: Tally, name: str, fault: Fault) -> "_Judged":
        folder = self.world.fresh(name)
        ran = self.world.run(self._command(name), folder=folder, fault=fault)
        return _Judged(self, tally, name, fault, folder, ran)

    def again(self, name: str, folder: Path) -> list[Done]:
        """Verify, the same command again, and verify, each a process of its own."""
        steps = (VERIFY, self._command(name), VERIFY)
        return [done for step in steps for done in self.world.run(step, folder=folder).done]


class _Judged:
    """A case, and what is held against it: a context manager."""

    def __init__(
        self, trials: Trials, tally: Tally, name: str, fault: Fault, folder: Path, ran: Ran
    ) -> None:
        self._trials, self._tally = trials, tally
        self._name, self._fault, self._folder = name, fault, folder
        self.ran = ran
        self._faults: list[str] = []

    def __enter__(self) -> "_Judged":
        self._tally.counts["cases"] += 1
        self.expect(not self.ran.hung, "hangs")
        self._earlier()
        return self

    def __exit__(self, *exception: object) -> None:
        events = self._trials.reference(self._name).events
        at = f"{self._fault.after:.2f} s"
        if self._fault.at is not None:
            event = events[self._fault.at]
            at = f"{self._fault.at} ({event.kind} {event.path})"
        lasting = " from there on" if self._fault.lasting else ""
        self._tally.broken += [
            f"{self._name}: {self._fault.do} at {at}{lasting}: {fault}" for fault in self._faults
        ]
        if not self._faults:
            self._trials.world.discard(self._folder)

    def expect(self, true: bool, otherwise: str) -> None:
        """Note a promise that was broken."""
        if not true:
            self._faults.append(otherwise)

    def _earlier(self) -> None:
        """What was there before is there still, to the byte."""
        before = self._trials.world.earlier(self._name)
        now = contents(self._folder)
        lost = [path for path, data in before.items() if now.get(path) != data]
        self.expect(not lost, f"earlier files are lost or changed: {lost}")

    def stopped(self, code: int) -> None:
        """It stopped when asked to, or had ended, with one line, and tidied up."""
        (done, *_) = self.ran.done or [None]
        if done is None:  # before the program began
            self._tally.counts["before it began"] += 1
            return
        self.expect(done.code in (0, code), f"exit {done.code}, {done.err!r}")
        self._tally.counts["stopped" if done.code else "done already"] += 1
        if done.code:
            self._one_line(done, "run the same command to go on")
        self.expect(not _litter(self._folder), f"left {_litter(self._folder)}")

    def refused_or_done(self) -> None:
        """It said in one line what cannot be written, or went on to the same results."""
        if not self.ran.done:
            return self.expect(False, f"died: {self.ran}")
        done = self.ran.done[0]
        if done.code:
            self._tally.counts["refused in one line"] += 1
            self._one_line(done, "")
            self.expect(_names_a_path(done.err), f"names no path: {done.err!r}")
            return None
        self._tally.counts["done all the same"] += 1
        patterns = COMMANDS[self._name].stores
        wanted = matching(self._trials.reference(self._name).after, patterns)
        found = matching(contents(self._folder), patterns)
        self.expect(found == wanted, f"exit 0, but {_differing(found, wanted)}; {done.err!r}")
        return None

    def _one_line(self, done: Done, part: str) -> None:
        wrong = one_line(done, part)
        self.expect(not wrong, wrong)

    def taken_up(self, *, caches: bool = True) -> None:
        """The directory is sound, and the same command ends as if nothing had happened.

        Args:
            caches: Whether what is kept to be quicker the next time is the same too.
        """
        done = self._trials.again(self._name, self._folder)
        if len(done) != 3:
            return self.expect(False, f"the rerun died after {done}")
        before, rerun, after = done
        there = "no artifact directory is there" not in before.err
        self.expect(before.code == 0 or not there, f"verify: {before.out or before.err}")
        already = self._name == "remove" and "no delta 'other'" in rerun.err
        self.expect(rerun.code == 0 or already, f"the rerun: {rerun.err!r}")
        self.expect(after.code == 0, f"verify after the rerun: {after.out or after.err}")
        if before.code == 0 and _unfinished(before):
            self._tally.counts["unfinished"] += 1
        if after.code == 0:
            left = _unfinished(after)
            self.expect(not left, f"unfinished after the rerun: {left}")
        self.expect(not _litter(self._folder), f"litter after the rerun: {_litter(self._folder)}")
        wanted, found = self._trials.reference(self._name).after, contents(self._folder)
        if not caches:
            patterns = COMMANDS[self._name].stores
            wanted, found = matching(wanted, patterns), matching(found, patterns)
        self.expect(found == wanted, f"the rerun differs: {_differing(found, wanted)}")
        return None


def one_line(done: Done, part: str) -> str:
    """What is wrong with how a command refuses; empty where it is one line with ``part`` in it."""
    lines = [line for line in done.err.splitlines() if line.startswith("xclipt: ")]
    sound = len(lines) == 1 and part in lines[0]
    bug = "Traceback" in done.err or "xclipt: unexpected" in done.err
    return "" if sound and not bug else f"says {done.err!r}"


def _names_a_path(text: str) -> bool:
    return any(part in text for part in ("/", ".html", ".svg", "rows.", ".jsonl", " f."))


def _litter(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".gitignore"
    )


def _differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> str:
    missing = sorted(wanted.keys() - found.keys())
    more = sorted(found.keys() - wanted.keys())
    other = sorted(path for path in found.keys() & wanted.keys() if found[path] != wanted[path])
    return f"missing {missing}, more {more}, other {other}"


def of_commands(names: Iterable[str]) -> Iterator[str]:
    """Those of the commands that are asked for; all where none is."""
    asked = [*names]
    return (name for name in COMMANDS if not asked or name in asked)


def _unfinished(done: Done) -> list[str]:
    findings = json.loads(done.out)["findings"]
    return [finding["path"] for finding in findings if finding["unfinished"]]
