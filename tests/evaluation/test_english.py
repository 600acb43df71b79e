"""What English captions of the same pictures reach, on a data set in memory and by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.factories.datasets import make_folder
from tests.factories.deltas import store_noise
from tests.factories.tiny import WORDS, workspace_in
from xclipt.cli import eval_table
from xclipt.data.one_caption import OneCaption
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.metrics import gap_closed, gap_closed_interval

COUNT = 24


def sentence(seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, 4, replace=False))


CAPTIONS = {
    "en": {
        f"{k}.jpg": tuple(sentence(100 * k + j) for j in range(2 + k % 2)) for k in range(COUNT)
    },
    "fr": {f"{k}.jpg": (sentence(7000 + k),) for k in range(COUNT)},
    "de": {f"{k}.jpg": (sentence(8000 + k),) for k in reversed(range(COUNT))},
    "tr": {f"{k}.jpg": (sentence(9000 + k),) for k in range(COUNT // 2)},
}


@pytest.fixture
def workspace(tmp_path):
    return workspace_in(tmp_path)


@pytest.fixture
def dataset(tmp_path):
    return make_folder(tmp_path / "given", CAPTIONS)


def r1(queries: torch.Tensor, targets: torch.Tensor, of: list[int]) -> float:
    """Per cent of queries whose nearest target is theirs."""
    nearest = (F.normalize(queries, dim=-1) @ F.normalize(targets, dim=-1).T).argmax(1)
    return 100 * float((nearest == torch.tensor(of)).float().mean())


def both_ways(texts: torch.Tensor, pictures: torch.Tensor, of: list[int]) -> float:
    """Mean R@1 of text to picture, and of picture to any of its texts."""
    cosines = F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T
    found = torch.tensor(of)[cosines.argmax(1)] == torch.arange(len(pictures))
    return (r1(texts, pictures, of) + 100 * float(found.float().mean())) / 2


def by_hand(workspace, dataset, images):
    backbone, captions = workspace.backbone, CAPTIONS["en"]
    pictures = backbone.encode_pictures([dataset.picture_path(image) for image in images])
    of = [k for k, image in enumerate(images) for _ in captions[image]]
    every = backbone.encode_texts([text for image in images for text in captions[image]])
    singly = [backbone.encode_texts([captions[image][j] for image in images]) for j in range(2)]
    own = list(range(len(images)))
    return (
        both_ways(every, pictures, of),
        np.mean([both_ways(each, pictures, own) for each in singly]),
        np.mean([r1(one, other, own) for one, other in permutations(singly, 2)]),
    )


def test_originals_and_ceiling_are_those_of_each_languages_pictures(workspace, dataset):
    result = evaluate(workspace, dataset, EvaluationRequest(["fr", "tr", "de"]))
    document = result.as_json()["english_originals"]
    assert [one["languages"] for one in document] == [["fr", "de"], ["tr"]]
    for one, count in zip(document, (COUNT, COUNT // 2), strict=True):
        images = list(CAPTIONS["en"])[:count]
        every, alone, agreement = by_hand(workspace, dataset, images)
        assert one["n"] == count and one["captions"] == sum(len(CAPTIONS["en"][i]) for i in images)
        assert one["mean_R@1"] == pytest.approx(every)
        ceiling = one["english_ceiling"]
        assert ceiling["captions"] == 2, "every picture has two, half of them three"
        assert ceiling["mean_R@1"] == pytest.approx(alone)
        assert ceiling["text_to_text_R@1"] == pytest.approx(agreement)
        assert ceiling["ci95"][0] <= ceiling["mean_R@1"] <= ceiling["ci95"][1]
    english = evaluate(workspace, dataset, EvaluationRequest(["en"]))
    assert english.english == () and "english_originals" not in english.as_json()
    assert english.rows[0].mean_r1 == pytest.approx(document[0]["mean_R@1"])


def test_a_deltas_share_of_the_gap_is_told_whether_or_not_english_is_measured(workspace, dataset):
    for seed in range(3):
        store_noise(workspace, "fr", f"some-seed{seed}", 0.4, seed=seed)
    deltas = {"fr": [workspace.directory.delta("fr", f"some-seed{seed}") for seed in range(3)]}
    alone = evaluate(workspace, dataset, EvaluationRequest(["fr"], deltas=deltas))
    beside = evaluate(workspace, dataset, EvaluationRequest(["en", "fr"], deltas=deltas))
    assert alone.rows == beside.rows[1:]
    base, *trained = alone.rows
    (original,) = alone.english
    assert base.gap_closed is None
    for row in trained:
        assert row.gap_closed == gap_closed(base.mean_r1, row.mean_r1, original.mean_r1)
        assert row.as_json()["gap_closed"] == row.gap_closed


def test_one_caption_of_each_has_no_ceiling(workspace, dataset):
    (original,) = evaluate(workspace, OneCaption(dataset, 1), EvaluationRequest(["fr"])).english
    assert original.captions == COUNT and original.ceiling is None
    assert original.as_json()["english_ceiling"] is None


def test_pictures_without_english_and_text_mode_have_no_originals(workspace, tmp_path, dataset):
    part = {**CAPTIONS, "en": dict(list(CAPTIONS["en"].items())[1:])}
    lacking = make_folder(tmp_path / "lacking", part)
    assert evaluate(workspace, lacking, EvaluationRequest(["fr"])).english == ()
    store_noise(workspace, "fr", "some", 0.4)
    text = evaluate(workspace, dataset, EvaluationRequest(["en", "fr"], mode="text"))
    assert text.english == () and all(row.gap_closed is None for row in text.rows)


def test_the_interval_of_a_share_is_told_where_there_is_a_gap():
    draws = np.random.default_rng(0)
    pictures = draws.normal(0, 1, 2000)
    base, english = 20 + pictures, 40 + pictures + draws.normal(0, 1, 2000)
    half = (base + english) / 2
    low, high = gap_closed_interval(base, half, english) or (0, 0)
    assert low == pytest.approx(50) and high == pytest.approx(50)
    low, high = gap_closed_interval(base, base + 5 + draws.normal(0, 1, 2000), english) or (0, 0)
    assert 10 < low < 25 < high < 40
    # Three in a hundred draws without a gap: a share of it could be anything.
    assert gap_closed_interval(base, half, np.where(np.arange(2000) < 60, base, english)) is None
    few = np.where(np.arange(2000) < 30, base - 1e-9, english)
    low, high = gap_closed_interval(base, base + 5, few) or (0, 0)
    assert 20 < low < high < 40


def test_what_is_told_below_the_table(workspace, dataset):
    store_noise(workspace, "fr", "some", 0.4)
    result = evaluate(workspace, dataset, EvaluationRequest(["fr"]))
    lines = eval_table.summary(result)
    (line,) = (line for line in lines if line.startswith("English originals"))
    (original,) = result.english
    assert f"of the {COUNT} pictures (fr), base: mean R@1 {original.mean_r1:.1f} [" in line
    assert original.ceiling and f"one caption of each {original.ceiling.mean_r1:.1f}" in line
    assert f"another of its picture in {original.ceiling.text_to_text:.1f} %" in line
