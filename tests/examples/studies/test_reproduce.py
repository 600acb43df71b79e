"""The grid script: what it asks for, what it needs translated, and what it makes of the figures."""

import csv
import shlex
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
import yaml

import grid
import reproduce
import reproduce_tables
import study
import xclipt
from tests.factories.models import write_mclip_backbone
from tests.factories.published import write_multi30k, write_xtd
from tests.factories.running import run_xclipt
from xclipt.metrics import disparity, interval95
from xclipt.training.recipe import PAPER

STUDIES = Path(reproduce.__file__).parent
RELEASED = sorted((STUDIES / "released").glob("*.yaml"))
EVERY = ["none", "none to-en", "1", "2", "3"]
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


def read_rows(out):
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_cut_down_grid_runs_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    arguments = [str(file), "--out", str(tmp_path / "out"), "--device", "cpu"]
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
    assert "8 trainings; 5 trainings to go, about" in capsys.readouterr().err
    made.clear()
    assert reproduce.main(arguments) == 0
    assert made == [], "everything was there"
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out/table.md").read_text()
    rows = [row for row in read_rows(tmp_path / "out") if row["language"] == "mean"]
    assert [(row["model"], row["routine"]) for row in rows] == [
        ("zero-shot", "none"),
        ("lora-r2", "none"),
        ("lora-r2", "1"),
        ("soft-prompt-t2", "none"),
        ("soft-prompt-t2", "1"),
    ]
    assert [int(row["parameters"]) for row in rows] == [0, 55_296, 55_296, 768, 768]
    (english,) = [
        float(row["mean_R@1"])
        for row in read_rows(tmp_path / "out")
        if (row["model"], row["language"]) == ("zero-shot", "en")
    ]
    assert english > 30


@pytest.fixture(scope="module", params=["xtd", "multi30k"])
def ground(request, tmp_path_factory):
    """A data root, and a grid of every routine and two seeds on a backbone of M-CLIP's format."""
    root = tmp_path_factory.mktemp(request.param)
    write_xtd(root) if request.param == "xtd" else write_multi30k(root)
    plain = SMALL | {
        "backbone": str(write_mclip_backbone(root / "backbone")),
        "dataset": request.param,
        "split": "paper",
        "validation_pictures": None,
        "routines": EVERY,
        "deltas": [{"kind": "lora", "rank": 1}],
        "learning_rates": ["1e-2"],
        "seeds": [1, 2],
        "test_limit": None,
        "engine": "file",
    }
    (root / "grid.yaml").write_text(yaml.safe_dump(plain))
    return root


def arguments(ground, out, *more):
    return [str(ground / "grid.yaml"), "--data-dir", str(ground), "--out", str(out), *more]


def test_what_lacks_is_named_before_anything_is_trained(ground, tmp_path, capsys):
    out = tmp_path / "out"
    assert reproduce.main(arguments(ground, out, "--dry-run")) == 0
    told = capsys.readouterr().out.splitlines()
    # en: none, twice; fr: both baselines, and three routines with two lambdas, all with two seeds.
    assert told[0] == "40 points, 18 trainings that differ; 18 trainings to go:"
    assert told[1:3] == [f"  en/lora-r1-none-lr0.01-seed{seed}" for seed in (1, 2)]
    assert told[18] == "  fr/lora-r1-routine3-lr0.01-mse0.1-seed2"
    texts = 24 if "xtd" in ground.name else 4 + 8 + 8
    assert told[19:22] == [
        "translations missing: 2",
        f"  fr to-en: {texts} of {texts} texts",
        "  fr from-en: 4 of 4 texts",
    ]
    assert len(told) == 24 and not out.exists()

    assert reproduce.main(arguments(ground, out)) == 1
    refused = capsys.readouterr()
    assert refused.out.splitlines() == told[22:] and not out.exists()
    (line,) = refused.err.splitlines()
    assert line.startswith("reproduce: nothing is trained yet: translations are missing (fr to")
    for command in refused.out.splitlines():
        program, *rest = shlex.split(command)
        done = run_xclipt(*rest)
        assert program == "xclipt" and done.code == 0, done.err

    assert reproduce.main(arguments(ground, out, "--dry-run")) == 0
    assert "translations missing: none\n" in capsys.readouterr().out
    directory = xclipt.ArtifactDirectory.open(out / "artifacts")
    assert not directory.deltas()


