"""The artifact directory: bound to a backbone, never torn, never left."""

from dataclasses import replace
from threading import Thread

import pytest
import torch
import yaml

from tests.factories.deltas import made_manifest, store
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.identity import BackboneIdentity
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.files import locked

BACKBONE = BackboneIdentity("builtin", "1", "a" * 64)


def manifest(language="fr", name="lora-10shot-seed1", backbone=BACKBONE) -> DeltaManifest:
    return made_manifest(backbone, LoraSpec(), language, name, pictures=("0" * 16, "1e10" * 4))


@pytest.fixture
def directory(tmp_path) -> ArtifactDirectory:
    return ArtifactDirectory.open_or_create(tmp_path / "artifacts", BACKBONE)[0]


TENSORS = {"layer.lora_A": torch.arange(6.0).view(2, 3), "layer.lora_B": torch.zeros(3, 2)}


def test_a_delta_comes_back_as_it_was(directory):
    stored = store(directory, manifest(), TENSORS)
    again = ArtifactDirectory.open(directory.root).current("fr")
    assert again is not None
    assert again.manifest == stored.manifest
    assert again.manifest.data.pictures == ("0" * 16, "1e10" * 4), "hashes stay text in YAML"
    assert again.manifest.weights.parameters == 12
    assert again.manifest.percent == pytest.approx(1.2)
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("kind", ["deltas", "exports", "features", "parallel", "deltas/de"])
def test_a_folder_that_leads_out_is_not_followed(directory, tmp_path, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (directory.root / kind).parent.mkdir(exist_ok=True)
    (directory.root / kind).symlink_to(elsewhere)
    with pytest.raises(XcliptError, match="is a link to elsewhere") as caught:
        ArtifactDirectory.open(directory.root)
    assert str(directory.root / kind) in str(caught.value) and "\n" not in str(caught.value)
    assert not any(elsewhere.iterdir())


def test_links_within_the_directory_and_to_it_are_followed(directory, tmp_path):
    (directory.root / "all").mkdir()
    (directory.root / "deltas").symlink_to("all")
    (tmp_path / "link").symlink_to(directory.root)
    assert ArtifactDirectory.open(tmp_path / "link").deltas() == []


def test_replacing_a_delta_leaves_no_old_weights(directory):
    store(directory, manifest(), TENSORS)
    stored = store(directory, manifest(), {"layer.lora_A": torch.ones(1)})
    assert sorted(path.name for path in stored.folder.iterdir()) == [
        stored.manifest.weights.file,
        "manifest.yaml",
    ]


def test_a_kill_between_weights_and_manifest_leaves_the_old_delta(directory, monkeypatch):
    store(directory, manifest(), TENSORS)

    def killed(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr("xclipt.artifacts.directory.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        store(directory, manifest(), {"layer.lora_A": torch.ones(1)})
    old = ArtifactDirectory.open(directory.root).current("fr")
    assert old is not None
    assert torch.equal(old.tensors()["layer.lora_A"], TENSORS["layer.lora_A"])


def test_current_is_chosen_among_what_is_there(directory):
    store(directory, manifest(name="one"), TENSORS)
    store(directory, manifest(name="two"), TENSORS)
    assert [(d.manifest.name, d.current) for d in directory.deltas()] == [
        ("one", False),
        ("two", True),
    ]
    directory.set_current("fr", "one")
    assert directory.current("fr").manifest.name == "one"
    with pytest.raises(XcliptError, match="no delta 'three'"):
        directory.set_current("fr", "three")
    assert directory.current("de") is None


def test_damaged_weights_are_refused(directory):
    stored = store(directory, manifest(), TENSORS)
    path = stored.folder / stored.manifest.weights.file
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(XcliptError, match=r"not what manifest\.yaml says"):
        stored.tensors()
    path.unlink()
    with pytest.raises(XcliptError, match="cannot read the delta"):
        stored.tensors()


def test_another_backbone_is_refused_with_both_fingerprints(directory):
    other = replace(BACKBONE, fingerprint="b" * 64)
    with pytest.raises(XcliptError, match=r"aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        ArtifactDirectory.open_or_create(directory.root, other)
    store(directory, manifest(backbone=replace(BACKBONE, fingerprint="c" * 64)), TENSORS)
    with pytest.raises(XcliptError, match=r"cccccccccccc.*aaaaaaaaaaaa"):
        directory.current("fr")


@pytest.mark.parametrize("name", ["../../evil", "", ".hidden", "a/b", "x" * 101, "nul\0"])
def test_names_cannot_leave_the_directory(directory, name):
    with pytest.raises(XcliptError, match="cannot name a delta"):
        directory.delta_folder("fr", name)


def test_weights_file_cannot_leave_the_delta(directory):
    stored = store(directory, manifest(), TENSORS)
    path = stored.folder / "manifest.yaml"
    plain = yaml.safe_load(path.read_text())
    plain["weights"]["file"] = "../../../secret.safetensors"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(XcliptError, match="not a plain name"):
        directory.current("fr")


def test_a_planted_current_cannot_leave_either(directory):
    store(directory, manifest(), TENSORS)
    (directory.root / "deltas" / "fr" / "current").write_text("../../x")
    with pytest.raises(XcliptError, match="cannot name a delta"):
        directory.current("fr")


def test_folders_that_are_something_else_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(XcliptError, match="not an artifact directory"):
        ArtifactDirectory.open_or_create(tmp_path, BACKBONE)
    with pytest.raises(XcliptError, match="train-delta"):
        ArtifactDirectory.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["", "- a\n", "format: 99\nbackbone: {}\n", "{", "format: 1\n"])
def test_a_broken_mark_is_one_clear_line(tmp_path, text):
    (tmp_path / "xclipt.yaml").write_text(text)
    with pytest.raises(XcliptError, match=r"xclipt\.yaml"):
        ArtifactDirectory.open(tmp_path)


def test_settings_that_nobody_knows_are_told_with_the_manifest(directory):
    known = store(directory, manifest(), TENSORS)
    assert known.spec == LoraSpec()
    for change, told in (
        ({"kind": "nonsense"}, "kind 'nonsense': choose lora"),
        ({"setting": {"rnak": 4}}, "rnak: is no setting of a lora delta"),
        ({"setting": {"rank": 0}}, "rank '0': must be at least 1"),
    ):
        stored = replace(known, manifest=replace(known.manifest, **change))
        with pytest.raises(XcliptError, match=rf"fr/lora-10shot-seed1/manifest\.yaml: {told}"):
            _ = stored.spec


def test_newer_manifests_ask_for_an_upgrade(directory):
    stored = store(directory, manifest(), TENSORS)
    path = stored.folder / "manifest.yaml"
    path.write_text(path.read_text().replace("format: 2", "format: 3"))
    with pytest.raises(XcliptError, match="upgrade xclipt"):
        directory.current("fr")


def test_a_kill_while_the_directory_was_made_does_not_keep_it_from_being_made(tmp_path):
    (tmp_path / ".xclipt.yaml.abc.tmp").write_text("form")
    _, made = ArtifactDirectory.open_or_create(tmp_path, BackboneIdentity("tiny", "0", "0" * 64))
    assert made and [path.name for path in tmp_path.iterdir()] == ["xclipt.yaml"]


def test_who_stores_under_a_name_waits_for_who_does_already(directory):
    folder = directory.delta_folder("fr", "x")
    writer = Thread(target=lambda: store(directory, manifest(name="x"), TENSORS))
    with locked(folder):
        (folder / "delta-of-another.safetensors").touch()
        writer.start()
        writer.join(0.3)
        assert writer.is_alive() and (folder / "delta-of-another.safetensors").exists()
    writer.join(10)
    assert len([*folder.glob("delta-*")]) == 1 and directory.current("fr") is not None
