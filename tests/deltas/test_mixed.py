"""Batches whose rows have LoRAs of their own, on every family."""

import pytest
import torch

from tests.factories.deltas import shaken
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.mixed import MixedLoraTower

CAPTIONS = ["un chat", "a dog runs court noir", "chien", "", "un grand chien noir"]


@pytest.mark.parametrize(
    "spec",
    [LoraSpec(rank=2), LoraSpec(rank=2, modules=ALL_LINEAR), LoraSpec(train_layernorm=False)],
    ids=["query-value", "all-linear", "alone"],
)
def test_rows_have_the_features_of_their_own_delta(small, spec):
    deltas = [AdaptedTower(small.text_tower, spec, seed, small.tokenizer) for seed in (1, 2)]
    for seed, delta in enumerate(deltas):
        delta.load(shaken(delta, seed=seed))
    own = [delta.within(small).encode_texts(CAPTIONS) for delta in deltas]
    assert (own[0] - own[1]).abs().max() > 1e-2
    whose = [0, 1, 1, 0, 1]
    tensors = [deltas[i].tensors() for i in whose]
    mixed = MixedLoraTower(small, spec)
    assert all(map(mixed.fits, tensors))
    features = mixed.encode(tensors, small.tokenizer(CAPTIONS))
    expected = torch.stack([own[i][row] for row, i in enumerate(whose)])
    torch.testing.assert_close(features, expected, atol=2e-5, rtol=1e-5)
