"""The grid script on the builtin backbone with a cut-down grid: it runs, resumes, and tabulates."""

import csv
from pathlib import Path

import pytest
import yaml

import reproduce
import study
from xclipt.alignment.routines import ROUTINES
from xclipt.training.recipe import PAPER

STUDIES = Path(reproduce.__file__).parent
SMALL = {
    "backbone": "builtin",
    "dataset": "emoji",
    "shots": 4,
    "validation_pictures": 12,
    "recipe": "paper",
    "changes": {"epochs": 1, "evaluations": 1},
    "languages": ["en", "fr"],
    "routines": ["none", "1"],
    "deltas": [{"kind": "lora", "rank": 2}, {"kind": "soft-prompt", "tokens": 2}],
    "learning_rates": [1e-3],
    "lambdas": [0.01, 0.1],
    "seeds": [1],
    "test_limit": 30,
    "out": "unused",
}


@pytest.mark.slow
def test_a_cut_down_grid_runs_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump(SMALL))
    arguments = [str(grid), "--out", str(tmp_path / "out"), "--device", "cpu"]
    train, made = study.train_delta, []

    def stop_after_three(workspace, dataset, request):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(request.name)
        return train(workspace, dataset, request)

    monkeypatch.setattr(study, "train_delta", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(arguments)
    first = list(made)
    made.clear()
    monkeypatch.setattr(study, "train_delta", lambda *given: made.append(given[2]) or train(*given))
    assert reproduce.main(arguments) == 0
    # lora: en none, fr none, fr 1 at two lambdas; the same for the prompt. en has no routine 1.
    assert len(first) + len(made) == 8
    made.clear()
    capsys.readouterr()
    assert reproduce.main(arguments) == 0
    assert made == [], "everything was there"
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out/table.md").read_text()
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["routine"]) for row in rows] == [
        ("zero-shot", "-"),
        ("lora-r2", "none"),
        ("lora-r2", "1"),
        ("soft-prompt-t2", "none"),
        ("soft-prompt-t2", "1"),
    ]
    assert [int(row["parameters"]) for row in rows] == [0, 55_296, 55_296, 768, 768]
    for row in rows:
        mean = (float(row["en"]) + float(row["fr"])) / 2
        assert float(row["mean"]) == pytest.approx(mean, abs=1e-3)
        assert float(row["range"]) == pytest.approx(
            abs(float(row["en"]) - float(row["fr"])), abs=1e-3
        )
    assert float(rows[0]["en"]) > 30


@pytest.mark.parametrize("name", ["reproduce_xtd.yaml", "reproduce_multi30k.yaml"])
def test_the_papers_grids_are_complete(name):
    grid = reproduce.Grid.read(STUDIES / name)
    assert grid.backbone == "mclip-l14" and grid.recipe == "paper" and grid.split == "paper"
    assert grid.shots == 50 and grid.seeds == [1]
    assert {spec.kind for spec in grid.specs().values()} == {
        *("lora", "adapter", "compacter", "soft-prompt")
    }
    assert grid.learning_rates == [5e-5, 1e-4, 2e-4]
    assert min(grid.lambdas) == 0.003 and max(grid.lambdas) == 0.3
    assert set(grid.routines) <= ROUTINES.keys()
    requests = list(grid.requests(grid.specs()["lora-r8"], "lora-r8", "1", "fr", 1))
    assert len(requests) == len({request.name for request in requests}) == 15
    assert {request.recipe.epochs for request in requests} == {PAPER.epochs}


def test_mistakes_are_one_line(tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    for text, message in (
        ("lanugages: [fr]", "'lanugages'"),
        ("backbone: builtin", "missing"),
        (yaml.safe_dump(SMALL | {"routines": ["9"]}), "no routine ['9']"),
        ("[", "grid.yaml"),
    ):
        grid.write_text(text)
        assert reproduce.main([str(grid)]) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
