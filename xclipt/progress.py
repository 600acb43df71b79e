"""How library code reports that long work moves on, without knowing of a terminal."""

from typing import Protocol


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
