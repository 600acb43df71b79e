"""The comparison of routines, cut down to one cell, on real photographs."""

import pytest
import yaml

import compare_routines
from study import read_figures
from tests.factories.running import run_xclipt

STUDY = {
    "languages": ["fr"],
    "shots": 4,
    "seeds": [1, 2],
    "unseen_splits": ["val", "unused"],
    "pool": 900,
    "validate_on": 0,
    "dtype": "float32",
    "changes": {"max_steps": 2},
    "search": {"cosine": [1000]},
    "learning_rates": [3.0e-4],
    "out": "unused",
}


@pytest.mark.slow
def test_one_cell_is_trained_measured_and_not_trained_again(tmp_path, data_root, capsys):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    translate = run_xclipt(
        *("translate", "--lang", "fr", "--direction", "to-en", "--dataset", "multi30k"),
        *("--engine", "file", "--split", "train", "--data-dir", data_root),
        *("--artifacts", tmp_path / "artifacts"),
    )
    assert translate.code == 0, translate.err
    arguments = [str(study), "--data-dir", str(data_root), "--out", str(tmp_path), "--only", "1"]
    assert compare_routines.main(arguments) == 0
    raw = tmp_path / "routines.jsonl.gz"
    (document,) = read_figures(raw, dict)
    assert document["method"] == "baseline 1"
    base, delta = document["rows"]
    assert (base["delta"], delta["delta"]) == (None, "baseline1-weight0-lr0.0003-seed1")
    assert base["n"] == delta["n"] > 20
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert f"| baseline 1 | - | 0.0003 | {delta['mean_R@1']:.1f} |" in table
    (manifest,) = tmp_path.glob("artifacts/deltas/fr/*/manifest.yaml")
    trained = manifest.stat().st_mtime_ns
    assert compare_routines.main(arguments) == 0
    assert manifest.stat().st_mtime_ns == trained
    again = [str(study), "--raw", str(raw), "--out", str(tmp_path / "again")]
    assert compare_routines.main(again) == 0
    assert (tmp_path / "again" / "table.md").read_text() == table
