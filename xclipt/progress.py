"""How library code reports that long work moves on, without knowing of a terminal."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_TO_FORECAST = 2.0
_SECONDS_WORTH_TELLING = 10.0


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """``steps`` more are done; ``detail`` is a short text for beside the bar."""

    def finish(self) -> None:
        """The work has ended, complete or not."""


class Progress(Protocol):
    """Somewhere to report work to."""

    def start(self, description: str, total: int | None) -> Task:
        """Work of ``total`` steps begins; ``None`` where nobody can say of how many."""

    def note(self, message: str) -> None:
        """A remark of one line that the user should see."""


class _SilentTask:
    def advance(self, steps: int = 1, detail: str = "") -> None:
        pass

    def finish(self) -> None:
        pass


class Silent:
    """Reports to nobody."""

    def start(self, description: str, total: int | None) -> Task:
        return _SilentTask()

    def note(self, message: str) -> None:
        pass


def rate(a_second: float | None) -> str:
    """``2.4/s``; empty where it is not known yet."""
    if not a_second:
        return ""
    return f"{a_second:.1f}/s" if a_second < 10 else f"{a_second:,.0f}/s"


def duration(seconds: float) -> str:
    """As a person says it: ``40 s``, ``6 min``, ``2 h 10 min``."""
    if seconds < 50:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


class Forecast:
    """Says once about how long work takes, as soon as its beginning has shown it.

    The first step counts for nothing: it is slower than the others, or was done before.

    Args:
        tell: Is given the line.
        description: What the work is.
        total: Its steps.
    """

    def __init__(self, tell: Callable[[str], None], description: str, total: int) -> None:
        self._tell = tell
        self._description = description
        self._total = total
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._told = False

    def reached(self, done: int) -> bool:
        """So many steps are done. Whether that was the moment to say it."""
        if self._told:
            return False
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
            return False
        since, first = self._first
        if done == first or now - since < _SECONDS_TO_FORECAST:
            return False
        self._told = True
        left = (self._total - done) * (now - since) / (done - first)
        if left < _SECONDS_WORTH_TELLING:
            return False
        self._tell(f"{self._description}: about {duration(now - self._started + left)}")
        return True


class Whole:
    """One piece of work that is done in parts, each of which reports as if it were alone.

    It begins with the first part that does: what was done before is not told of.

    Args:
        progress: Where to report to.
        description: What all of it is.
        total: Its steps, those of all parts.
    """

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._description = description
        self._total = total
        self._task: Task = _SilentTask()
        self._started = False
        self._done = self._ended = 0

    def start(self, description: str, total: int | None) -> Task:
        if not self._started:
            self._started = True
            self._task = self._progress.start(self._description, self._total)
            if self._done:
                self._task.advance(self._done)
        return _Part(self.advance)

    def note(self, message: str) -> None:
        self._progress.note(message)

    def advance(self, steps: int, detail: str = "") -> None:
        """A part moves on."""
        self._done += steps
        self._task.advance(steps, detail)

    def end_part(self, steps: int) -> None:
        """A part of so many steps is done, whether it told of them or they were done before."""
        self._ended += steps
        if rest := self._ended - self._done:
            self.advance(rest)

    def finish(self) -> None:
        """All parts have ended, or will not be done."""
        self._task.finish()


class _Part(_SilentTask):
    def __init__(self, advance: Callable[[int, str], None]) -> None:
        self._advance = advance

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self._advance(steps, detail)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Lines:
    """Remarks, and for long work about how long it takes and a line every ten seconds.

    It is for scripts and log files.

    >>> import xclipt
    >>> model = xclipt.load("xclipt-artifacts", progress=xclipt.Lines())

    Args:
        tell: Is given each line; by default they go to stderr.
    """

    def __init__(self, tell: Callable[[str], None] = _to_stderr) -> None:
        self._tell = tell

    def start(self, description: str, total: int | None) -> Task:
        return _LinesTask(self._tell, description, total) if total else _SilentTask()

    def note(self, message: str) -> None:
        self._tell(message)


class _LinesTask:
    def __init__(self, tell: Callable[[str], None], description: str, total: int) -> None:
        self._tell = tell
        self._description = description
        self._total = total
        self._done = 0
        self._started = self._told = time.monotonic()
        self._forecast = Forecast(tell, description, total)

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self._done += steps
        now = time.monotonic()
        if self._forecast.reached(self._done):
            self._told = now
        if now - self._told >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._told = now
            speed = self._done / (now - self._started)
            left = (self._total - self._done) / speed
            self._tell(
                f"{self._description}: {self._done:,} of {self._total:,}"
                f"{', ' if detail else ''}{detail}, {rate(speed)}, {left:.0f} s left"
            )

    def finish(self) -> None:
        pass
