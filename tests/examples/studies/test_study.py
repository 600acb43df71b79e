"""What the studies share, and that the pages of results say what the raw figures do."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import ablation
import compare_routines
import few_shot
import study
from xclipt.errors import XcliptError

STUDIES = Path(study.__file__).parent


@dataclass(frozen=True)
class Figure:
    name: str
    value: float


@pytest.mark.parametrize(
    ("script", "file", "raw"),
    [
        (ablation, "ablation.yaml", "ablation"),
        (compare_routines, "routines_multi30k.yaml", "routines"),
        pytest.param(few_shot, "few_shot.yaml", "few_shot", marks=pytest.mark.slow),
    ],
)
def test_tables_of_the_results_are_those_of_the_raw_figures(script, file, raw, tmp_path, capsys):
    results = STUDIES / "results"
    arguments = ["--raw", str(results / f"{raw}.jsonl.gz"), "--out", str(tmp_path)]
    assert script.main([str(STUDIES / file), *arguments]) == 0
    page = (results / f"{raw}.md").read_text(encoding="utf-8").splitlines()
    tables = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(tables) > 15
    assert not set(tables) - set(page)
    if script is few_shot:
        drawing = (results / "few_shot.svg").read_bytes()
        assert (tmp_path / "few_shot.svg").read_bytes() == drawing


@pytest.mark.parametrize("name", ["figures.jsonl", "figures.jsonl.gz"])
def test_raw_figures_are_read_as_they_were_written(tmp_path, name):
    figures = [{"name": "é", "value": 0.1}, {"name": "b", "value": 2}]
    study.write_figures(tmp_path / name, figures)
    written = (tmp_path / name).read_bytes()
    assert study.read_figures(tmp_path / name, dict) == figures
    study.write_figures(tmp_path / name, figures)
    assert (tmp_path / name).read_bytes() == written
    (tmp_path / name).write_bytes(b"x")
    for path in (tmp_path / name, tmp_path / "missing"):
        with pytest.raises(XcliptError, match="no raw figures of this study"):
            study.read_figures(path, dict)


def test_cells_are_known_once_they_are_measured(tmp_path):
    cells = study.Cells(tmp_path / "cells", lambda plain: Figure(**plain))
    assert not cells.has("a")
    cells.write("a", [Figure("one", 1.0), Figure("two", 2.0)])
    cells.write("c", [Figure("three", 3.0)])
    assert cells.has("a") and not cells.has("b")
    names = [figure.name for figure in cells.read(["c", "b", "a"])]
    assert names == ["three", "one", "two"]


def test_resamples_are_drawn_alike_for_the_same_seed():
    drawn = study.resamples(7)
    assert drawn.shape == (2000, 7) and (drawn.sum(1) == 7).all()
    assert np.array_equal(drawn, study.resamples(7))
    assert not np.array_equal(drawn, study.resamples(7, seed=1))


def test_a_table_keeps_empty_cells():
    lines = study.table(["", "a", "b"], [["row", "", "1"]])
    assert lines == ["| | a | b |", "|---|--:|--:|", "| row | | 1 |"]
    assert study.by_column({"b": 1.25}, ["a", "b"]) == ["", "1.2"]
    assert study.with_interval(2, (-0.04, 3)) == "+2.0 [-0.0, +3.0]"
    assert study.with_interval(2, (1, 3), ".0f", " %") == "2 % [1, 3]"
