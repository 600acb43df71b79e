"""Retrieval metrics against a brute-force reference and against what must hold of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from xclipt.metrics import bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks, summarise


def brute_force(pictures: torch.Tensor, captions: torch.Tensor, index: list[int]):
    pictures, captions = F.normalize(pictures, dim=-1), F.normalize(captions, dim=-1)
    similarity = (captions @ pictures.T).tolist()
    t2i = [
        1 + sum(1 for j, s in enumerate(row) if j != own and s >= row[own])
        for row, own in zip(similarity, index, strict=True)
    ]
    i2t = []
    for picture in range(len(pictures)):
        best = max(similarity[c][picture] for c, own in enumerate(index) if own == picture)
        rivals = [similarity[c][picture] for c, own in enumerate(index) if own != picture]
        i2t.append(1 + sum(1 for s in rivals if s >= best))
    return t2i, i2t


def random_case(seed: int, pictures: int, most_captions: int):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, most_captions + 1, (pictures,), generator=generator)
    index = torch.arange(pictures).repeat_interleave(counts)

    def draw(n: int) -> torch.Tensor:
        # Corners of a cube in four dimensions: cosines are exact, and ties are common.
        return torch.randint(0, 2, (n, 4), generator=generator).float() * 2 - 1

    return draw(pictures), draw(len(index)), index


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 4))
def test_ranks_are_those_of_brute_force(seed, pictures, most_captions):
    case = random_case(seed, pictures, most_captions)
    ranks = retrieval_ranks(*case)
    t2i, i2t = brute_force(case[0], case[1], case[2].tolist())
    assert ranks.t2i.tolist() == t2i
    assert ranks.i2t.tolist() == i2t


def test_ranks_are_exact_where_similarities_are():
    pictures = torch.eye(4)
    captions = torch.tensor(
        [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    )
    index = torch.tensor([0, 1, 2, 3, 1])
    ranks = retrieval_ranks(pictures, captions, index)
    # Caption 1 belongs to picture 1 and scores 0 with it, as two others do, and 1 with picture 2.
    assert ranks.t2i.tolist() == [1, 4, 1, 1, 1]
    # Picture 2 has one rival that scores as well as its own caption.
    assert ranks.i2t.tolist() == [1, 1, 2, 1]


def test_order_of_items_changes_nothing():
    pictures, captions, index = (
        torch.randn(20, 8),
        torch.randn(50, 8),
        torch.arange(50) % 20,
    )
    shuffle = torch.randperm(20)
    position = torch.argsort(shuffle)
    straight = retrieval_ranks(pictures, captions, index)
    shuffled = retrieval_ranks(pictures[shuffle], captions, position[index])
    assert straight.t2i.tolist() == shuffled.t2i.tolist()
    assert straight.i2t[shuffle].tolist() == shuffled.i2t.tolist()


def test_perfect_and_constant_features():
    perfect = retrieval_ranks(torch.eye(30), torch.eye(30), torch.arange(30))
    assert mean_r1(perfect) == 100
    constant = retrieval_ranks(torch.ones(30, 4), torch.ones(30, 4), torch.arange(30))
    assert mean_r1(constant) == 0, "what cannot tell anything apart must not be called right"
    assert summarise(constant.t2i).r10 == 0


@pytest.mark.parametrize(("count", "per_picture", "dim"), [(7, 1, 512), (131, 3, 384), (30, 5, 7)])
def test_ties_are_not_broken_by_rounding(count, per_picture, dim):
    # The same product comes out differently at the edges of a matrix and of a block.
    one = torch.randn(1, dim, generator=torch.Generator().manual_seed(dim))
    index = torch.arange(count).repeat_interleave(per_picture)
    for block_bytes in (2**25, 5 * count * 3):
        ranks = retrieval_ranks(
            *(one.repeat(count, 1), one.repeat(len(index), 1), index),
            block_bytes=block_bytes,
        )
        assert (ranks.t2i == count).all()
        assert (ranks.i2t == len(index) - per_picture + 1).all()


def test_features_that_are_no_numbers_rank_last():
    captions = torch.eye(5)
    captions[2] = torch.nan
    ranks = retrieval_ranks(torch.eye(5), captions, torch.arange(5))
    assert ranks.t2i.tolist() == [1, 1, 5, 1, 1]
    assert ranks.i2t.tolist() == [2, 2, 5, 2, 2]


def test_lengths_of_vectors_do_not_count():
    pictures, captions = torch.randn(40, 8), torch.randn(40, 8)
    plain = retrieval_ranks(pictures, captions, torch.arange(40))
    scaled = retrieval_ranks(pictures * torch.rand(40, 1).add(0.1), captions * 7, torch.arange(40))
    assert (plain.t2i == scaled.t2i).all()
    assert (plain.i2t == scaled.i2t).all()


def test_blocks_do_not_show():
    pictures, captions, index = (
        torch.randn(70, 8),
        torch.randn(210, 8),
        torch.arange(210) // 3,
    )
    whole = retrieval_ranks(pictures, captions, index)
    blocks = retrieval_ranks(pictures, captions, index, block_bytes=17 * 70 * 5)
    assert (whole.t2i == blocks.t2i).all()
    assert (whole.i2t == blocks.i2t).all()


class _Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation gave."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


def test_memory_does_not_grow_with_the_matrix():
    pictures, captions, limit = torch.randn(3000, 8), torch.randn(3000, 8), 2**20
    with _Largest() as largest:
        retrieval_ranks(pictures, captions, torch.arange(3000), block_bytes=limit)
    assert limit / 2 < largest.bytes <= limit, "the whole matrix takes 36 MB"


def test_summary_of_known_ranks():
    summary = summarise(np.array([1, 2, 6, 11]))
    assert (summary.r1, summary.r5, summary.r10) == (25, 50, 75)
    assert summary.mrr == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4)
    assert summary.median == 4


def test_bootstrap_surrounds_the_mean_and_narrows():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(400, 16, generator=generator)
    captions = pictures + 1.2 * torch.randn(400, 16, generator=generator)
    few = retrieval_ranks(pictures[:50], captions[:50], torch.arange(50))
    many = retrieval_ranks(pictures, captions, torch.arange(400))
    for ranks in (few, many):
        low, high = interval95(bootstrap_mean_r1(ranks))
        assert low < mean_r1(ranks) < high
    widths = [np.ptp(interval95(bootstrap_mean_r1(ranks))) for ranks in (few, many)]
    assert widths[1] < widths[0] / 2


def test_paired_draws_of_equal_results_do_not_differ():
    ranks = retrieval_ranks(torch.randn(30, 4), torch.randn(30, 4), torch.arange(30))
    assert not (bootstrap_mean_r1(ranks) - bootstrap_mean_r1(ranks)).any()
