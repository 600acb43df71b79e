"""``eval`` as a reviewer uses it, with deltas of known quality on the builtin backbone."""

import csv
import re

import pytest

from tests.factories.deltas import store_noise
from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.registry import open_dataset
from xclipt.deltas.lora import LoraSpec
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.progress import Silent
from xclipt.workspace import Workspace

PICTURES = ("--limit", "80")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, backbone):
    root = tmp_path_factory.mktemp("eval") / "artifacts"
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    for seed in (1, 2, 3):
        store_noise(workspace, "fr", f"slight-seed{seed}", 0.003, seed=seed)
    store_noise(workspace, "fr", "odd-seed1", 0.0)
    store_noise(workspace, "fr", "odd-seed2", 0.0, seed=2, spec=LoraSpec(rank=4))
    store_noise(workspace, "fr", "same", 0.0)
    store_noise(workspace, "fr", "bad", 0.5)
    return root


def evaluated(artifacts, *arguments):
    run = run_xclipt("eval", *PICTURES, *arguments, "--artifacts", artifacts)
    assert run.code == 0, run.err
    return run


def test_a_worse_delta_is_reported_as_worse(artifacts, tmp_path):
    page = tmp_path / "r.html"
    run = evaluated(
        *(artifacts, "--lang", "en,fr", "--delta", "bad", "--json"),
        *("--report", page, "--gallery", 1, "--markdown", tmp_path / "r.md"),
    )
    row = run.json()["rows"][2]
    assert row["delta"] == "bad" and row["gain"]["verdict"] == "worse"
    assert row["gain"]["ci95"][1] < 0 and row["gap_closed"] < 0
    assert run.json()["disparity"]["delta"]["worst_language"] == "fr"
    markdown = (tmp_path / "r.md").read_text()
    assert re.search(r"\| fr \| bad \|.*\| worse \|", markdown)
    html = page.read_text()
    assert '<div class="headline worse">' in html
    assert re.search(r'class="worse-text">worse: -', html)
    assert "data:image/jpeg;base64," in html and "<polyline" in html
    assert 'lang="fr" dir="ltr"' in html


def test_the_table_shows_a_worse_delta_in_red_and_no_other_in_green(artifacts, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    out = evaluated(artifacts, "--lang", "fr", "--delta", "bad", "--against", "same").out
    (bad,) = (line for line in out.splitlines() if re.search(r"  bad ", line))
    assert re.search(r"\x1b\[31m-\d", bad)
    assert "\x1b[32m" not in out
    assert re.search(r"fr: bad less same: -.*worse", out)


def test_a_delta_that_changes_nothing_is_not_called_better(artifacts):
    row = evaluated(artifacts, "--lang", "fr", "--delta", "same", "--json").json()["rows"][1]
    assert row["gain"] == {"mean_R@1": 0, "ci95": [0, 0], "verdict": "no clear difference"}


def test_two_deltas_are_compared_on_the_same_pictures(artifacts):
    document = evaluated(
        artifacts, "--lang", "fr", "--delta", "same", "--against", "bad", "--json"
    ).json()
    base, same, bad = document["rows"]
    (pair,) = document["pairs"]
    assert (pair["delta"], pair["against"]) == ("same", "bad")
    assert pair["mean_R@1"] == pytest.approx(same["mean_R@1"] - bad["mean_R@1"])
    assert pair["verdict"] == "better" and base["n"] == same["n"] == bad["n"]


def test_seeds_are_summed_up(artifacts):
    document = evaluated(artifacts, "--lang", "fr", "--delta", "slight", "--seeds", "--json").json()
    rows = document["rows"][1:]
    assert [row["delta"] for row in rows] == [f"slight-seed{seed}" for seed in (1, 2, 3)]
    (summary,) = document["seeds"]
    values = [row["mean_R@1"] for row in rows]
    mean = sum(values) / 3
    assert summary["mean_R@1"] == pytest.approx(mean)
    assert summary["sd"] == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
    assert len(document["pairs"]) == 3
    assert summary["delta"] == "slight" and summary["seeds"] == 3
    assert document["mean_gain"]["ci95"] == pytest.approx(summary["gain"]["ci95"])


def test_seeds_must_differ_in_nothing_else(artifacts):
    run = run_xclipt("eval", "--lang", "fr", "--delta", "odd", "--seeds", "--artifacts", artifacts)
    assert run.code == 1 and "setting" in run.err and "odd-seed2" in run.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--delta", "same", "--against", "none-such"), "none-such"),
        (("--delta", "same", "--against", "same"), "--against same"),
        (("--seeds", "--against", "bad"), "--against"),
        (("--delta", "bad", "--seeds"), "bad-seedN"),
        (("--plot", "x.gif"), "--plot x.gif"),
        (("--compare", "none.csv"), "--compare none.csv"),
        (("--split", "full"), "emoji has the splits"),
    ],
)
def test_what_cannot_be_measured_is_refused(artifacts, arguments, part):
    run = run_xclipt("eval", "--lang", "fr", *arguments, "--artifacts", artifacts)
    assert run.code == 2 and part in run.err
    assert len([line for line in run.err.splitlines() if line.startswith("xclipt: ")]) == 1


