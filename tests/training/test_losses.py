"""Losses against numbers worked out by hand and a slow double-precision reference."""

import math

import numpy as np
import pytest
import torch
from transformers import SiglipConfig, SiglipModel

from xclipt.training.losses import (
    ALIGNMENTS,
    contrastive,
    contrastive_in_gallery,
    sigmoid_contrastive,
)


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / math.sqrt(
        float(sum(x * x for x in a)) * float(sum(y * y for y in b))
    )


def slow_contrastive(a: np.ndarray, b: np.ndarray, scale: float) -> float:
    n = len(a)
    logits = [[scale * slow_cosine(a[i], b[j]) for j in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        row, column = logits[i], [logits[j][i] for j in range(n)]
        for line in (row, column):
            most = max(line)
            total += most + math.log(sum(math.exp(x - most) for x in line)) - line[i]
    return total / (2 * n)


def slow_alignment(name: str, t: np.ndarray, p: np.ndarray, v: np.ndarray, scale: float) -> float:
    if name == "mse":
        return sum((x - y) ** 2 for x, y in zip(t.ravel(), p.ravel(), strict=True)) / t.size
    if name == "cosine":
        return sum(1 - slow_cosine(a, b) for a, b in zip(t, p, strict=True)) / len(t)
    return slow_contrastive(t, p, scale) if name == "contrastive" else slow_contrastive(p, v, scale)


def test_contrastive_by_hand():
    # Orthogonal pairs: each row's logits are (s, 0), so the loss is log(1 + e^-s).
    loss = contrastive(torch.eye(2) * 3, torch.eye(2) * 5, logit_scale=2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    # Swapped: log(1 + e^s).
    loss = contrastive(torch.eye(2), torch.eye(2).flip(0), logit_scale=2.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)))


def test_sigmoid_by_hand_and_as_the_library_has_it():
    # Orthogonal pairs: each row's logits are (s + c, c), and the second should be a no.
    loss = sigmoid_contrastive(torch.eye(2) * 3, torch.eye(2) * 5, 4.0, -1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1)))
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    vision = {**small, "num_hidden_layers": 1, "image_size": 4, "patch_size": 2}
    text = {**small, "num_hidden_layers": 1, "vocab_size": 9, "projection_size": 8}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    with torch.inference_mode():
        output = model(torch.arange(8).view(4, 2), torch.randn(4, 3, 4, 4), return_loss=True)
        ours = sigmoid_contrastive(
            output.image_embeds,
            output.text_embeds,
            model.logit_scale.exp().item(),
            model.logit_bias.item(),
        )
    # It sums over the texts of each picture, the library over the pictures of each text.
    torch.testing.assert_close(ours, output.loss)


def test_both_directions_count():
    # Both texts lie on the first picture: cosines (1, 0) in each row. From the texts the first is
    # right by 1 and the second wrong by 1; from the pictures both columns are ties.
    loss = contrastive(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.eye(2), logit_scale=1.0)
    rows = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert loss.item() == pytest.approx((rows + math.log(2)) / 2)


def test_a_gallery_of_the_batchs_own_pictures_is_plain_contrast():
    text, pictures = torch.randn(5, 7), torch.randn(5, 7)
    order = torch.tensor([3, 0, 4, 1, 2])
    in_gallery = contrastive_in_gallery(text, pictures, order, 10.0)
    torch.testing.assert_close(in_gallery, contrastive(text, pictures[order], 10.0))


def test_other_pictures_of_a_gallery_are_negatives_of_texts_alone():
    # The text's logits are (2, 0, 0); its picture has no other text to choose from.
    loss = contrastive_in_gallery(torch.eye(3)[:1], torch.eye(3), torch.tensor([0]), 2.0)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)) / 2)


def test_alignments_by_hand():
    text = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    partner = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = {name: row.loss(text, partner, image, 4.0).item() for name, row in ALIGNMENTS.items()}
    assert losses["mse"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert losses["cosine"] == pytest.approx((1 - 1 / math.sqrt(2)) / 2)
    # Cosines of text (rows) and partner: (h, 0), (h, 1) with h = 1 / sqrt 2, times 4.
    h = 4 / math.sqrt(2)
    rows = math.log(1 + math.exp(-h)) + math.log(1 + math.exp(h - 4))
    columns = math.log(2) + math.log(1 + math.exp(-4))
    assert losses["contrastive"] == pytest.approx((rows + columns) / 4)
    # Of partner (rows) and image: (h, h), (0, 1): the transpose.
    assert losses["image"] == pytest.approx((rows + columns) / 4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_alignments_are_the_slow_ones(name, scale, seed):
    random = np.random.default_rng(seed)
    t, p, v = random.normal(size=(3, 7, 5)) * random.uniform(0.1, 3, size=(3, 1, 1))
    expected = slow_alignment(name, t, p, v, scale)
    exact = ALIGNMENTS[name].loss(*map(torch.from_numpy, (t, p, v)), scale)
    assert exact.dtype == torch.float64
    assert exact.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    single = ALIGNMENTS[name].loss(*(torch.from_numpy(x).float() for x in (t, p, v)), scale)
    assert single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    main = contrastive(torch.from_numpy(v), torch.from_numpy(t), scale)
    assert main.item() == pytest.approx(slow_contrastive(v, t, scale), rel=1e-12)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_gradients_are_those_of_the_slow_ones(name):
    random = np.random.default_rng(3)
    t, p, v = random.normal(size=(3, 4, 3))
    tensors = [torch.from_numpy(x).requires_grad_() for x in (t, p)]
    loss = ALIGNMENTS[name].loss(*tensors, torch.from_numpy(v), 5.0)
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    for which, gradient in enumerate(gradients):
        expected = np.zeros_like(t)
        for index in np.ndindex(*t.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [t.copy(), p.copy()]
                moved[which][index] += step
                ends.append(slow_alignment(name, *moved, v, 5.0))
            expected[index] = (ends[0] - ends[1]) / 2e-6
        found = np.zeros_like(t) if gradient is None else gradient.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert (gradients[0] is None) == ALIGNMENTS[name].moves_partner_alone == (name == "image")


def test_only_mse_sees_the_length_of_features():
    text, partner, image = torch.randn(3, 6, 4).unbind()
    for name, row in ALIGNMENTS.items():
        plain = row.loss(text, partner, image, 10.0)
        scaled = row.loss(text * 3, partner, image, 10.0)
        assert torch.isclose(plain, scaled, rtol=1e-4) == (name != "mse"), name