@pytest.fixture(scope="module")
def run(ground, tmp_path_factory):
    """The grid, translated, trained and measured."""
    out = tmp_path_factory.mktemp("run")
    assert reproduce.main(arguments(ground, out, "--translate")) == 0
    return out


def test_every_routine_is_trained_with_every_seed(ground, run, monkeypatch, capsys):
    directory = xclipt.ArtifactDirectory.open(run / "artifacts")
    deltas = directory.deltas()
    french = [delta for delta in deltas if delta.manifest.language == "fr"]
    assert (len(deltas) - len(french), len(french)) == (2, 16)
    kinds = {(d.manifest.routine, d.manifest.text) for d in french}
    to_en = {(None, "to-en"), (3, "to-en")}
    assert kinds == {(None, "target"), (1, "target"), (2, "target")} | to_en
    for routine, text in kinds:
        alike = [d for d in french if (d.manifest.routine, d.manifest.text) == (routine, text)]
        seeds = [d.manifest.seed for d in alike]
        assert seeds.count(1) == seeds.count(2) == (1 if routine is None else 2)
    assert {d.manifest.data.shots for d in french} == {4}
    monkeypatch.setattr(study, "train_delta", None)
    assert reproduce.main(arguments(ground, run)) == 0
    told = capsys.readouterr()
    assert "18 trainings; 0 trainings to go\n" in told.err
    assert told.out == (run / "table.md").read_text()


def test_seeds_are_summed_up_as_eval_does(ground, run):
    workspace = xclipt.open_workspace(run / "artifacts")
    dataset = xclipt.open_dataset(grid.Grid.read(ground / "grid.yaml").dataset, ground)
    rows = {(row["routine"], row["language"]): row for row in read_rows(run) if row["seeds"] == "2"}
    assert {language for _, language in rows} == {"en", "fr", "mean"} and len(rows) == 15
    for routine in EVERY:
        row = rows[routine, "fr"]
        stem = f"lora-r1-{'routine' * routine.isdigit()}{routine.replace(' ', '-')}-lr0.01"
        stem += f"-mse{row['align_weight']}" if row["align_weight"] else ""
        deltas = [workspace.directory.delta("fr", f"{stem}-seed{seed}") for seed in (1, 2)]
        of_both = [d.manifest.validation["mean_R@1"] for d in deltas]
        assert float(row["validation_R@1"]) == pytest.approx(sum(of_both) / 2, abs=1e-3)
        request = xclipt.EvaluationRequest(
            ["fr"], split="paper", shots=4, deltas={"fr": deltas}, over_seeds=True
        )
        (summary,) = xclipt.evaluate(workspace, dataset, request).seeds
        for column, value in (
            ("mean_R@1", summary.mean_r1),
            ("sd_over_seeds", summary.sd),
            ("gain", summary.gain.mean_r1),
        ):
            assert float(row[column]) == pytest.approx(value, abs=1e-4), (routine, column)
        assert float(row["gain_low"]) <= float(row["gain"]) <= float(row["gain_high"])
        baseline = rows["none to-en" if routine == "3" else "none", "fr"]
        if row is not baseline and routine != "none to-en":
            difference = float(row["mean_R@1"]) - float(baseline["mean_R@1"])
            assert float(row["over_baseline"]) == pytest.approx(difference, abs=2e-4)
        else:
            assert row["over_baseline"] == ""
        mean = rows[routine, "mean"]
        both = [float(rows[routine, code]["mean_R@1"]) for code in ("en", "fr")]
        spread = disparity(dict(zip(("en", "fr"), both, strict=True)))
        assert float(mean["sd_over_languages"]) == pytest.approx(spread.sd, abs=1e-3)
        assert float(mean["range_over_languages"]) == pytest.approx(spread.range, abs=1e-3)


