"""Requests that come at the same time share passes of the tower.

One thread encodes. While it does, requests wait; then it takes what has come, up to a pass's size.
Nobody waits for company: a request by itself is encoded at once, and the more there are, the more
share a pass. A large request takes turns with those that come after it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xclipt.errors import XcliptError
from xclipt.model import PreparedText

Features = NDArray[np.float32]
Encode = Callable[[Sequence[PreparedText]], Features]
"""Features ``(n, dim)`` of prepared texts: :meth:`Model.encode`."""

_PASS = 64
"""Texts at most. Short ones make two batches of the tower; more would wait longer and gain nothing
on a processor."""


class QueueFullError(XcliptError):
    """So many texts are waiting that another would wait too long."""


class StoppedError(XcliptError):
    """No more texts are taken."""


@dataclass(frozen=True)
class Pass:
    """Texts that went through the tower together, and the seconds that it took."""

    texts: int
    requests: int
    seconds: float


class _Job:
    """A request's texts, some of which may be encoded already."""

    def __init__(self, texts: Sequence[PreparedText]) -> None:
        self.future: Future[Features] = Future()
        self._texts = texts
        self._parts: list[Features] = []
        self._taken = 0

    @property
    def left(self) -> int:
        """How many texts nobody has taken yet."""
        return len(self._texts) - self._taken

    @property
    def begun(self) -> bool:
        """Whether some of its texts have been taken."""
        return self._taken > 0

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for it still; from here on it cannot be cancelled."""
        if self.begun:
            return not self.future.done()  # it may have failed
        return self.future.set_running_or_notify_cancel()

    def take(self, most: int) -> Sequence[PreparedText]:
        """The next texts."""
        share = self._texts[self._taken : self._taken + most]
        self._taken += len(share)
        return share

    def give(self, features: Features) -> None:
        """Features of what was taken; with the last of them the request is answered."""
        self._parts.append(features)
        if not self.left and not self.future.done():  # it may have failed meanwhile
            self.future.set_result(np.concatenate(self._parts))

    def fail(self, error: Exception) -> None:
        """Answer with an error; what is left is not encoded."""
        self._taken = len(self._texts)
        self.future.set_exception(error)


class TextBatcher:
    """A queue of requests before one thread that encodes them. Thread-safe.

    Args:
        encode: Encodes texts; is called by that thread alone.
        most_waiting: Texts that may wait; more are refused, but for a request that would wait by
            itself.
        told: Is told of every pass.
    """

    def __init__(
        self,
        encode: Encode,
        *,
        most_waiting: int,
        told: Callable[[Pass], None] = lambda one: None,
    ) -> None:
        self._encode = encode
        self._most_waiting = most_waiting
        self._told = told
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="encoding", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Texts that wait to be encoded."""
        with self._changed:
            return sum(job.left for job in self._jobs)

    @property
    def working(self) -> bool:
        """Whether texts are taken and will be encoded."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, texts: Sequence[PreparedText]) -> "Future[Features]":
        """Have texts encoded: the features ``(n, dim)`` to come, L2-normalised.

        An error of one request is its own alone, whatever shares the pass with it.

        Raises:
            QueueFullError: Too many are waiting.
            StoppedError: After :meth:`stop`.
        """
        job = _Job(texts)
        with self._changed:
            if not self.working:
                raise StoppedError("the server is stopping")
            waiting = sum(one.left for one in self._jobs)
            if waiting and waiting + len(texts) > self._most_waiting:
                raise QueueFullError(
                    f"{waiting:,} texts are waiting and {self._most_waiting:,} may; try again later"
                )
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def stop(self, *, answer: bool = True) -> None:
        """Take no more texts, and return when no more are encoded.

        Args:
            answer: Encode what waits first; else it fails with :class:`StoppedError`.
        """
        with self._changed:
            self._stopping = True
            if not answer:
                for job in self._jobs:
                    if job.wanted:
                        job.fail(StoppedError("the server has stopped"))
                self._jobs.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopping)
                if not self._jobs:
                    return
                shares = self._take()
            if shares:
                self._run(shares)

    def _take(self) -> list[tuple[_Job, Sequence[PreparedText]]]:
        """What goes through the tower next; whose turn it was comes after all others now."""
        if self._jobs[0].begun:
            self._jobs.rotate(-1)
        shares: list[tuple[_Job, Sequence[PreparedText]]] = []
        room = _PASS
        while room and self._jobs:
            job = self._jobs.popleft()
            if not job.wanted:
                continue
            share = job.take(room)
            room -= len(share)
            shares.append((job, share))
            if job.left:
                self._jobs.appendleft(job)
                break
        return shares

    def _run(self, shares: Sequence[tuple[_Job, Sequence[PreparedText]]]) -> None:
        texts = [text for _, share in shares for text in share]
        started = time.perf_counter()
        try:
            features = self._encode(texts)
        except Exception as error:
            if len(shares) > 1:  # whose fault it is shows when each is alone
                for one in shares:
                    self._run([one])
            else:
                shares[0][0].fail(error)
            return
        self._told(Pass(len(texts), len(shares), time.perf_counter() - started))
        done = 0
        for job, share in shares:
            job.give(features[done : done + len(share)])
            done += len(share)
