"""Batches beside each other: as one after the other, a core for each, and nothing left running."""

import threading
import time

import pytest
import torch

from xclipt.cores import a_core_each, side_by_side


@pytest.fixture(autouse=True)
def three_threads():
    """As on a machine of three cores, whatever this one has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def cores():
    return [thread for thread in threading.enumerate() if thread.name.startswith("core")]


@pytest.mark.parametrize("beside", [side_by_side, a_core_each])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 50])
def test_results_are_in_order(count, beside):
    def work(item):
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(beside(work, range(count))) == [item * item for item in range(count)]


def test_each_has_a_core_and_what_is_left_over_all():
    def work(item):
        time.sleep(0.02)
        return threading.current_thread().name, torch.get_num_threads()

    def on(count):
        found = list(side_by_side(work, range(count)))
        assert not cores()
        return found

    here = threading.current_thread().name, 3
    assert on(1) == [here]
    for count in (10, 2, 11):
        *first, last = on(count)
        assert {threads for _, threads in first} == {1}
        assert len({name for name, _ in first}) == min(3, count - 1)
        assert (last == here) == (count == 10)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_where_each_has_a_core_nothing_is_shared(count):
    assert list(a_core_each(lambda _: torch.get_num_threads(), range(count))) == count * [1]


def test_work_that_takes_no_time_ends():
    for _ in range(300):
        assert list(side_by_side(str, range(3))) == ["0", "1", "2"]
    assert not cores()


def test_no_other_thread_of_the_process_loses_its_cores():
    counted = []
    for _ in side_by_side(str, range(6)):
        later = threading.Thread(target=lambda: counted.append(torch.get_num_threads()))
        later.start()
        later.join()
    assert set(counted) == {3} and torch.get_num_threads() == 3


def test_one_thread_is_the_callers_own():
    torch.set_num_threads(1)
    here = threading.current_thread().name
    found = list(side_by_side(lambda _: threading.current_thread().name, range(9)))
    assert found == [here] * 9


def test_nothing_is_begun_after_a_failure():
    begun = []

    def work(item):
        begun.append(item)
        if item == 1:
            raise ValueError("the second")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="the second"):
        list(side_by_side(work, range(100)))
    assert len(begun) < 20 and not cores()


def test_nothing_goes_on_for_whoever_has_enough():
    results = side_by_side(lambda item: item, range(1000))
    assert next(results) == 0
    results.close()
    assert not cores() and torch.get_num_threads() == 3


def test_results_do_not_pile_up():
    begun = []
    for taken, _ in enumerate(side_by_side(begun.append, range(100))):
        assert len(begun) <= taken + 1 + 2 * 3
