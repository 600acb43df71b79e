"""How library code reports that long work moves on, without knowing of a terminal."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

_SECONDS_BETWEEN_LINES = 10.0


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, detail: str = "") -> None:
        """``steps`` more are done; ``detail`` is a short text for beside the bar."""

    def finish(self) -> None:
        """The work has ended, complete or not."""


class Progress(Protocol):
    """Somewhere to report work to."""

    def start(self, description: str, total: int) -> Task:
        """Work of ``total`` steps begins."""

    def note(self, message: str) -> None:
        """A remark of one line that the user should see."""


class _SilentTask:
    def advance(self, steps: int = 1, detail: str = "") -> None:
        pass

    def finish(self) -> None:
        pass


class Silent:
    """Reports to nobody."""

    def start(self, description: str, total: int) -> Task:
        return _SilentTask()

    def note(self, message: str) -> None:
        pass


def rate(a_second: float | None) -> str:
    """``2.4/s``; empty where it is not known yet."""
    if not a_second:
        return ""
    return f"{a_second:.1f}/s" if a_second < 10 else f"{a_second:,.0f}/s"


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Lines:
    """Remarks, and for long work a line every ten seconds: for scripts and log files.

    >>> import xclipt
    >>> model = xclipt.load("xclipt-artifacts", progress=xclipt.Lines())

    Args:
        tell: Is given each line; by default they go to stderr.
    """

    def __init__(self, tell: Callable[[str], None] = _to_stderr) -> None:
        self._tell = tell

    def start(self, description: str, total: int) -> Task:
        return _LinesTask(self._tell, description, total)

    def note(self, message: str) -> None:
        self._tell(message)


class _LinesTask:
    def __init__(self, tell: Callable[[str], None], description: str, total: int) -> None:
        self._tell = tell
        self._description = description
        self._total = total
        self._done = 0
        self._started = self._told = time.monotonic()

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self._done += steps
        now = time.monotonic()
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
