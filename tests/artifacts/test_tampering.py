"""What an artifact directory says must be true: edits and permuted bytes are noticed where used."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.factories.deltas import made_manifest, store, store_noise
from tests.factories.noting import Noting
from tests.factories.tiny import tiny_backbone
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.features import cached_features
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.translation.store import Translation, TranslationStore, Translator
from xclipt.verify import accept, verify
from xclipt.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    backbone = tiny_backbone()
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return Workspace(directory, backbone, Silent())


@pytest.fixture
def delta(workspace):
    spec = LoraSpec(rank=2, alpha=4)
    return store_noise(workspace, "fr", "one", 0.1, spec=spec, pictures=("a" * 16, "b" * 16))


def wrong(workspace):
    # The tiny backbone's shapes are nowhere to be looked up.
    return [f for f in verify(workspace.directory) if f.problem and f.path != "xclipt.yaml"]


def edited(delta, **changes):
    path = delta.folder / "manifest.yaml"
    plain = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        place = plain
        for parent in parents:
            place = place[parent]
        place[leaf] = value
    path.write_text(yaml.safe_dump(plain))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"setting__alpha": 44}, "setting.alpha 44 and 4"),
        ({"data__pictures": ""}, "data.pictures"),
        ({"text": "to-en"}, "text to-en and target"),
        ({"setting__hard_prompt": "a photo"}, "setting.hard_prompt a photo and ''"),
        ({"validation__step": 3}, "validation.step 3 and 10"),
        ({"seed": 2, "routine": None}, "routine None and 1; seed 2 and 1"),
    ],
)
def test_an_edited_manifest_is_refused_wherever_the_delta_is_asked_for(
    workspace, delta, changes, named
):
    edited(delta, **changes)
    for use in (
        lambda: workspace.directory.delta("fr", "one"),
        lambda: workspace.directory.current("fr"),
        lambda: replace(
            delta, manifest=DeltaManifest.read(delta.folder / "manifest.yaml")
        ).tensors(),
    ):
        with pytest.raises(XcliptError, match="was edited") as error:
            use()
        assert named in str(error.value) and "verify --accept" in str(error.value)
    (finding,) = [f for f in verify(workspace.directory) if f.path == "deltas/fr/one"]
    assert named in finding.problem


def test_what_may_change_is_no_edit(workspace, delta):
    edited(delta, seconds=9.0, created="2027-01-01T00:00:00+00:00", backbone__id="/elsewhere")
    assert workspace.directory.delta("fr", "one").tensors()


def test_an_edit_is_taken_when_asked_to(workspace, delta):
    tensors = delta.tensors()
    edited(delta, setting__alpha=44)
    assert accept(workspace.directory) == ["deltas/fr/one/manifest.yaml"]
    again = workspace.directory.current("fr")
    assert again.spec == LoraSpec(rank=2, alpha=44)
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in tensors.items())
    assert accept(workspace.directory) == []
    assert len(list(delta.folder.glob("*.safetensors"))) == 1


def test_an_edit_that_is_no_setting_is_never_taken(workspace, delta):
    edited(delta, setting__alpha=44.5)
    before = {path: path.read_bytes() for path in delta.folder.iterdir()}
    with pytest.raises(XcliptError, match=r"manifest.yaml: alpha '44.5': must be"):
        accept(workspace.directory)
    assert {path: path.read_bytes() for path in delta.folder.iterdir()} == before


def test_format_1_is_read_as_before_and_not_rewritten(workspace):
    manifest = replace(made_manifest(workspace.backbone.identity, LoraSpec(), name="old"), format=1)
    stored = store(workspace.directory, manifest, {"a": torch.ones(2)})
    before = {path: path.read_bytes() for path in stored.folder.iterdir()}
    plain = yaml.safe_load((stored.folder / "manifest.yaml").read_text())
    assert plain["format"] == 1
    assert workspace.directory.delta("fr", "old").tensors()["a"].tolist() == [1, 1]
    assert accept(workspace.directory) == []
    assert {path: path.read_bytes() for path in stored.folder.iterdir()} == before


def test_a_newer_format_is_refused_in_one_line(workspace, delta):
    edited(delta, format=3)
    with pytest.raises(XcliptError, match="manifest format 3; this xclipt reads 1 and 2: upgrade"):
        workspace.directory.delta("fr", "one")


@pytest.mark.parametrize("harm", ["permuted", "not finite", "shorter", "not a file of tensors"])
def test_a_bad_shard_of_features_is_computed_again_with_a_remark(workspace, harm):
    keys = [bytes([i]) * 32 for i in range(4)]
    right = torch.arange(8.0).view(4, 2)
    store = workspace.directory.features("images", 2)
    store.add(keys, right)
    (shard,) = store.folder.glob("*.safetensors")
    tensors = load_file(shard)
    if harm == "permuted":
        save_file({**tensors, "features": tensors["features"].flip(0)}, shard, _metadata(shard))
    elif harm == "not finite":
        save_file({**tensors, "features": tensors["features"] / 0}, shard)  # as of before hashes
    elif harm == "shorter":
        save_file({**tensors, "features": tensors["features"][:3].contiguous()}, shard)
    else:
        shard.write_bytes(shard.read_bytes()[:40])
    (finding,) = wrong(workspace)
    assert finding.path.endswith(shard.name) and "computed again" in finding.problem

    progress = Noting()
    found = cached_features(
        workspace.directory.features("images", 2), keys, lambda rows: right[rows], progress
    )
    assert torch.equal(found, right)
    (note,) = progress.notes
    assert str(shard) in note
    assert not wrong(workspace)


def _metadata(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()


def test_a_shard_without_a_hash_is_taken_as_before(workspace):
    store = workspace.directory.features("images", 2)
    store.add([b"k" * 32], torch.ones(1, 2))
    (shard,) = store.folder.glob("*.safetensors")
    save_file(load_file(shard), shard)
    assert b"k" * 32 in workspace.directory.features("images", 2)


def test_a_translation_that_was_edited_is_not_used(workspace):
    translator = Translator("file", "x", "1")
    store = TranslationStore(workspace.directory, translator, "fr", "en")
    store.add([Translation("un chat", "a cat"), Translation("un chien", "a dog")])
    (shard,) = store.folder.glob("*.jsonl")
    shard.write_text(shard.read_text().replace("a cat", "a cow"))
    again = TranslationStore(workspace.directory, translator, "fr", "en")
    assert "un chat" not in again and again.get("un chien").text == "a dog"
    (finding,) = wrong(workspace)
    assert "1 lines were edited or are damaged" in finding.problem

    assert accept(workspace.directory) == [str(shard.relative_to(workspace.directory.root))]
    again = TranslationStore(workspace.directory, translator, "fr", "en")
    assert again.get("un chat").text == "a cow"


def test_a_line_of_an_earlier_release_is_taken_as_before(workspace):
    translator = Translator("file", "x", "1")
    store = TranslationStore(workspace.directory, translator, "fr", "en")
    store.add([Translation("un chat", "a cat")])
    (shard,) = store.folder.glob("*.jsonl")
    entry = json.loads(shard.read_text())
    del entry["sum"]
    shard.write_text(json.dumps(entry) + "\n")
    assert "un chat" in TranslationStore(workspace.directory, translator, "fr", "en")