def test_the_base_alone(artifacts):
    document = evaluated(artifacts, "--lang", "fr", "--delta", "none", "--json").json()
    assert [row["protocol"] for row in document["rows"]] == ["zero-shot"]


def test_pictures_that_the_backbone_was_trained_on_are_pointed_out(artifacts):
    run = evaluated(artifacts, "--lang", "fr", "--delta", "none", "--split", "train")
    assert "was trained on 80 of these 80 pictures" in run.err
    assert "trained on" not in evaluated(artifacts, "--lang", "fr", "--delta", "none").err


def test_languages_share_one_pass_and_a_second_evaluation_encodes_nothing(
    tmp_path, backbone, data_root
):
    class Recorder(Silent):
        def __init__(self):
            self.started = []

        def start(self, description, total):
            self.started.append((description, total))
            return super().start(description, total)

    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    workspace = Workspace(directory, backbone, Recorder())
    dataset = open_dataset("xflickrco", data_root)
    first = evaluate(workspace, dataset, EvaluationRequest(["de", "es", "tr"], limit=12))
    pictures = {p.image for one in ("de", "es", "tr") for p in dataset.captions(one, None)[:12]}
    encoded = [total for what, total in workspace.progress.started if what == "Encoding pictures"]
    assert encoded == [len(pictures)]
    workspace.progress.started.clear()
    assert evaluate(workspace, dataset, EvaluationRequest(["de", "es", "tr"], limit=12)) == first
    assert workspace.progress.started == []


def test_languages_without_the_named_delta_are_measured_without(artifacts):
    document = evaluated(artifacts, "--lang", "de,fr", "--delta", "same", "--json").json()
    named = [(row["language"], row["delta"]) for row in document["rows"]]
    assert named == [("de", None), ("fr", None), ("fr", "same")]


def test_files_for_other_programs(artifacts, tmp_path):
    run = evaluated(
        *(artifacts, "--lang", "fr", "--delta", "same", "--csv", tmp_path / "r.csv"),
        *("--markdown", tmp_path / "r.md", "--clip-benchmark", tmp_path / "clip"),
        *("--mteb", tmp_path / "mteb", "--plot", tmp_path / "r.svg"),
    )
    assert "median" in run.out
    assert len(list((tmp_path / "clip").glob("*.json"))) == 2
    assert len(list((tmp_path / "mteb").rglob("*.json"))) == 4
    assert (tmp_path / "r.md").read_text().startswith("**emoji**")
    beside = evaluated(
        *(artifacts, "--lang", "fr", "--delta", "same", "--compare", tmp_path / "r.csv", "--json")
    ).json()
    assert [row["system"] for row in beside["compared"]] == ["base", "same"]
    with (tmp_path / "r.csv").open() as file:
        assert [row["protocol"] for row in csv.DictReader(file)] == ["zero-shot", "10-shot"]


@pytest.mark.slow
def test_same_pictures_for_all(artifacts, data_root):
    common = ("--dataset", "xflickrco", "--data-dir", data_root, "--lang", "de,tr", "--limit", "60")
    apart = run_xclipt("eval", *common, "--artifacts", artifacts, "--json").json()
    together = run_xclipt(
        "eval", *common, "--same-pictures", "--artifacts", artifacts, "--json"
    ).json()
    assert {row["n"] for row in apart["rows"]} == {60}
    (n,) = {row["n"] for row in together["rows"]}
    assert 2 <= n < 60


def test_the_papers_split_of_xtd_in_text_mode(artifacts, data_root):
    run = run_xclipt(
        *("eval", "--dataset", "xtd", "--data-dir", data_root, "--lang", "fr", "--delta", "none"),
        *("--split", "paper", "--shots", "470", "--artifacts", artifacts, "--json"),
    )
    document = run.json()
    assert document["split"] == "paper" and document["mode"] == "text"
    assert document["rows"][0]["n"] == 60
    assert "compared" not in document
