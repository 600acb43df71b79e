"""A listener that remembers what it was told."""

from xclipt.progress import Silent


class Noting(Silent):
    """``notes`` holds every remark, in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)
