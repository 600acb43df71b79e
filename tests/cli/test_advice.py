"""Every command that a message recommends works as it is printed."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from tests.factories.datasets import make_folder, make_xtd
from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.running import Run, run_xclipt
from tests.factories.translation_models import write_marian
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import recommended
from xclipt.progress import Silent

FEW = ("--shots", "2", "--validate-on", "2", "--epochs", "1")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def advice(run: Run) -> list[list[str]]:
    """The commands that a run recommended, as their arguments."""
    found = re.findall(r"`xclipt ([^`]*)`", run.err + run.out)
    assert found, run.err
    return [shlex.split(command) for command in found]


def follow(run: Run) -> Run:
    """Run what was recommended, as it stands; it must work."""
    done = [run_xclipt(*command) for command in advice(run)]
    assert [one.code for one in done] == [0] * len(done), [advice(run), *(d.err for d in done)]
    return done[0]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory with a space in its name, and a small backbone."""
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_mclip_backbone(folder / "backbone")
    return folder


@pytest.fixture
def artifacts(place) -> Path:
    """Two French deltas."""
    backbone = load_backbone(str(place / "backbone"), torch.device("cpu"), torch.float32, Silent())
    for name in ("old", "new"):
        store_shaken(place / "art efacts", backbone, LoraSpec(rank=2), name=name)
    return place / "art efacts"


@pytest.fixture
def table(place, make_picture) -> Path:
    """A semicolon table in a Turkish code page, without a column of languages."""
    lines = ["Resim;Metin"]
    for number, colour in enumerate(COLOURS):
        make_picture(place / "pictures" / f"{number}.png", colour)
        lines.append(f"pictures/{number}.png;kırmızı kuş {number}")
    path = place / "my table.csv"
    path.write_bytes("\r\n".join(lines).encode("cp1254"))
    return path


def test_a_recommended_command_is_quoted_as_a_shell_wants_it():
    said = recommended("translate", lang="fr", dataset="my data", limit=None, dry_run=True)
    assert said == "`xclipt translate --lang fr --dataset 'my data' --dry-run`"
    assert recommended("use", "fr", "mul/a") == "`xclipt use fr mul/a`"


@pytest.mark.parametrize("command", [["status"], ["use", "fr", "x"]], ids=str)
def test_without_an_artifact_directory(place, command):
    run = run_xclipt(*command, "--artifacts", "not there", "--backbone", "backbone")
    assert run.code == 2
    (line,) = advice(run)
    assert line[-4:] == ["--artifacts", "not there", "--backbone", "backbone"]
    follow(run)
    assert run_xclipt("status", "--artifacts", "not there").code == 0


@pytest.mark.parametrize("command", ["status", "export-delta"])
def test_without_deltas(place, command):
    backbone = load_backbone("backbone", torch.device("cpu"), torch.float32, Silent())
    ArtifactDirectory.open_or_create(place / "empty", backbone.identity)
    follow(run_xclipt(command, "--artifacts", "empty"))
    assert "lora-10shot-seed1" in run_xclipt("status", "--artifacts", "empty").out


def test_removing_the_current_delta(artifacts):
    remove = ("remove", "fr", "new", "--yes", "--artifacts", artifacts)
    run = run_xclipt(*remove)
    assert run.code == 1
    assert follow(run).out == "fr: old is current, before it new\n"
    assert run_xclipt(*remove).code == 0


def test_a_current_file_that_is_damaged(artifacts):
    current = artifacts / "deltas/fr/current"
    current.write_bytes(b"\xff\xfe")
    run = run_xclipt("status", "--artifacts", artifacts)
    current.unlink()  # as the message says
    follow(run)
    assert current.read_text() == "new\n"
    for content in (None, "gone\n"):
        current.unlink() if content is None else current.write_text(content)
        follow(run_xclipt("verify", "--artifacts", artifacts))
        assert run_xclipt("verify", "--artifacts", artifacts).code == 0


def test_what_was_edited_is_accepted(artifacts):
    manifest = artifacts / "deltas/fr/new/manifest.yaml"
    manifest.write_text(manifest.read_text().replace("seed: 1\n", "seed: 2\n"))
    run = run_xclipt("eval", "--lang", "fr", "--limit", "5", "--artifacts", artifacts)
    assert run.code == 1
    follow(run)
    assert run_xclipt("verify", "--artifacts", artifacts).code == 0


