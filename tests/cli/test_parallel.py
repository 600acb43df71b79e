"""Parallel sentences from the command line: align --parallel, status and verify."""

import json

import pytest
from rich.console import Console

from tests.factories.parallel import ENGLISH, GERMAN, TELUGU
from tests.factories.running import run_xclipt
from xclipt.cli import align as command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("parallel")
    for name, texts in (("a.tsv", GERMAN), ("b.tsv", TELUGU)):
        rows = [f"{en}\t{text}\n" for en, text in zip(ENGLISH, texts, strict=True)]
        (root / name).write_text("".join(rows))
    rows = "".join(f"{en}\t{text}\n" for en, text in zip(ENGLISH, GERMAN, strict=True))
    (root / "source-target.csv").write_text(f"source\ttarget\n{rows}")
    return root


def align(folder, *arguments):
    return run_xclipt("align", "--artifacts", folder / "artifacts", *arguments)


def test_the_gap_is_measured_before_any_training(folder):
    run = align(folder, "--lang", "de", "--parallel", folder / "a.tsv", "--json")
    assert run.code == 0, run.err
    assert "a.tsv: 4 pairs en-de (columns 1 and 2)" in run.err
    document = run.json()
    assert document["command"] == "align"
    assert document["dataset"] == "a.tsv"
    assert (document["split"], document["routine"], document["english"]) == (None, None, None)
    (row,) = document["rows"]
    assert (row["language"], row["pairs"], row["partners"], row["there"]) == ("de", 4, 4, 4)
    assert row["left_out"] == {}
    assert 0 < row["cosine"] < 1
    assert row["mse"] > 0
    # Four sentences on different things: a multilingual tower finds them all.
    assert row["text_to_partner"]["R@1"] == row["partner_to_text"]["R@1"] == row["mean_R@1"] == 100
    assert row["ci95"] == [100, 100]


def test_as_a_table(folder, tmp_path):
    sources = ("--parallel", f"de={folder / 'a.tsv'}", "--parallel", f"te={folder / 'b.tsv'}")
    plot = tmp_path / "pairs.svg"
    run = align(folder, "--lang", "de,te", *sources, "--plot", plot)
    assert run.code == 0, run.err
    assert "a.tsv,b.tsv: sentences and their English, before any training" in run.out
    assert "100.0 [100.0, 100.0]" in run.out
    assert f"de: {folder / 'artifacts' / 'parallel' / 'de'}" in run.out
    assert plot.is_file()


def test_80_columns_hold_the_table(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(command, "print_table", drawn.append)
    assert align(folder, "--lang", "de", "--parallel", folder / "a.tsv").code == 0
    console = Console(width=80)
    with console.capture() as capture:
        console.print(drawn[0])
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in capture.get()


def test_shots_are_the_first_of_one_order(folder):
    def measured(*arguments):
        run = align(folder, "--lang", "de", "--parallel", folder / "a.tsv", "--json", *arguments)
        assert run.code == 0, run.err
        return run.json()["rows"][0]

    assert measured("--shots", "3")["pairs"] == 3
    assert measured("--shots", "3")["sha256"] != measured("--shots", "all")["sha256"]
    assert measured("--shots", "all")["sha256"] == measured()["sha256"]
    assert measured("--seed", "2")["path"] != measured()["path"]
    run = align(folder, "--lang", "de", "--parallel", folder / "a.tsv", "--shots", "5")
    assert run.code == 2
    assert "--shots 5: a.tsv has 4 pairs in 'de' to use; give at most that, or all" in run.err


@pytest.mark.parametrize(
    "option",
    [
        ("--dataset", "emoji"),  # the default, but said
        ("--routine", "1"),
        ("--split", "full"),
        ("--floor", "0.1"),
        ("--translations", "x"),
        ("--caption", "1"),
        ("--split-seed", "42"),
        ("--allow-missing",),
        ("--download",),
        ("--caption-lang", "de"),
    ],
)
def test_options_of_captions_are_not_ignored(folder, option):
    run = align(folder, "--lang", "de", "--parallel", folder / "a.tsv", *option)
    assert run.code == 2
    assert run.err.startswith(f"xclipt: {option[0]}")
    assert "leave it out" in run.err


def test_nor_are_those_of_a_configuration(folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"parallel: [{folder / 'a.tsv'}]\nlang: de\ndataset: xtd\n")
    run = align(folder, "--config", config)
    assert run.code == 2
    assert run.err.startswith("xclipt: --dataset: is for captions")
    config.write_text(f"parallel: [{folder / 'a.tsv'}]\nlang: de\nshots: 2\n")
    assert align(folder, "--config", config).code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--parallel", "a.tsv"), "--lang: name the language of --parallel"),
        (("--lang", "en", "--parallel", "a.tsv"), "--lang en: English is the partner"),
        (("--lang", "fr", "--parallel", "none.tsv"), "--parallel none.tsv: no such file"),
        (("--lang", "fr", "--parallel", "de=a.tsv"), "--parallel fr: no source is for French"),
        (("--lang", "te", "--parallel", "a.tsv"), "a.tsv: is not in English and Telugu"),
        (
            ("--lang", "de", "--parallel", "source-target.csv"),
            "source and target is English; --columns en=source,de=target does",
        ),
        (
            ("--lang", "de", "--parallel", "a.tsv", "--columns", "en=1,de=7"),
            "--columns de=7: a.tsv has 2 columns",
        ),
        (
            ("--lang", "de", "--parallel", "a.tsv", "--columns", "image=x"),
            "--columns image=x: parallel sentences have no image",
        ),
        (
            ("--lang", "de", "--parallel", "a.tsv", "--encoding", "latin-99"),
            "--encoding latin-99: no encoding that Python knows",
        ),
    ],
)
def test_what_is_wrong_is_one_line_of_options(folder, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    run = run_xclipt("align", "--artifacts", "new", *arguments)
    assert run.code == 2
    assert says in run.err.replace("\n", " ")
    assert run.out == ""
    assert not (folder / "new").exists()


def test_columns_are_told(folder):
    path, columns = folder / "source-target.csv", "en=source,de=target"
    run = align(folder, "--lang", "de", "--parallel", path, "--columns", columns, "--json")
    assert run.code == 0, run.err
    assert run.json()["rows"][0]["pairs"] == 4


def test_status_and_verify_know_them(folder):
    assert align(folder, "--lang", "te", "--parallel", folder / "b.tsv").code == 0
    artifacts = folder / "artifacts"
    assert "sentences  te: 4 pairs of b.tsv" in run_xclipt("status", "--artifacts", artifacts).out
    document = run_xclipt("status", "--artifacts", artifacts, "--json").json()
    (entry,) = [entry for entry in document["parallel"] if entry["language"] == "te"]
    assert (entry["source"], entry["pairs"]) == ("b.tsv", 4)
    pairs = next((artifacts / "parallel" / "te").glob("*/pairs.tsv"))
    whole = pairs.read_bytes()
    pairs.write_bytes(whole[:-5])
    try:
        run = run_xclipt("verify", "--artifacts", artifacts, "--json")
        assert run.code == 1
        assert "pairs.tsv is not what was written" in json.dumps(run.json())
    finally:
        pairs.write_bytes(whole)
