"""The similarity of pairs against numbers worked out by hand."""

import math

import pytest
import torch

from tests.factories.datasets import Given
from xclipt.alignment.similarity import english_reference, pair_similarity


def test_by_hand():
    partners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # The first text is right, the second nearest the first partner; the third belongs to the
    # first partner too and is no rival of the first text.
    texts = torch.tensor([[2.0, 0.0], [1.0, 0.5], [1.0, 0.1], [-1.0, 0.0]])
    measured = pair_similarity(texts, partners, torch.tensor([0, 1, 0, 2]))
    assert (measured.pairs, measured.partners) == (4, 3)
    cosines = [1, 0.5 / math.sqrt(1.25), 1 / math.sqrt(1.01), 1]
    assert measured.cosine == pytest.approx(sum(cosines) / 4)
    assert measured.mse == pytest.approx((1 + (1 + 0.25) + 0.01 + 0) / 8)
    assert measured.forth.r1 == 75  # the second text finds the first partner
    assert measured.back.r1 == 100  # (0, 1) is nearest to the second text all the same
    assert measured.mean_r1 == 87.5
    assert measured.ci95[0] <= 87.5 <= measured.ci95[1]


def test_english_is_paired_with_another_caption_or_itself():
    several = Given({"en": {"a": ("one", "one", "two"), "b": ("three",)}, "tr": {"a": ("bir",)}})
    reference = english_reference(several, None, seed=1, limit=None)
    assert [(p.text, p.partner) for p in reference.pairs] == [("one", "two")]
    assert not reference.itself
    single = Given({"en": {"a": ("one",), "b": ("three",)}})
    reference = english_reference(single, "train", seed=1, limit=1)
    assert len(reference.pairs) == 1 and reference.itself
    assert reference.pairs[0].text == reference.pairs[0].partner
    assert english_reference(Given({"tr": {"a": ("bir",)}}), None, 1, None) is None
