"""Work beside each other on a processor's cores."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Event, Semaphore
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What ``work`` makes of the items, in their order, an item for each core at a time.

    Threads that share a batch wait for each other after every operation; with a batch each they do
    not. What is left over at the end, for half of the cores at most, is done one by one, by all.

    Args:
        work: Safe to run in several threads. What is set for a thread alone, as inference mode and
            autocast are, it sets itself.
        items: Batches of about as much work each.

    Raises:
        Exception: What ``work`` raised for the first item that it raised for; the others end, and
            no further one is begun.
    """
    threads = torch.get_num_threads()
    over = len(items) % threads
    shared = over if 2 * over <= threads else 0
    beside = len(items) - shared
    yield from a_core_each(work, items[:beside])
    yield from map(work, items[beside:])


def a_core_each(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """As :func:`side_by_side`, but nothing is shared at the end.

    How sums come out to the last bit depends on how many threads share them; here it never is more
    than one, however many items and cores there are.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not items:
        yield from map(work, items)
        return
    ready, go = Semaphore(0), Event()
    pool = ThreadPoolExecutor(threads, "core", _take_one_core, (ready, go))
    try:
        ahead = iter(items)
        # While none of its threads goes, the pool begins another with every item.
        waiting = deque(pool.submit(work, item) for item in islice(ahead, 2 * threads))
        for _ in range(min(threads, len(items))):
            ready.acquire()
        # A thread that begins with torch takes the number that was set last, by whichever thread.
        torch.set_num_threads(threads)
        go.set()
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(ahead, 1))
            yield result
    finally:
        go.set()
        pool.shutdown(cancel_futures=True)


def _take_one_core(ready: Semaphore, go: Event) -> None:
    # Asked for first, since torch sets a thread's number itself when it is first needed.
    torch.get_num_threads()
    torch.set_num_threads(1)
    ready.release()
    go.wait()
