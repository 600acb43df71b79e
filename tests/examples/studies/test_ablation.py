"""The ablation: what a trial is measured on, how it is trained, and what is made of trials."""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
import torch
import yaml

import ablation
import ablation_tables
from ablation_tables import GROUPS, OTHERS, Measured, Trial
from start_variant import Variant, train_variant
from study import read_figures
from xclipt.backbones.builtin import WARM_START
from xclipt.backbones.builtin.train_heads import training_collection
from xclipt.backbones.builtin.train_warm_start import (
    Parallel,
    Targets,
    WarmStartRecipe,
    human_captions,
    train_start,
)

STUDY = Path(ablation.__file__).with_name("ablation.yaml")
PHOTOGRAPHS = {"xflickrco": 6, OTHERS: 8, "flickr8k": 5, "multi30k": 4, "emoji": 3}


def measured(line, seed, value, kind="start", row=None):
    values = {
        f"{pool}/{language}": [value] * PHOTOGRAPHS[pool]
        for sets in GROUPS.values()
        for pool, language in sets
    }
    return Measured(Trial(kind, row or line, seed), line, 1000, 60.0 + seed, values)


def cells(table, line):
    row = next(row for row in table.splitlines() if row.startswith(f"| {line} |"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


@pytest.mark.slow
def test_nothing_is_measured_that_heads_or_starts_are_trained_on(data_root):
    pools = ablation.pools(data_root)
    assert {pool.name: len(pool.paths) for pool in pools} == {
        "xflickrco": 87,
        OTHERS: 345,
        "flickr8k": 500,
        "multi30k": 214,
        "emoji": 200,
    }
    shown = {path for pool in pools for path in pool.paths}
    assert not shown & set(training_collection(data_root).paths)
    read = human_captions(data_root, frozenset(), 29_000, 0)
    names = {parallel.image for group in read.values() for parallel in group}
    assert not {path.name for path in shown} & names
    have = {(pool.name, language) for pool in pools for language in pool.captions}
    assert {pair for sets in GROUPS.values() for pair in sets} <= have
    for pool in pools:
        assert {len(captions) for captions in pool.captions.values()} == {len(pool.paths)}


def test_a_group_weighs_sets_and_seeds_alike_and_its_draws_are_the_same_for_all():
    one, other = measured("a", 0, 10.0), measured("a", 1, 20.0)
    group = ablation_tables.group_of([one, other], GROUPS["tuning"])
    assert group.value == 15 and np.allclose(group.draws, 15)
    uneven = replace(one, values=one.values | {"flickr8k/ar": [0.0, 100.0, 0.0, 0.0, 0.0]})
    sets = [("flickr8k", "ar")]
    first, again = (ablation_tables.group_of([uneven], sets) for _ in range(2))
    assert first.value == 20 and first.draws.std() > 0
    assert np.array_equal(first.draws, again.draws)


def test_tables_give_gains_over_the_base_and_the_distance_from_the_first_row():
    results = [
        measured("base", 0, 30.0),
        *(measured("as it is", seed, 34.0 + seed) for seed in (0, 1)),
        *(measured("other", seed, 33.0 - seed) for seed in (0, 1)),
        measured("once", 1, 36.0),
        measured("as they are", 0, 50.0, kind="heads"),
    ]
    table = ablation_tables.as_markdown(results)
    assert cells(table, "as it is")[:3] == ["2", "1,000", "+4.5"]
    apart = "-2.0 [-2.0, -2.0], sd of seeds 1.4"
    assert cells(table, "other")[-3:] == [apart, apart, "60"]
    assert cells(table, "once")[-2] == "+1.0 [+1.0, +1.0]", "against the seed that both have"
    widths = [len(row.split("|")) for row in table.split("### ")[1].splitlines()[2:] if row]
    assert len(set(widths)) == 1
    assert cells(table, "as they are")[2] == "50.0", "heads have no base"
    assert "xflickrco by language" in table
    assert cells(table.split("by language")[1], "base") == ["30.0"] * 7


def test_a_study_takes_every_row_with_the_first_seed_first():
    study = yaml.safe_load(STUDY.read_text())
    trials = ablation.trials_of(study)
    rows = sum(len(study[kind]["rows"]) for kind in ("start", "heads"))
    assert len(trials) == rows * len(study["seeds"]) - 1, "one row leaves out a seed"
    assert [trial.seed for trial in trials] == sorted(trial.seed for trial in trials)
    assert len({trial.name for trial in trials}) == len(trials)
    steps = study["start"]["recipe"]["steps"]
    for trial, row in trials.items():
        if trial.kind == "start":
            assert row.recipe.steps == steps


@pytest.fixture
def few_texts(backbone):
    """What a training takes beside recipe and seed: two captions, two names, no photograph."""
    captions = {
        "de": [
            Parallel("0", ("ein Hund rennt",), ("a dog runs",)),
            Parallel("1", ("zwei Kinder spielen",), ("two children play",)),
        ]
    }
    names = {"fr": [Parallel("3", ("pomme",), ("apple",)), Parallel("4", ("chat",), ("cat",))]}
    english = [parallel.english for parallel in (*captions["de"], *names["fr"])]
    features = backbone.encode_texts([caption for (caption,) in english])
    return captions, names, Targets(dict(zip(english, features, strict=True)), {}, features[:0])


@pytest.mark.slow
def test_a_variant_without_a_change_is_the_start_and_every_change_shows(backbone, few_texts):
    recipe = WarmStartRecipe(steps=4, captions=4, names=2, warmup=0.5)

    def learn(**changes):
        return train_variant(backbone, *few_texts, recipe, Variant(**changes), 0)

    one = learn()
    shipped = train_start(backbone, *few_texts, recipe, 0)
    assert one.trained == shipped.trained
    assert all(torch.equal(tensor, shipped.tensors[name]) for name, tensor in one.tensors.items())
    for changes in ({"token_dropout": 0.5}, {"averaged_from": 0.5}):
        other = learn(**changes)
        assert other.trained == one.trained
        assert any(not torch.equal(other.tensors[n], t) for n, t in one.tensors.items())
    upper = learn(blocks=(6, 11))
    moved = {n for n, t in upper.tensors.items() if not torch.equal(t, upper.identity[n])}
    assert moved and all(int(name.split(".layer.")[1].split(".")[0]) >= 6 for name in moved)
    assert upper.trained == one.trained // 2


@pytest.mark.slow
def test_the_mean_of_the_weights_is_of_the_steps_that_it_says(backbone, few_texts):
    def learnt(steps, averaged_from=1.0):
        # Without a warm-up the first step is at the peak rate whatever their number.
        recipe = WarmStartRecipe(steps=steps, captions=1, names=1, warmup=0)
        variant = Variant(averaged_from=averaged_from)
        return train_variant(backbone, *few_texts, recipe, variant, 0).tensors

    first, second, mean = learnt(1), learnt(2), learnt(2, averaged_from=0)
    for name, tensor in mean.items():
        expected = (first[name] + second[name]) / 2
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_it_trains_once_and_writes_tables(data_root, tmp_path, capsys, monkeypatch):
    # Pools and captions of a few photographs: all of them take minutes to encode.
    whole = ablation.pools(data_root)
    few = [
        ablation.Pool(
            pool.name, pool.paths[:6], {code: of[:6] for code, of in pool.captions.items()}
        )
        for pool in whole
    ]
    monkeypatch.setattr(ablation, "pools", lambda data_dir: few)
    learnt_from = human_captions(data_root, frozenset(), 6, 0)
    monkeypatch.setattr(
        ablation.train_warm_start,
        "human_captions",
        lambda data_dir, without, pictures, seed: {
            code: group for code, group in learnt_from.items() if code not in without
        },
    )
    study = {
        "seeds": [0],
        "start": {
            "recipe": {"steps": 2, "captions": 4, "names": 2},
            "rows": {
                "whole": {"kept": [1, 0.5]},
                "French": {"read": ["fr"]},
                "file": {"trained": str(tmp_path / "start-{seed}.safetensors"), "kept": [0.8, 0]},
            },
        },
        "heads": {"rows": {"short": {"recipe": {"steps": 3, "batch": 8, "hidden": 4}}}},
    }
    copyfile(WARM_START, tmp_path / "start-0.safetensors")
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    out = tmp_path / "out"
    training = training_collection(data_root)
    kept = {
        "train.images": torch.rand(1, len(training.paths), 1904),
        "train.texts": torch.rand(len(training.owners), 384),
    }
    (out / "heads").mkdir(parents=True)
    ablation.save_file(kept, out / "heads" / "training.safetensors")
    arguments = [str(file), "--data-dir", str(data_root), "--out", str(out)]
    assert ablation.main(arguments) == 0
    files = sorted((out / "cells").iterdir())
    assert len(files) == 5
    times = [file.stat().st_mtime_ns for file in files]
    capsys.readouterr()
    assert ablation.main(arguments) == 0
    assert [file.stat().st_mtime_ns for file in files] == times
    lines = read_figures(out / "ablation.jsonl.gz", Measured.parse)
    values = {measured.line: measured.values for measured in lines}
    assert list(values) == [
        "base",
        "whole",
        "whole, 0.5 of it",
        "French",
        "file, 0.8 of it",
        "file, 0 of it",
        "short",
    ]
    assert values["base"] == values["file, 0 of it"] != values["file, 0.8 of it"]
    assert values["base"] != values["whole"] != values["whole, 0.5 of it"]
    table = (out / "tables.md").read_text()
    assert cells(table, "whole")[1] == "184,320" and cells(table, "short")[0] == "1"
    assert table == capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("seeds: [0]\nstart: {}\n", [], "study.yaml"),
        ("seeds: [0]\nstart: {rows: {a: {no: 1}}}\nheads: {rows: {}}\n", [], "study.yaml"),
        ("seeds: [0]\nstart: {recipe: {stepz: 1}, rows: {a: }}\nheads: {rows: {}}\n", [], "stepz"),
        ("seeds: [0]\nstart: {rows: {a: {views: 1}}}\nheads: {rows: {}}\n", [], "'views'"),
        ("seeds: []\nstart: {rows: {}}\nheads: {rows: {}}\n", ["--rows", "b"], "no row 'b'"),
        ("seeds: [7]\nstart: {rows: {a: {trained: 'no{seed}'}}}\nheads: {rows: {}}\n", [], "no7"),
        ("seeds: []\nstart: {rows: {}}\nheads: {rows: {}}\n", ["--part", "3/2"], "--part 3/2"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, text, arguments, said):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert ablation.main([str(file), "--data-dir", str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_two_parts_are_the_whole():
    trials = list(ablation.trials_of(yaml.safe_load(STUDY.read_text())))
    parts = [ablation._part(part, trials) for part in ("1/2", "2/2")]
    assert sorted(parts[0] + parts[1], key=trials.index) == trials
    assert not set(parts[0]) & set(parts[1])