def test_the_zero_shot_rows_are_of_both_texts(ground, run):
    frozen = [row for row in read_rows(run) if row["model"] == "zero-shot"]
    assert {row["routine"] for row in frozen} == {"none", "none to-en"}
    by = {(row["routine"], row["language"]): row for row in frozen}
    assert by["none", "en"]["mean_R@1"] == by["none to-en", "en"]["mean_R@1"]
    assert by["none", "fr"]["gain"] == ""
    gain = float(by["none to-en", "fr"]["mean_R@1"]) - float(by["none", "fr"]["mean_R@1"])
    assert float(by["none to-en", "fr"]["gain"]) == pytest.approx(gain, abs=2e-4)
    workspace = xclipt.open_workspace(run / "artifacts")
    dataset = xclipt.open_dataset(grid.Grid.read(ground / "grid.yaml").dataset, ground)
    request = xclipt.EvaluationRequest(["fr"], split="paper", shots=4, deltas={}, text="to-en")
    for row in xclipt.evaluate(workspace, dataset, request).rows:
        name = "none to-en" if row.text == "to-en" else "none"
        assert float(by[name, "fr"]["mean_R@1"]) == pytest.approx(row.mean_r1, abs=1e-4)


def test_every_point_has_a_row_of_its_own(ground, run, tmp_path, capsys):
    plain = yaml.safe_load((ground / "grid.yaml").read_text())
    file = tmp_path / "points.yaml"
    points = {"every_point": True, "align_losses": ["mse", "contrastive"], "routines": ["none", 1]}
    file.write_text(yaml.safe_dump(plain | points | {"learning_rates": [1e-2, 1e-3]}))
    given = [str(file), "--data-dir", str(ground), "--out", str(tmp_path / "out")]
    given += ["--artifacts", str(run / "artifacts"), "--languages", "fr", "--seeds", "1"]
    assert reproduce.main(given) == 0
    told = capsys.readouterr().err
    # At one of the two rates the other grid has trained what has mse.
    assert "10 trainings; 7 trainings to go, about" in told
    left = [line for line in told.splitlines() if " to go" in line]
    assert [line.split()[0] for line in left[1:]] == ["6", "5", "4", "3", "2", "1", "0"]
    rows = [row for row in read_rows(tmp_path / "out") if row["language"] == "fr"]
    points = [
        tuple(row[key] for key in ("routine", "learning_rate", "align_loss", "align_weight"))
        for row in rows
    ]
    assert points == [
        ("none", "", "", ""),
        *(("none", rate, "", "") for rate in ("0.01", "0.001")),
        *(
            ("1", rate, loss, weight)
            for rate in ("0.01", "0.001")
            for loss in ("mse", "contrastive")
            for weight in ("0.01", "0.1")
        ),
    ]
    # Each is compared with the baseline of its own learning rate.
    by_point = {point: float(row["mean_R@1"]) for point, row in zip(points, rows, strict=True)}
    for point, row in zip(points, rows, strict=True):
        if point[0] == "1":
            difference = by_point[point] - by_point["none", point[1], "", ""]
            assert float(row["over_baseline"]) == pytest.approx(difference, abs=2e-4)


def test_deltas_of_other_shots_are_not_taken_for_those_that_are_asked_for(ground, run, capsys):
    plain = yaml.safe_load((ground / "grid.yaml").read_text())
    other = ground / "other.yaml"
    other.write_text(yaml.safe_dump(plain | {"shots": 3}))
    given = [str(other), "--data-dir", str(ground), "--out", str(run), "--dry-run"]
    assert reproduce.main(given) == 0
    assert "18 trainings to go:" in capsys.readouterr().out


def test_translations_of_which_none_may_be_used(data_root, tmp_path, capsys):
    file = tmp_path / "grid.yaml"
    published = SMALL | {"dataset": "xtd", "split": "paper", "languages": ["ko"], "engine": "file"}
    plain = published | {"routines": [2], "backbone": str(write_mclip_backbone(tmp_path / "model"))}
    given = [str(file), "--data-dir", str(data_root), "--artifacts", str(tmp_path / "artifacts")]
    for on_bad, before, after in (
        ("drop", "ko from-en: 4 of 4 texts", "on_bad 'drop': the guards dropped all 4"),
        # What was dropped before shall be kept now: the command lets it.
        ("keep", "ko from-en: 4 of 4 texts", "translations missing: none"),
    ):
        file.write_text(yaml.safe_dump(plain | {"on_bad": on_bad}))
        assert reproduce.main([*given, "--dry-run"]) == 0
        told = capsys.readouterr().out
        assert before in told
        done = run_xclipt(*shlex.split(told.splitlines()[-1])[1:])
        assert done.code == 0, done.err
        assert reproduce.main([*given, "--dry-run"]) == (1 if on_bad == "drop" else 0)
        told = capsys.readouterr()
        assert after in told.err + told.out


