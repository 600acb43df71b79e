"""Ctrl-C and SIGTERM: whatever is open is closed, and long work stops where it can go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], None]


class Stopped(BaseException):
    """The program was asked to stop.

    Args:
        number: By which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        """130 and 143, as shells have it."""


class Halted(BaseException):
    """Work within :func:`deferred` has come to a safe point and goes no further."""


@contextmanager
def stopping() -> Iterator[None]:
    """Within the block a signal raises :class:`Stopped`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled_by(stop):
        yield


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Within the block a signal waits; the function that is given says whether one does.

    The work then raises :class:`Halted` at its next safe point, and the signal does what it would
    have done without this. A second signal is not waited for.
    """
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            raise Stopped(number)

    try:
        with _handled_by(note, calls_go_on=True):
            yield lambda: bool(waiting)
    except Halted:
        pass
    if waiting:
        signal.raise_signal(waiting[0])
        raise KeyboardInterrupt  # whoever handles the signal made nothing of it


@contextmanager
def noticed(notice: Callable[[int], None]) -> Iterator[None]:
    """Within the block ``notice`` is told of a signal's number, and nothing else happens."""
    with _handled_by(lambda number, frame: notice(number)):
        yield


@contextmanager
def held() -> Iterator[None]:
    """Within the block signals wait: for a few steps that must not be parted."""
    waiting: list[int] = []
    try:
        with _handled_by(lambda number, frame: waiting.append(number)), _blocked():
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


@contextmanager
def _blocked() -> Iterator[None]:
    """Keep signals from this thread: a system call that one comes amid may fail for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled_by(handler: _Handler, *, calls_go_on: bool = False) -> Iterator[None]:
    """Within the block signals go to ``handler``.

    Args:
        handler: What is told.
        calls_go_on: A system call that a signal comes amid is done again, since some of those that
            change files would fail. Else it ends: what waits for input or a lock is to be told.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in kept:
        signal.signal(number, handler)
        if calls_go_on and hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)
    try:
        yield
    finally:
        for number, old in kept.items():
            signal.signal(number, old)
