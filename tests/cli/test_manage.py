"""verify, use, remove, import-delta and the formats of export-delta from the command line."""

import json

import pytest
import torch

from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent


@pytest.fixture
def artifacts(tmp_path):
    folder = write_mclip_backbone(tmp_path / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    store_shaken(tmp_path / "artifacts", backbone, AdapterSpec(bottleneck=4), name="old")
    store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), name="new")
    return tmp_path / "artifacts"


def said(artifacts, *arguments, code=0):
    run = run_xclipt(*arguments, "--artifacts", artifacts)
    assert run.code == code, run.err
    return run


def refused(artifacts, *arguments, code=1):
    run = said(artifacts, *arguments, code=code)
    assert run.out == "" and len(run.err.strip().splitlines()) == 1, run.err
    return run.err


def test_verify(artifacts):
    run = said(artifacts, "verify")
    assert "deltas/fr/new" in run.out and "no problems" in run.out
    document = said(artifacts, "verify", "--json", "--deep").json()
    assert document["command"] == "verify" and document["problems"] == 0
    assert document["findings"][0] == {
        "path": "deltas/fr/new",
        "problem": "",
        "unfinished": "",
    }
    weights = next((artifacts / "deltas/fr/new").glob("delta-*"))
    weights.write_bytes(b"broken")
    run = said(artifacts, "verify", code=1)
    assert "its content is not what manifest.yaml says" in run.out and "1 problem\n" in run.out
    assert run.err == ""
    document = said(artifacts, "verify", "--json", code=1).json()
    assert document["problems"] == 1


def test_verify_deep_finds_a_backbone_that_has_changed(artifacts, tmp_path):
    path = artifacts / "xclipt.yaml"
    text = path.read_text()
    fingerprint = text.split("fingerprint: ")[1].strip()
    path.write_text(text.replace(fingerprint, "d" * 64))
    assert "dddddddddddd" in said(artifacts, "verify", code=1).out.replace("\n", "")
    assert "dddddddddddd" in refused(artifacts, "verify", "--deep")


def test_use_rolls_back(artifacts):
    assert said(artifacts, "use", "fr", "old").out == "fr: old is current, before it new\n"
    document = said(artifacts, "use", "fr", "new", "--json").json()
    assert document == {"command": "use", "language": "fr", "name": "new", "previous": "old"}
    deltas = said(artifacts, "status", "--json").json()["deltas"]
    assert {delta["name"]: delta["current"] for delta in deltas} == {"old": False, "new": True}
    assert "no delta 'none' for 'fr' (there: new, old)" in refused(
        artifacts, "use", "fr", "none", code=2
    )
    assert "cannot name a delta" in refused(artifacts, "use", "fr", "../x", code=2)
    assert "name one language" in refused(artifacts, "use", "all", "old", code=2)
    next((artifacts / "deltas/fr/old").glob("delta-*")).write_bytes(b"broken")
    assert "not what manifest.yaml says" in refused(artifacts, "use", "fr", "old")
    assert (artifacts / "deltas/fr/current").read_text() == "new\n"