@pytest.mark.parametrize("name", ["reproduce_xtd.yaml", "reproduce_multi30k.yaml"])
def test_the_papers_grids_are_complete(name):
    paper = grid.Grid.read(STUDIES / name)
    assert paper.backbone == "mclip-l14" and paper.recipe == "paper" and paper.split == "paper"
    assert paper.shots == 50 and paper.seeds == (1,) and paper.measured_split == "paper"
    assert {spec.kind for spec in paper.specs().values()} == {
        *("lora", "adapter", "compacter", "soft-prompt")
    }
    assert paper.learning_rates == (5e-5, 1e-4, 2e-4)
    assert min(paper.lambdas) == 0.003 and max(paper.lambdas) == 0.3
    assert paper.routines == tuple(EVERY)
    requests = [
        request
        for cell, request in paper.trainings().items()
        if (cell.kind, cell.strategy, cell.language) == ("lora-r8", "1", "fr")
    ]
    assert len(requests) == len({request.name for request in requests}) == 15
    assert {request.recipe.epochs for request in requests} == {PAPER.epochs}


COMMANDS = {
    "all_b1": 33,
    "all_b2": 11,
    "all_m1": 60,
    "languages": 50,
    "en": 1,
    "t": 4,
    "grid_baseline": 66,
    "grid_method": 450,
    "zh_t": 10,
    "zh": 40,
}


def test_the_released_scripts_are_all_there():
    families = {file.stem: grid.Grid.read(file) for file in RELEASED}
    assert {name: len(family.cells()) for name, family in families.items()} == COMMANDS
    cells = [cell for family in families.values() for cell in family.cells()]
    assert (len(cells), len(set(cells))) == (725, 676)
    # A baseline ignores the options of the loss; English has one baseline, as it has one text.
    assert len({(cell.strategy, cell.training) for cell in cells}) == 627
    trainings = {cell.training for cell in cells}
    assert len(trainings) == len({(cell.language, cell.name) for cell in trainings}) == 624
    strategies = [cell.strategy for cell in cells]
    assert {name: strategies.count(name) for name in EVERY} == {
        **{"none": 86, "none to-en": 69},
        **{"1": 230, "2": 170, "3": 170},
    }
    losses = [cell.align_loss for cell in cells]
    assert (losses.count("mse"), losses.count("contrastive")) == (680, 45)
    # A command has a row of its own, but for those of a baseline that differ in nothing.
    rows = {name: len(family.rows()) for name, family in families.items()}
    assert rows["grid_method"] == 45 and rows["languages"] == 5 and rows["zh_t"] == 8
    for family in families.values():
        assert (family.backbone, family.dataset, family.split) == ("mclip-l14", "xtd", "paper")
        assert (family.shots, family.seeds, family.recipe) == (50, (1,), "paper-scripts")
        assert family.every_point and family.artifacts == "released/artifacts"


def test_every_released_family_is_described_with_its_count():
    page = (STUDIES / "released/README.md").read_text()
    for name, count in COMMANDS.items():
        (line,) = [line for line in page.splitlines() if f"({name}.yaml)" in line]
        assert line.endswith(f"| {count} |")
    assert sum(COMMANDS.values()) == 725 and "| 81 | 725 |" in page


def test_the_released_families_ask_for_trainings_of_their_recipe():
    for family in map(grid.Grid.read, RELEASED):
        requests = family.trainings()
        assert {cell.training for cell in family.cells()} == requests.keys()
        for cell, request in requests.items():
            assert request.recipe.learning_rate == cell.learning_rate
            assert request.recipe.epochs == 50 and request.recipe.batch_size == 5
            assert request.delta.named["rank"] == 1


