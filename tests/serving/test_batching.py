"""The queue by itself: who shares a pass, who waits, and whose errors are whose."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.factories.deltas import store_noise
from tests.factories.serving import Held, until
from tests.factories.tiny import workspace_in
from xclipt.model import Model
from xclipt.serving.batching import _PASS, QueueFullError, StoppedError, TextBatcher

TEXTS = ["un chat noir", "chien", "a cat runs"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    workspace = workspace_in(tmp_path_factory.mktemp("batching"))
    for seed, code in enumerate(("fr", "de"), 1):
        store_noise(workspace, code, "noise", 0.3, seed=seed)
    return Model(workspace)


@pytest.fixture
def held(model):
    return Held(model.encode)


@pytest.fixture
def batcher(held):
    batcher = TextBatcher(held, most_waiting=200)
    yield batcher
    batcher.stop()


def many(model, count, language="fr"):
    texts = [TEXTS[i % len(TEXTS)] for i in range(count)]
    return model.prepare(texts, language)


def test_who_comes_while_others_are_encoded_shares_the_next_pass(model, held, batcher):
    with held.holding():
        first = batcher.submit(model.prepare(TEXTS, "fr"))
        assert held.came.wait(10)
        others = [batcher.submit(model.prepare(TEXTS, code)) for code in ("de", "fr", None)]
        assert batcher.waiting == 9
    for future, code in zip([first, *others], ["fr", "de", "fr", None], strict=True):
        alone = model.encode_text(TEXTS, code)
        assert future.result(10) == pytest.approx(alone, abs=1e-5), code
    assert [len(texts) for texts in held.passes] == [3, 9]
    assert batcher.waiting == 0


def test_a_request_alone_waits_for_nobody(model, batcher):
    started = time.perf_counter()
    batcher.submit(model.prepare(TEXTS, "fr")).result(10)
    assert time.perf_counter() - started < 1


def test_a_large_request_lets_small_ones_by(model, held, batcher):
    large = many(model, 2 * _PASS + 10)
    done = []
    with held.holding():
        big = batcher.submit(large)
        assert held.came.wait(10)
        small = batcher.submit(many(model, 5, "de"))
        for name, future in (("big", big), ("small", small)):
            future.add_done_callback(lambda _, name=name: done.append(name))
    assert big.result(10) == pytest.approx(model.encode(large), abs=1e-5)
    assert done == ["small", "big"]
    assert [len(texts) for texts in held.passes] == [_PASS, _PASS, 15]
    languages = [[one.how.language for one in texts] for texts in held.passes]
    assert languages[1] == ["de"] * 5 + ["fr"] * (_PASS - 5)


def test_more_than_may_wait_are_refused_and_those_before_are_not(model, held, batcher):
    with held.holding():
        first = batcher.submit(many(model, 1))
        assert held.came.wait(10)
        second = batcher.submit(many(model, 150))
        with pytest.raises(QueueFullError, match="150 texts are waiting and 200 may"):
            batcher.submit(many(model, 51))
        third = batcher.submit(many(model, 50))
    assert [len(future.result(10)) for future in (first, second, third)] == [1, 150, 50]
    assert len(batcher.submit(many(model, 201)).result(10)) == 201, "else it never could be"


def test_an_error_is_its_own_requests_alone(model):
    poison = model.prepare(["rouge"], "fr")

    def encode(texts):
        if any(text is poison[0] for text in texts):
            raise ValueError("poison")
        return model.encode(texts)

    held = Held(encode)
    batcher = TextBatcher(held, most_waiting=200)
    with held.holding():
        batcher.submit(many(model, 1))
        assert held.came.wait(10)
        good, bad = batcher.submit(many(model, 3)), batcher.submit(poison)
        more = batcher.submit([*poison, *many(model, _PASS)])
    assert good.result(10) == pytest.approx(model.encode(many(model, 3)), abs=1e-6)
    for future in (bad, more):
        with pytest.raises(ValueError, match="poison"):
            future.result(10)
    assert len(batcher.submit(many(model, 2)).result(10)) == 2, "the thread goes on"
    batcher.stop()


def test_who_gave_up_waiting_is_not_encoded(model, held, batcher):
    with held.holding():
        first = batcher.submit(many(model, 1))
        assert held.came.wait(10)
        gone, stays = batcher.submit(many(model, 7)), batcher.submit(many(model, 2))
        assert gone.cancel()
        assert not first.cancel(), "it is being encoded"
    assert len(stays.result(10)) == 2
    assert [len(texts) for texts in held.passes] == [1, 2]


def test_stopping_answers_what_waits_and_takes_nothing_more(model, held):
    batcher = TextBatcher(held, most_waiting=200)
    with held.holding():
        futures = [batcher.submit(many(model, 90)) for _ in range(2)]
        assert held.came.wait(10)
        with ThreadPoolExecutor() as pool:
            stopped = pool.submit(batcher.stop)
            until(lambda: not batcher.working)
            with pytest.raises(StoppedError):
                batcher.submit(many(model, 1))
            held._free.set()
            stopped.result(10)
    assert all(len(future.result(0)) == 90 for future in futures)
    batcher.stop()


def test_stopping_at_once_leaves_the_rest_and_says_so(model, held):
    batcher = TextBatcher(held, most_waiting=1000)
    with held.holding():
        begun = batcher.submit(many(model, 5 * _PASS))
        assert held.came.wait(10)
        last, waits = batcher.submit(many(model, 1)), batcher.submit(many(model, 3))
        assert waits.cancel()
        with ThreadPoolExecutor() as pool:
            stopped = pool.submit(batcher.stop, answer=False)
            until(lambda: begun.done() and last.done())
            held._free.set()
            stopped.result(10)
    for future in (begun, last):
        with pytest.raises(StoppedError, match="has stopped"):
            future.result(0)
    assert [len(texts) for texts in held.passes] == [_PASS]


def test_from_many_threads_everybody_gets_his_own(model, batcher):
    codes = ["fr", "de", None]
    expected = {
        (code, n): model.encode_text([TEXTS[i % 3] for i in range(n)], code)
        for code in codes
        for n in (1, 2, 3)
    }

    def ask(i):
        code, n = codes[i % 3], 1 + i // 3 % 3
        features = batcher.submit(many(model, n, code)).result(20)
        return np.abs(features - expected[code, n]).max()

    with ThreadPoolExecutor(16) as pool:
        assert max(pool.map(ask, range(200))) < 1e-5