def test_an_imported_delta_is_made_current(artifacts):
    exported = ("export-delta", "--out", "out", "--artifacts", artifacts)
    assert run_xclipt(*exported).code == 0
    run = run_xclipt("import-delta", "out/fr/new", "--name", "again", "--artifacts", artifacts)
    follow(run)
    assert (artifacts / "deltas/fr/current").read_text() == "again\n"


@pytest.mark.parametrize("joint", [False, True])
def test_a_delta_that_is_no_better_is_made_current(place, joint, make_picture):
    names = [f"{number}.png" for number in range(6)]
    captions = {code: {name: (f"{code} {name}",) for name in names} for code in ("en", "fr", "de")}
    make_folder(place / "data", captions)
    for name, colour in zip(names, COLOURS, strict=True):
        make_picture(place / "data/images" / name, colour)
    command = ("train-delta", "--dataset", "data", "--artifacts", "a", "--backbone", "backbone")
    more = ("--learning-rate", "1e-12", *(["--joint"] if joint else []))
    run = run_xclipt(*command, *FEW, *more, "--lang", "fr,de" if joint else "fr")
    assert run.code == 0 and "is not made current" in run.err
    follow(run)
    status = run_xclipt("status", "--artifacts", "a", "--json").json()
    assert status["deltas"][0]["current"]
    if joint:
        assert (place / "a/deltas/de/current").read_text().startswith("mul/")


def test_translations_that_lie_beside_the_captions(place):
    folder = place / "my data" / "xtd"
    make_xtd(folder)
    (folder / "translated_to_en").mkdir()
    (folder / "translated_to_en" / "fr.txt").write_text("en one\nfr two\n")
    command = ("align", "--lang", "fr", "--routine", "3", "--dataset", "xtd")
    where = ("--data-dir", "my data", "--artifacts", "a", "--backbone", "backbone")
    run = run_xclipt(*command, *where)
    assert run.code == 1 and "--data-dir 'my data'" in run.err
    follow(run)
    assert run_xclipt(*command, *where).code == 0


def test_own_data_is_read_as_before(place, table):
    """What the invocation was told of the table is what translating it has to be told."""
    model = write_marian(place / "model")
    said = ("--encoding", "cp1254", "--columns", "image=Resim,caption=Metin")
    said = (*said, "--caption-lang", "tr", "--caption", "1", "--dtype", "bfloat16")
    command = ("train-delta", "--lang", "tr", "--routine", "none", "--text", "to-en", *FEW, *said)
    where = ("--dataset", table.name, "--artifacts", "a", "--backbone", "backbone")
    run = run_xclipt(*command, *where)
    assert run.code == 1, run.err
    (words,) = advice(run)
    for option in ("--encoding", "--columns", "--caption-lang", "--caption", "--dtype"):
        assert said[said.index(option) + 1] == words[words.index(option) + 1]
    assert words[words.index("--dataset") + 1] == "my table.csv"
    # Which engine there is nobody but the user knows.
    done = run_xclipt(*words, "--engine", "transformers", "--model", model)
    assert done.code == 0, done.err


def test_dropped_translations_are_kept(place, table):
    """The other way out names who made them, so that they are not made anew."""
    (place / "bad.tsv").write_text(
        "".join(f"kırmızı kuş {n}\tkırmızı kuş {n}\n" for n in range(6)), "utf-8"
    )
    said = ("--encoding", "cp1254", "--columns", "image=Resim,tr=Metin", "--dataset", table.name)
    where = ("--artifacts", "a", "--backbone", "backbone")
    translate = ("translate", "--lang", "tr", "--file", "bad.tsv", *said, *where)
    assert run_xclipt(*translate).code == 0
    command = ("train-delta", "--lang", "tr", "--routine", "none", "--text", "to-en", *FEW)
    run = run_xclipt(*command, *said, *where)
    assert run.code == 1 and "were dropped" in run.err
    follow(run)
    assert run_xclipt(*command, *said, *where).code == 0


def test_options_of_a_configuration_are_carried_too(artifacts, place):
    (place / "where.yaml").write_text(f"artifacts: {artifacts}\n", "utf-8")
    run = run_xclipt("remove", "fr", "new", "--yes", "--config", "where.yaml")
    assert advice(run) == [["use", "fr", "old", "--artifacts", str(artifacts)]]