def test_an_unknown_recipe_is_one_line(tmp_path, capsys):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(SMALL | {"recipe": "papers"}))
    assert reproduce.main([str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reproduce: recipe 'papers': choose default, paper")


def test_mistakes_are_one_line(tmp_path, capsys):
    file = tmp_path / "grid.yaml"
    for text, message in (
        ("lanugages: [fr]", "'lanugages'"),
        ("backbone: builtin", "missing"),
        (yaml.safe_dump(SMALL | {"routines": ["9"]}), "routines '9': choose of none, none to-en"),
        (yaml.safe_dump(SMALL | {"align_losses": ["l1"]}), "align_losses 'l1': choose of"),
        (yaml.safe_dump(SMALL | {"learning_rates": ["fast"]}), "learning_rates"),
        (yaml.safe_dump(SMALL | {"seeds": []}), "seeds '[]': must be a list of one at least"),
        (yaml.safe_dump(SMALL | {"languages": ["fr", "cs"]}), "languages 'cs': emoji has en, ar"),
        (yaml.safe_dump(SMALL | {"dataset": "nowhere"}), "dataset 'nowhere'"),
        ("[", "grid.yaml"),
    ):
        file.write_text(text)
        assert reproduce.main([str(file), "--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1, error


def figures(*by_seed, seed=0, shift=0.0):
    draws = np.random.default_rng(seed).normal(np.mean(by_seed), 1, 2000) + shift
    return reproduce_tables.Figures(by_seed, draws, seed, "image")


def test_the_table_tells_seeds_from_languages():
    label = grid.Label("lora", "1", 1e-4, "mse", 0.1)
    base = {"en": figures(60.0), "fr": figures(40.0, seed=1)}
    of = {"en": figures(60.0, 64.0), "fr": figures(50.0, 50.0, seed=1)}
    row = reproduce_tables.Row(label, 1000, of, base)
    assert row.by_seed == [55.0, 57.0] and row.by_language == {"en": 62.0, "fr": 50.0}
    zero = reproduce_tables.Row(grid.Label("zero-shot", "none"), 0, base, base)
    text = reproduce_tables.as_markdown([zero, row])
    header, _, first, second = text.splitlines()
    assert "learning rate | align loss | align weight" in header
    assert first.endswith("| 60.0 | 40.0 | 50.0 | 10.00 | 20.0 | | |")
    sd = f"{stdev([55, 57]):.1f}"
    assert f"| 62.0 (2.8) | 50.0 (0.0) | 56.0 ({sd}) | 6.00 | 12.0 | +6.0 [" in second
    # Paired: the same pictures are drawn, so the common noise is gone.
    gain = row.gain(["fr"])
    assert gain is not None and gain[0] == 10 and gain[1] == pytest.approx((10, 10))
    alone = of["fr"].draws - base["fr"].draws
    assert gain[1] == pytest.approx(interval95(alone))
    elsewhere = replace(zero, of=base | {"fr": figures(40.0, seed=2)})
    assert row.over(elsewhere, ["fr"]) is None and row.over(zero, ["en"]) is not None
    text_mode = replace(zero, of={"en": replace(base["en"], mode="text"), "fr": base["fr"]})
    assert "Text mode:" in reproduce_tables.as_markdown([text_mode]) and "Text" not in text


def test_the_best_on_validation_in_the_mean_over_seeds_is_taken(ground, run, monkeypatch):
    figures = {"mse0.01-seed1": 90.0, "mse0.01-seed2": 10.0, "mse0.1-seed1": 60.0}

    def validated(*given):
        stored = found(*given)
        end = stored.manifest.name.partition("-lr0.01-")[2]
        own = {"mean_R@1": figures.get(end, 50.0)}
        return replace(stored, manifest=replace(stored.manifest, validation=own))

    found = reproduce.found
    asked = grid.Grid.read(ground / "grid.yaml")
    start = reproduce.Start.of(asked, ground, run / "artifacts")
    workspace = xclipt.open_workspace(run / "artifacts")
    countdown = reproduce.Countdown(0)
    whole = reproduce.Run(asked, start.requests, workspace, start.dataset, countdown, run)
    monkeypatch.setattr(reproduce, "found", validated)
    for strategy in ("1", "2", "3"):
        cells = [c for c in start.requests if (c.language, c.strategy) == ("fr", strategy)]
        point, deltas = whole.best(cells)
        assert (point.strategy, point.align_weight) == (strategy, 0.1)
        assert [delta.manifest.seed for delta in deltas] == [1, 2]


def test_time_left():
    countdown = reproduce.Countdown(3)
    assert str(countdown) == "3 trainings to go"
    countdown.seconds += [4000, 8000]
    assert str(countdown) == "3 trainings to go, about 5 h 0 min"
    assert [reproduce.span(s) for s in (45, 99.6, 100, 3599, 12_000)] == [
        *("45 s", "100 s", "2 min", "1 h 0 min", "3 h 20 min"),
    ]
