"""Towers in several threads at once: every family, every kind of delta, and mixed batches."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.factories.deltas import shaken
from tests.factories.specs import SPECS
from xclipt.backbones import backbone as batches
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.mixed import MixedLoraTower

WORDS = ["un", "chat", "noir", "court", "dans", "la", "rue"]
CAPTIONS = [" ".join(WORDS[i % 7 :][: i % 5]) for i in range(90)]


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Tensor]], None]:
    """Small batches, by one thread and by three beside each other, are the same bits."""
    monkeypatch.setattr(batches, "_TOKENS_ON_CPU", 24)

    def check(encode: Callable[[], Tensor]) -> None:
        before = torch.get_num_threads()
        found = []
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found.append(encode())
        finally:
            torch.set_num_threads(before)
        assert found[0].std(0).max() > 0
        assert found[0].equal(found[1])

    return check


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_texts_have_the_same_features_whatever_is_beside_them(small, spec, alike):
    delta = AdaptedTower(small.text_tower, spec, 1, small.tokenizer)
    delta.load(shaken(delta))
    alike(lambda: delta.within(small).encode_texts(CAPTIONS))


def test_rows_keep_their_own_deltas(small, alike):
    spec = LoraSpec(rank=2)
    deltas = [AdaptedTower(small.text_tower, spec, seed, small.tokenizer) for seed in (1, 2, 3)]
    tensors = [shaken(delta, seed=seed) for seed, delta in enumerate(deltas)]
    mixed = MixedLoraTower(small, spec)
    whose = [tensors[i % 3] for i in range(len(CAPTIONS))]
    alike(lambda: mixed.encode(whose, small.tokenizer(CAPTIONS)))


def test_pictures_too(small, alike, make_picture, tmp_path: Path):
    colours = ("red", "green", "blue", "white", "black")
    paths = [make_picture(tmp_path / f"{i}.png", colours[i % 5], (8 + i, 9)) for i in range(20)]
    alike(lambda: small.encode_pictures(paths))
