"""Losses against numbers worked out by hand and a slow double-precision reference."""

import math

import pytest
import torch

from xclipt.training.losses import ALIGNMENTS, contrastive


def slow_contrastive(a: list[list[float]], b: list[list[float]], scale: float) -> float:
    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in v))
        return [x / length for x in v]

    a, b = [unit(v) for v in a], [unit(v) for v in b]
    logits = [[scale * sum(x * y for x, y in zip(u, v, strict=True)) for v in b] for u in a]
    n = len(logits)

    def cross_entropy(rows: list[list[float]]) -> float:
        return sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(rows)) / n

    columns = [[logits[i][j] for i in range(n)] for j in range(n)]
    return (cross_entropy(logits) + cross_entropy(columns)) / 2


def test_contrastive_by_hand():
    # Orthogonal pairs: each row's logits are (s, 0), so the loss is log(1 + e^-s).
    loss = contrastive(torch.eye(2) * 3, torch.eye(2) * 5, logit_scale=2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    # Swapped: log(1 + e^s).
    loss = contrastive(torch.eye(2), torch.eye(2).flip(0), logit_scale=2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)))


@pytest.mark.parametrize("seed", range(5))
def test_contrastive_is_the_slow_one(seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    b = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    expected = slow_contrastive(a.tolist(), b.tolist(), 10.0)
    assert contrastive(a, b, 10.0).item() == pytest.approx(expected, rel=1e-12)


def test_alignments_by_hand():
    text = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    partner = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = {name: f(text, partner, image, 4.0).item() for name, f in ALIGNMENTS.items()}
    assert losses["mse"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert losses["cosine"] == pytest.approx((1 - 1 / math.sqrt(2)) / 2)
    as_lists = text.tolist(), partner.tolist(), image.tolist()
    assert losses["contrastive"] == pytest.approx(slow_contrastive(as_lists[0], as_lists[1], 4.0))
    assert losses["image"] == pytest.approx(slow_contrastive(as_lists[1], as_lists[2], 4.0))


def test_only_mse_sees_the_length_of_features():
    text, partner, image = torch.randn(3, 6, 4).unbind()
    for name, loss in ALIGNMENTS.items():
        plain = loss(text, partner, image, 10.0)
        scaled = loss(text * 3, partner, image, 10.0)
        assert torch.isclose(plain, scaled, rtol=1e-4) == (name != "mse"), name
