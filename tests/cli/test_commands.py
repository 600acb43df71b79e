"""The program as its users run it: real commands on the builtin backbone."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

from tests.factories.running import Run, run_xclipt


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("work") / "artifacts"


@pytest.fixture(scope="module")
def trained(artifacts) -> Run:
    return run_xclipt(
        *("train-delta", "--lang", "fr,jp", "--shots", "10", "--epochs", "2"),
        *("--validate-on", "40", "--artifacts", artifacts, "--json"),
    )


def test_train_delta_prints_the_contract(trained, artifacts):
    assert trained.code == 0
    document = trained.json()
    assert document["command"] == "train-delta"
    assert [delta["language"] for delta in document["deltas"]] == ["fr", "ja"]
    french = document["deltas"][0]
    assert french["name"] == "lora-10shot-seed1" and french["kind"] == "lora"
    assert french["trainable_parameters"] == 184_320
    assert french["percent"] == pytest.approx(100 * 184_320 / french["backbone_parameters"])
    assert french["validation"]["pictures"] == 40
    folder = artifacts / "deltas" / "fr" / "lora-10shot-seed1"
    assert french["path"] == str(folder)
    assert french["bytes"] == next(folder.glob("*.safetensors")).stat().st_size
    assert "--lang jp is ja (Japanese)" in trained.err
    assert f"Made {artifacts}" in trained.err


def test_the_manifest_is_for_people(trained, artifacts):
    text = (artifacts / "deltas/fr/lora-10shot-seed1/manifest.yaml").read_text()
    plain = yaml.safe_load(text)
    assert plain["language"] == "fr" and plain["routine"] == 1 and plain["text"] == "target"
    assert plain["data"]["shots"] == 10 and plain["data"]["validation_pictures"] == 40
    assert len(plain["data"]["pictures"].split()) == 50
    assert (artifacts / "deltas/fr/current").read_text() == "lora-10shot-seed1\n"
    assert not list(artifacts.rglob("*.pkl")) + list(artifacts.rglob("*.bin"))


def test_training_again_gives_the_same_bytes(trained, artifacts):
    path = next((artifacts / "deltas/fr/lora-10shot-seed1").glob("*.safetensors"))
    before = path.read_bytes()
    again = run_xclipt(
        *("train-delta", "--lang", "fr", "--shots", "10", "--epochs", "2"),
        *("--validate-on", "40", "--artifacts", artifacts),
    )
    assert again.code == 0
    assert path.read_bytes() == before
    assert "184,320" in again.out and "lora-10shot-seed1" in again.out


def test_eval_prints_the_contract(trained, artifacts, tmp_path):
    out = tmp_path / "rows.csv"
    run = run_xclipt(
        *("eval", "--lang", "en,fr,de", "--limit", "80", "--artifacts", artifacts),
        *("--csv", out, "--json"),
    )
    assert run.code == 0
    document = run.json()
    assert document["dataset"] == "emoji" and document["split"] == "test"
    assert document["mode"] == "image"
    assert document["backbone"]["id"] == "builtin"
    rows = document["rows"]
    assert [(row["language"], row["delta"]) for row in rows] == [
        ("en", None),
        ("fr", None),
        ("fr", "lora-10shot-seed1"),
        ("de", None),
    ]
    for row in rows:
        assert row["n"] == 80
        metrics = {"R@1", "R@5", "R@10", "MRR", "median_rank"}
        assert row["t2i"].keys() == metrics == row["i2t"].keys()
        assert row["mean_R@1"] == pytest.approx((row["t2i"]["R@1"] + row["i2t"]["R@1"]) / 2)
        assert row["ci95"][0] <= row["mean_R@1"] <= row["ci95"][1]
    assert rows[2]["gain"]["mean_R@1"] == pytest.approx(rows[2]["mean_R@1"] - rows[1]["mean_R@1"])
    base = {row["language"]: row["mean_R@1"] for row in rows if row["delta"] is None}
    gap = base["en"] - (base["fr"] + base["de"]) / 2
    assert document["disparity"]["base"]["english_gap"] == pytest.approx(gap)
    assert document["disparity"]["delta"].keys() >= {"sd", "range", "english_gap"}
    assert document["disparity"]["base"]["worst_language"] == min(base, key=base.get)
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["delta"] for row in table] == ["", "", "lora-10shot-seed1", ""]
    assert float(table[1]["mean R@1"]) == pytest.approx(base["fr"], abs=1e-3)


def test_eval_without_deltas_has_no_delta_disparity(artifacts, trained):
    run = run_xclipt("eval", "--lang", "de", "--limit", "30", "--artifacts", artifacts, "--json")
    assert run.json()["disparity"]["delta"] is None


def test_eval_leaves_out_what_a_delta_was_trained_on(trained, artifacts):
    run = run_xclipt(
        *("eval", "--lang", "fr", "--split", "val", "--artifacts", artifacts, "--json"),
    )
    base, delta = run.json()["rows"]
    assert base["left_out"] == delta["left_out"] == 40
    assert base["n"] == delta["n"] == 160


def test_eval_of_xtd_says_loudly_that_it_ranks_text(trained, artifacts, data_root):
    run = run_xclipt(
        *("eval", "--dataset", "xtd", "--data-dir", data_root, "--lang", "fr,jp"),
        *("--limit", "60", "--artifacts", artifacts, "--json"),
    )
    assert run.code == 0
    assert run.json()["mode"] == "text"
    assert "TEXT MODE" in run.err
    assert run.json()["rows"][0]["mean_R@1"] > 50


def test_eval_of_multi30k_takes_its_test_split(trained, artifacts, data_root):
    run = run_xclipt(
        *("eval", "--dataset", "multi30k", "--data-dir", data_root, "--lang", "de"),
        *("--limit", "20", "--artifacts", artifacts, "--json"),
    )
    assert run.code == 0, run.err
    assert run.json()["split"] == "test_2016_flickr"
    assert run.json()["mode"] == "text" and "TEXT MODE" in run.err


def test_data_in_the_folder_data_is_found(trained, artifacts, data_root, tmp_path, monkeypatch):
    monkeypatch.delenv("XCLIPT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data_root.resolve())
    run = run_xclipt(
        *("eval", "--dataset", "xtd", "--lang", "it", "--limit", "20"),
        *("--artifacts", artifacts, "--json"),
    )
    assert run.code == 0 and run.json()["dataset"] == "xtd"


def test_export_delta_exports_every_current_delta(trained, artifacts):
    run = run_xclipt("export-delta", "--artifacts", artifacts, "--json")
    assert run.code == 0
    exports = run.json()["exports"]
    assert [(e["language"], e["format"]) for e in exports] == [("fr", "native"), ("ja", "native")]
    for export in exports:
        assert export["path"].startswith(str(artifacts / "exports"))
        assert "manifest.yaml" in export["files"] and export["bytes"] > 600_000


def test_export_delta_to_peft_in_a_chosen_folder(trained, artifacts, tmp_path):
    run = run_xclipt(
        *("export-delta", "--lang", "fr", "--format", "peft", "--out", tmp_path / "out"),
        *("--artifacts", artifacts),
    )
    assert run.code == 0
    folder = tmp_path / "out/fr/lora-10shot-seed1"
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert "adapter_model.safetensors" in run.out


def test_status(trained, artifacts, data_root):
    run = run_xclipt("status", "--artifacts", artifacts, "--data-dir", data_root)
    assert run.code == 0
    for expected in ("builtin", "lora-10shot-seed1 *", "emoji", "xtd", "flickr8k"):
        assert expected in run.out
    document = run_xclipt("status", "--artifacts", artifacts, "--json").json()
    assert [delta["language"] for delta in document["deltas"]] == ["fr", "ja"]
    assert all(delta["current"] for delta in document["deltas"])


@pytest.mark.slow
def test_unsplit_data_holds_out_what_is_asked(artifacts, trained, data_root):
    run = run_xclipt(
        *("train-delta", "--lang", "tr", "--dataset", "xflickrco", "--data-dir", data_root),
        *("--shots", "20", "--validate-on", "15", "--epochs", "1", "--artifacts", artifacts),
        *("--even-if-worse", "--json"),
    )
    assert run.code == 0, run.err
    assert run.json()["deltas"][0]["validation"]["pictures"] == 15
    rows = run_xclipt(
        *("eval", "--lang", "tr", "--dataset", "xflickrco", "--data-dir", data_root),
        *("--artifacts", artifacts, "--json"),
    ).json()["rows"]
    assert [row["n"] for row in rows] == [52, 52]
    assert rows[1]["left_out"] == 35


def test_config_file_gives_options_and_the_command_line_wins(trained, artifacts, tmp_path):
    config = tmp_path / "eval.yaml"
    config.write_text(f"lang: [fr, de]\nlimit: 20\nartifacts: {artifacts}\njson: true\n")
    run = run_xclipt("eval", "--config", config, "--limit", "25")
    assert run.code == 0
    assert {row["language"] for row in run.json()["rows"]} == {"fr", "de"}
    assert {row["n"] for row in run.json()["rows"]} == {25}


def test_quiet_says_nothing(artifacts, trained):
    run = run_xclipt("eval", "--lang", "jp", "--limit", "20", "--artifacts", artifacts, "-q")
    assert run.code == 0 and run.err == ""


def test_help_and_version_do_not_load_torch():
    code = (
        "import sys\n"
        "from xclipt.cli.app import main\n"
        "for arguments in [argument.split() for argument in sys.argv[1:]]:\n"
        "    try: main(arguments)\n"
        "    except SystemExit as left: assert not left.code\n"
        "    assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys(), arguments"
    )
    commands = ("eval", "train-delta", "export-delta", "import-delta", "verify", "use", "remove")
    every = ["--version", "--help", *(f"{command} --help" for command in commands)]
    run = subprocess.run(
        [sys.executable, "-c", code, *every], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Usage:") == len(every) - 1