def test_remove_asks(artifacts, monkeypatch):
    assert "add --yes" in refused(artifacts, "remove", "fr", "old", code=2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer in (False, True):
        monkeypatch.setattr("typer.confirm", lambda question, err, said=answer: said)
        run = run_xclipt("remove", "fr", "old", "--artifacts", artifacts)
        assert run.code == (0 if answer else 1)
        assert (artifacts / "deltas/fr/old").exists() is not answer


def test_remove_the_current_one(artifacts):
    line = refused(artifacts, "remove", "fr", "new", "--yes")
    assert "is the current delta of fr; first choose another: `xclipt use fr old --artif" in line
    assert (artifacts / "deltas/fr/new/manifest.yaml").exists()
    document = said(artifacts, "remove", "fr", "old", "--yes", "--json").json()
    assert document["name"] == "old" and document["path"] == str(artifacts / "deltas/fr/old")
    assert "fr: new is deleted" in said(artifacts, "remove", "fr", "new", "--yes").out
    assert said(artifacts, "status", "--json").json()["deltas"] == []
    assert "no problems" in said(artifacts, "verify").out


def test_remove_never_leaves_the_directory(artifacts, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "manifest.yaml").write_text("thesis")
    (artifacts / "deltas/fr/link").symlink_to(precious)
    assert "is a link to elsewhere" in refused(artifacts, "remove", "fr", "link", "--yes")
    (artifacts / "deltas/de").symlink_to(tmp_path)
    assert "is a link to elsewhere" in refused(artifacts, "remove", "de", "precious", "--yes")
    (artifacts / "deltas/fr/link").unlink()
    (artifacts / "deltas/de").unlink()
    for name in ("../../../precious", "..", "/etc"):
        assert "cannot name a delta" in refused(artifacts, "remove", "fr", name, "--yes", code=2)
    assert (precious / "manifest.yaml").read_text() == "thesis"


@pytest.mark.parametrize("format", ["native", "hub", "peft", "opendelta"])
def test_export_and_import(artifacts, tmp_path, format):
    arguments = ("export-delta", "--format", format, "--out", tmp_path / "out", "--json")
    (export,) = said(artifacts, *arguments).json()["exports"]
    assert export["format"] == format and export["bytes"] > 0
    other = tmp_path / "other"
    run = said(other, "import-delta", export["path"], "--backbone", tmp_path / "backbone")
    assert "fr: new" in run.out and "It is the current delta of fr." in run.out
    document = said(other, "import-delta", export["path"], "--name", "again", "--json").json()
    delta = document["delta"]
    assert document["command"] == "import-delta" and delta["foreign"] is False
    assert (delta["name"], delta["current"]) == ("again", False)
    assert "no problems" in said(other, "verify").out


def test_a_foreign_folder_needs_a_word(artifacts, tmp_path):
    said(artifacts, "export-delta", "--format", "peft", "--out", tmp_path / "out")
    folder = tmp_path / "out/fr/new"
    (folder / "manifest.yaml").unlink()
    assert "give --lang" in refused(artifacts, "import-delta", folder, code=2)
    run = said(artifacts, "import-delta", folder, "--lang", "jp", "--use", "--json")
    assert "xclipt did not write it" in run.err and "--lang jp is ja" in run.err
    assert run.json()["delta"]["foreign"] and run.json()["delta"]["language"] == "ja"
    assert "no problems" in said(artifacts, "verify").out
    assert "theirs" not in said(artifacts, "status").out


def test_merged_from_the_command_line(artifacts, tmp_path):
    arguments = ("export-delta", "--format", "merged", "--out", tmp_path / "out", "--json")
    (export,) = said(artifacts, *arguments).json()["exports"]
    assert "model.safetensors" in export["files"]
    config = json.loads((tmp_path / "out/fr/new/config.json").read_text())
    assert config["model_type"] == "M-CLIP" and "modelBase" in config
    line = refused(artifacts, *arguments[:-1], "--delta", "old", code=2)
    assert "an adapter bends its input" in line and "export old as onnx or native" in line
    line = refused(artifacts, "export-delta", "--format", "pickle", code=2)
    assert "choose native, peft, opendelta, merged, onnx, onnx-int8, onnx-shared, hub" in line
    assert "no such folder" in refused(artifacts, "import-delta", tmp_path / "none", code=2)


def test_what_cannot_be_imported_makes_no_directory(tmp_path):
    graph = tmp_path / "graph"
    graph.mkdir()
    (graph / "model.onnx").write_bytes(b"a graph")
    run = run_xclipt("import-delta", graph, "--lang", "fr", "--artifacts", tmp_path / "new")
    assert run.code == 2 and "ONNX cannot be imported" in run.err and "Made" not in run.err
    assert not (tmp_path / "new").exists()
    refused = ("train-delta", "--lang", "fr", "--shots", "9999", "--artifacts", tmp_path / "new")
    run = run_xclipt(*refused)
    assert run.code == 2 and "Made" not in run.err and not (tmp_path / "new").exists()
