"""The study of few shots: what a cell may see, what is made of cells, and that it goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import compare_routines
import few_shot
import few_shot_tables
from feature_maps import centred, centred_unlabelled, ridge, whitened
from few_shot_tables import Cell, Measured
from study import read_figures, read_study

STUDIES = Path(few_shot.__file__).parent
CELL = Cell("g", "default", 10, 1, "de")


def measured(language, seed, base, delta, english=100.0, row="default"):
    cell = replace(CELL, language=language, seed=seed, row=row)
    images = [f"{i}.jpg" for i in range(4)]
    return Measured(cell, images, [base] * 4, [delta] * 4, [english] * 4, 2.0, 0.1)


def test_a_summary_is_the_mean_over_languages_and_their_seeds():
    cells = [measured("de", 1, 20, 40), measured("de", 2, 40, 60), measured("tr", 1, 0, 10)]
    summary = few_shot_tables.summarise(cells)
    assert summary.by_language == {"de": (30, 50, 100), "tr": (0, 10, 100)}
    assert (summary.base, summary.delta, summary.english) == (15, 30, 100)
    assert summary.gap_closed == pytest.approx(100 * 15 / 85)


def test_the_interval_is_over_photographs_and_holds_no_more_than_they_do():
    even = few_shot_tables.summarise([measured("de", 1, 20, 40)])
    assert even.gain == (20, 20)
    odd = replace(measured("de", 1, 20, 40), delta=[100.0, 0.0, 100.0, 0.0])
    low, high = few_shot_tables.summarise([odd]).gain
    assert low < 30 < high


def test_a_linear_map_finds_a_shift_and_with_little_ridge_a_rotation():
    torch.manual_seed(0)
    texts, rest = torch.randn(200, 6), torch.randn(20, 6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    found = ridge(texts, texts @ rotation + 3, rest, 1e-4)
    torch.testing.assert_close(found, rest @ rotation + 3, atol=1e-2, rtol=0)
    shifted = ridge(texts, texts + 3, rest, 10.0)
    torch.testing.assert_close(shifted, rest + 3, atol=1e-4, rtol=0)


def test_centring_and_whitening_take_features_to_the_partners_mean_and_shape():
    torch.manual_seed(0)
    texts, rest = torch.randn(500, 4), torch.randn(20, 4)
    stretch = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    partners = texts @ stretch + 3
    shift = partners.mean(0) - texts.mean(0)
    torch.testing.assert_close(centred(texts, partners, rest), rest + shift)
    unlabelled = centred_unlabelled(texts, partners, rest)
    torch.testing.assert_close(unlabelled.mean(0), partners.mean(0))
    # What is drawn evenly in all directions is whitened to the partners' very covariance.
    whole = whitened(texts, partners, texts, 0.0)
    torch.testing.assert_close(whole.mean(0), partners.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cov(whole.T), torch.cov(partners.T), atol=1e-3, rtol=1e-3)
    even = whitened(texts, partners, rest, 1.0) - partners.mean(0)
    moved = rest - texts.mean(0)
    ratio = (even / moved).mean()
    torch.testing.assert_close(even, ratio * moved, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_no_cell_is_measured_on_what_it_is_trained_on(data_root):
    study = read_study(STUDIES / "few_shot.yaml", few_shot.Study.parse)

    def images(ground, seed, language):
        parts = study.grounds[ground].parts(data_root, 50, seed)
        return [{p.image for p in parts.captions(language, part)} for part in ("train", "test")]

    for name, ground in study.grounds.items():
        train, test = images(name, 2, ground.languages[0])
        assert train and test and not train & test
    assert [len(part) for part in images("xflickrco", 2, "ja")] == [50, 37]
    # The tables of routines.md are of the same photographs, so that the two can be compared.
    other = read_study(STUDIES / "routines_multi30k.yaml", lambda p: compare_routines.Study(**p))
    photographs = other.photographs(data_root)
    for part, found in zip(("train", "test"), images("multi30k", 1, "fr"), strict=True):
        assert {p.image for p in photographs.captions("fr", part)} == found


@pytest.mark.slow
def test_it_measures_once_and_writes_tables(data_root, tmp_path, capsys):
    study = {
        "seeds": [1],
        "grounds": {"x": {"dataset": "xflickrco", "languages": ["es", "tr"], "shots": [10]}},
        "rows": {
            "default": {"languages": ["tr"]},
            "mean": {
                "languages": ["tr"],
                "averaged": 2,
                "recipe": {"schedule": "constant", "max_steps": 5},
            },
            "map": {"train": False, "feature_map": {"kind": "ridge", "weight": 10.0}},
        },
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study))
    arguments = [str(file), "--data-dir", str(data_root), "--out", str(tmp_path / "out")]
    assert few_shot.main(arguments) == 0
    cells = sorted((tmp_path / "out" / "cells").iterdir())
    assert len(cells) == 4
    times = [cell.stat().st_mtime_ns for cell in cells]
    assert few_shot.main(arguments) == 0
    assert [cell.stat().st_mtime_ns for cell in cells] == times
    results = read_figures(tmp_path / "out" / "few_shot.jsonl.gz", Measured.parse)
    default, averaged = (
        next(r for r in results if r.cell.row == row) for row in ("default", "mean")
    )
    assert len(default.photographs) == len(default.delta) == 77
    assert default.base != default.delta
    assert averaged.base == default.base and averaged.delta != default.delta
    assert averaged.percent == default.percent
    table = (tmp_path / "out" / "tables.md").read_text()
    assert "### x, 10 shots" in table and "| map | 1 |" in table
    assert table in capsys.readouterr().out
    drawing = (tmp_path / "out" / "few_shot.svg").read_text()
    assert "Turkish" in drawing and "x, 10 shots: default" in drawing and ">map<" in drawing
    assert not list((tmp_path / "out" / "artifacts" / "deltas").glob("*/*/manifest.yaml"))


@pytest.mark.parametrize(
    "text",
    [
        "grounds: {x: {sets: 1}}\nrows: {}\n",
        "grounds: {}\nrows: {a: {feature_map: {kind: turn}}}\n",
        "grounds: {}\nrows: {a: {feature_map: {kind: whiten}}}\n",
    ],
)
def test_a_bad_study_is_one_line(tmp_path, capsys, text):
    file = tmp_path / "study.yaml"
    file.write_text("seeds: [1]\n" + text)
    assert few_shot.main([str(file), "--data-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "study.yaml" in error


def test_rows_are_named_as_they_are_and_a_wrong_name_is_refused(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text('seeds: [1]\ngrounds: {}\nrows: {"default, all": {}}\n')
    arguments = [str(file), "--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--rows"]
    assert few_shot.main([*arguments, "default"]) == 1
    assert "has no row 'default'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert few_shot.main([*arguments, "default, all"]) == 0
