"""Which texts go through the tower together."""

from dataclasses import replace

import torch

from tests.factories.tiny import tiny_backbone

ROWS = [[5] * length for length in (3, 90, 7, 512, 64, 300, 1, 64)] * 4


def test_every_row_once_and_those_of_like_length_together():
    backbone = tiny_backbone()
    batches = list(backbone.batches(ROWS))
    assert sorted(i for batch in batches for i in batch) == [*range(len(ROWS))]
    for batch in batches:
        longest = max(len(ROWS[i]) for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= 512
    least = [min(len(ROWS[i]) for i in batch) for batch in batches]
    assert least == sorted(least, reverse=True)


def test_a_gpu_is_given_more_at_once():
    backbone = tiny_backbone()
    gpu = replace(backbone, device=torch.device("cuda"))
    assert len(list(gpu.batches(ROWS))) == 1 < len(list(backbone.batches(ROWS)))
    padded = replace(backbone.tokenizer, padded=True, max_length=64)
    texts = [[5] * 4] * 64
    assert [len(batch) for batch in replace(backbone, tokenizer=padded).batches(texts)] == [8] * 8
    assert [len(batch) for batch in replace(gpu, tokenizer=padded).batches(texts)] == [64]
