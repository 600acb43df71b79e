"""Ranks of a square retrieval task: time and memory beside plain matmul and sort.

    python -m tests.benchmarks.ranks 10000 512

prints both times, their ratio, and the peak of resident memory of the blocked computation. Plain
holds the whole matrix and sorts it by row and by column; both compute the same ranks.
"""

import argparse
import resource
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.metrics import retrieval_ranks


def plain_ranks(pictures: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks by one product and two sorts; caption k belongs to picture k."""
    similarity = F.normalize(captions, dim=-1) @ F.normalize(pictures, dim=-1).T
    right = torch.arange(len(captions))[:, None]
    ways = [
        (matrix.argsort(dim=1, descending=True) == right).int().argmax(1) + 1
        for matrix in (similarity, similarity.T)
    ]
    return ways[0], ways[1]


def features(count: int, dim: int) -> tuple[Tensor, Tensor]:
    """Pictures and captions that are near each other."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(count, dim, generator=generator)
    return pictures, pictures + 2 * torch.randn(count, dim, generator=generator)


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("dim", type=int)
    parser.add_argument("--blocked-only", action="store_true")
    given = parser.parse_args()
    pictures, captions = features(given.count, given.dim)
    before = peak_bytes()
    start = time.perf_counter()
    ranks = retrieval_ranks(pictures, captions, torch.arange(given.count))
    blocked = time.perf_counter() - start
    sys.stdout.write(
        f"{given.count} x {given.count} x {given.dim}: blocked {blocked:.2f} s, "
        f"peak {peak_bytes() / 2**30:.2f} GiB ({(peak_bytes() - before) / 2**20:.0f} MiB above "
        f"the features)\n"
    )
    if not given.blocked_only:
        start = time.perf_counter()
        t2i, i2t = plain_ranks(pictures, captions)
        plain = time.perf_counter() - start
        same = (t2i.numpy() == ranks.t2i).all() and (i2t.numpy() == ranks.i2t).all()
        sys.stdout.write(
            f"plain matmul and sort {plain:.2f} s: {plain / blocked:.1f} times as long, "
            f"{'the same ranks' if same else 'OTHER RANKS'}\n"
        )


if __name__ == "__main__":
    main()
