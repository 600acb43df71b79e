"""The losses of the study of sentence pairs, and its table."""

import pytest
import torch

from sentence_losses import BASE, DEFAULT, Bank, Measured, as_markdown, structural
from xclipt.training.losses import contrastive, cosine_alignment


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 8, generator=generator) for _ in range(3)]


def test_partners_of_earlier_steps_are_further_negatives(batches):
    texts, first, second = batches
    bank, scale = Bank(6), 20.0

    def beside_cosine(partner):
        told = bank.loss(texts, partner, None, scale) - cosine_alignment(texts, partner, None, 1)
        return 1000 * float(told)

    assert beside_cosine(first) == pytest.approx(float(contrastive(texts, first, scale)), rel=1e-3)
    assert beside_cosine(second) > float(contrastive(texts, second, scale)) + 0.1


def test_a_partner_that_comes_again_is_no_negative_of_itself(batches):
    texts, partner, _ = batches
    bank = Bank(6)
    once, again = (float(bank.loss(texts, partner, None, 20.0)) for _ in range(2))
    assert again == pytest.approx(once, rel=1e-5)


def test_structure_is_what_texts_are_to_each_other(batches):
    texts, partner, _ = batches

    def divergence(text):
        told = structural(text, partner, None, 20.0, 1.0) - cosine_alignment(text, partner, None, 1)
        return 1000 * float(told)

    turned, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    assert divergence(partner @ turned) == pytest.approx(0, abs=1e-3)
    assert divergence(texts) > 0.1


def test_the_table_holds_every_loss_against_the_default():
    measured = [
        Measured(BASE, 0, [0.25, 0.5]),
        Measured(DEFAULT, 1, [0.5, 0.5]),
        Measured("mse", 1, [0.5, 1.0]),
        Measured("mse", 2, [1.0, 0.5]),
    ]
    lines = as_markdown(measured).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[:3] for row in cells] == [
        *([BASE, "1", "37.5"], [DEFAULT, "1", "50.0"], ["mse", "2", "75.0"]),
    ]
    assert cells[2][3].startswith("+25.0 [")
