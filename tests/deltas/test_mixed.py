"""One pass of the tower for rows of different LoRAs, on every family; swaps are bit-exact."""

import pytest
import torch

from tests.factories.deltas import shaken
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.mixed import MixedLoraTower

CAPTIONS = ["un chat", "a dog runs court noir", "chien", "", "grand petit", "a cat sleeps"]


@pytest.mark.parametrize("modules", ["query-value", ALL_LINEAR])
def test_a_mixed_batch_gives_what_each_lora_gives(small, modules):
    spec = LoraSpec(rank=2, modules=modules)
    delta = AdaptedTower(small.text_tower, spec)
    several = [shaken(delta, seed=seed) for seed in range(3)]
    rows = small.tokenizer(CAPTIONS)
    alone = []
    for i in range(len(rows)):
        delta.load(several[i % 3])
        alone.append(delta.within(small).encode_tokens(rows)[i])
    tower = MixedLoraTower(small, spec.architecture)
    assert tower.fits(several[0])
    mixed = tower.encode([several[i % 3] for i in range(len(rows))], rows)
    torch.testing.assert_close(mixed, torch.stack(alone), atol=1e-5, rtol=1e-5)
    assert (mixed - small.encode_tokens(rows)).abs().amin(-1).max() > 1e-4


def test_a_swap_and_back_changes_no_bit(small):
    delta = AdaptedTower(small.text_tower, LoraSpec(rank=2))
    adapted = delta.within(small)
    one, other = shaken(delta, seed=1), shaken(delta, seed=2)
    delta.load(one)
    first = adapted.encode_texts(CAPTIONS)
    delta.load(other)
    assert (adapted.encode_texts(CAPTIONS) - first).abs().max() > 1e-3
    delta.load(one)
    assert torch.equal(adapted.encode_texts(CAPTIONS), first)
