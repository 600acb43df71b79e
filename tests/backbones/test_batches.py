"""Which texts go through the tower together, and what is read while a GPU computes."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.factories.tiny import tiny_backbone
from xclipt.backbones.backbone import read_ahead

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


def test_pictures_are_read_while_a_gpu_computes():
    read = []

    def read_pixels(path):
        read.append(path.name)
        return torch.full((3, 2, 2), float(path.name))

    batches = [[Path(str(4 * i + j)) for j in range(4)] for i in range(8)]
    for computed, pixels in enumerate(read_ahead(read_pixels, batches)):
        assert pixels[:, 0, 0, 0].tolist() == [float(path.name) for path in batches[computed]]
        until = time.monotonic() + 10
        ahead = 4 * min(computed + 3, 8)
        while len(read) < ahead:  # by other threads, while nobody asks for the next batch
            assert time.monotonic() < until
        assert len(read) == ahead


def test_a_file_that_cannot_be_read_ends_the_reading():
    read = []

    def read_pixels(path):
        read.append(path.name)
        if path.name == "5":
            raise OSError("damaged")
        time.sleep(0.01)
        return torch.zeros(3, 2, 2)

    with pytest.raises(OSError, match="damaged"):
        list(read_ahead(read_pixels, [[Path(str(2 * i)), Path(str(2 * i + 1))] for i in range(99)]))
    assert len(read) < 99
    assert not [one for one in threading.enumerate() if one.name.startswith("pictures")]
