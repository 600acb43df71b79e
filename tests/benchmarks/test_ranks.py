"""The blocked ranks: never more memory than was asked for, and no slower than the plain way."""

import subprocess
import sys
import time

import torch

from tests.benchmarks.bench_ranks import features, plain_ranks
from xclipt.evaluation.metrics import retrieval_ranks


def test_memory_does_not_grow_with_the_matrix():
    # 12,000 x 12,000 similarities are 549 MiB as float32. Resident memory can only be measured in
    # a process of its own, where nothing has been allocated and given back before.
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_ranks", "12000", "16", "--blocked-only"],
        capture_output=True,
        text=True,
        check=True,
    )
    above = int(run.stdout.split("(")[1].split(" MiB")[0])
    assert above < 200, run.stdout


def test_it_takes_no_longer_than_matmul_and_sort():
    pictures, captions = features(3000, 64)
    owner = torch.arange(3000)
    times = {"blocked": float("inf"), "plain": float("inf")}
    for _ in range(3):
        start = time.perf_counter()
        ranks = retrieval_ranks(pictures, captions, owner)
        times["blocked"] = min(times["blocked"], time.perf_counter() - start)
        start = time.perf_counter()
        t2i, i2t = plain_ranks(pictures, captions)
        times["plain"] = min(times["plain"], time.perf_counter() - start)
    # A rank may differ by one where rounding differs between a block and the whole.
    assert (abs(t2i.numpy() - ranks.t2i) <= 1).all()
    assert (abs(i2t.numpy() - ranks.i2t) <= 1).all()
    assert times["blocked"] < times["plain"], times
