"""What is wrong with an artifact directory is found and named; what is well is left in peace."""

from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.factories.deltas import store, store_shaken
from tests.factories.models import load, write_mclip_backbone
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.files import SUMS, replacing, staged
from xclipt.verify import verify


@pytest.fixture
def backbone(tmp_path):
    return load(write_mclip_backbone(tmp_path / "backbone"))


@pytest.fixture
def directory(tmp_path, backbone):
    root = tmp_path / "artifacts"
    store_shaken(root, backbone, AdapterSpec(bottleneck=4), language="de", name="one")
    store_shaken(root, backbone, SoftPromptSpec(), name="old")
    store_shaken(root, backbone, LoraSpec(rank=2), name="new")
    found = ArtifactDirectory.open(root)
    found.features("images", 8).add([b"k" * 32], torch.ones(1, 8))
    return found


def problems(directory):
    return {finding.path: finding.problem for finding in verify(directory) if finding.problem}


def test_all_is_well(directory):
    assert [(finding.path, finding.problem) for finding in verify(directory)] == [
        ("deltas/de/one", ""),
        ("deltas/fr/new", ""),
        ("deltas/fr/old", ""),
    ]


def edit(path, **changes):
    plain = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        owner, _, inner = key.partition("__")
        if inner:
            plain[owner][inner] = value
        else:
            plain[owner] = value
    path.write_text(yaml.safe_dump(plain))


def test_every_fault_is_named(directory, tmp_path):
    folder = directory.root / "deltas/fr/new"
    manifest = folder / "manifest.yaml"
    weights = next(folder.glob("delta-*"))
    whole, described = weights.read_bytes(), manifest.read_text()

    def only(path, part):
        found = problems(directory)
        assert found.keys() == {path} and part in found[path], found

    weights.write_bytes(whole[:-1] + b"\x07")
    only("deltas/fr/new", "its content is not what manifest.yaml says")
    weights.unlink()
    only("deltas/fr/new", "cannot read the delta")
    weights.write_bytes(whole)
    edit(manifest, backbone__fingerprint="c" * 64)
    only("deltas/fr/new", "was trained on backbone cccccccccccc, this directory's is")
    manifest.write_text(described)
    edit(manifest, setting__rank=3)
    only("deltas/fr/new", "was edited: it and the weights differ in setting.rank 3 and 2")
    edit(manifest, format=1)
    only("deltas/fr/new", "tensors do not fit this backbone")
    manifest.write_text(described)
    edit(manifest, kind="nonsense", format=1)
    only("deltas/fr/new", "kind 'nonsense': choose lora, adapter")
    manifest.write_text(described)
    edit(manifest, weights__parameters=7)
    only("deltas/fr/new", "its manifest says 7")
    manifest.write_text(described)
    edit(manifest, name="other")
    only("deltas/fr/new", "its manifest is that of fr/other")
    manifest.write_text("{")
    only("deltas/fr/new", "cannot read the manifest")
    manifest.write_text(described)
    (folder / "delta.old").write_bytes(b"left by somebody")
    only("deltas/fr/new/delta.old", "nothing refers to it")
    (folder / "delta.old").unlink()
    (folder.parent / "current").write_text("gone\n")
    only("deltas/fr/current", "names 'gone', which is not there; choose one: `xclipt use fr new`")
    (folder.parent / "current").unlink()
    assert problems(directory) == {}
    (finding,) = [finding for finding in verify(directory) if finding.unfinished]
    assert finding.path == "deltas/fr/current" and "`xclipt use fr new`" in finding.unfinished
    directory.set_current("fr", "new")
    shard = next((directory.root / "features").glob("*/*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-3])
    only(str(shard.relative_to(directory.root)), "damaged")
    shard.write_bytes(data)
    (directory.root / "deltas/fr/half").mkdir()
    (directory.root / "deltas/fr/half/notes").write_text("mine")
    only("deltas/fr/half", "no manifest.yaml")
    (directory.root / "deltas/fr/half/notes").unlink()
    (directory.root / "deltas/fr/half/training.safetensors").write_bytes(b"")
    assert problems(directory) == {}, "an interrupted training is no fault"
    (directory.root / "deltas/fr/away").symlink_to(tmp_path)
    only("deltas/fr/away", "nothing refers to it")


LITTER = (
    *("deltas/fr/new/.delta-1.safetensors.x.tmp", "deltas/de/half/.manifest.yaml.x.tmp"),
    *("features/images/.1.safetensors.x.tmp", "exports/peft/fr/.new.x.tmp/adapter.bin"),
    *("parallel/te/.key.x.tmp/pairs.tsv", ".xclipt.yaml.x.tmp"),
)


@pytest.fixture
def killed(directory):
    """The directory after kills at every place."""
    for name in LITTER:
        path = directory.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left by a kill")
    (directory.root / "deltas/de/half/delta-0123456789ab.safetensors").write_bytes(b"weights")
    return directory


def test_what_a_kill_leaves_is_unfinished_and_no_fault(killed):
    assert problems(killed) == {}
    unfinished = {finding.path for finding in verify(killed) if finding.unfinished}
    assert unfinished == {LITTER[0], "deltas/de/half", LITTER[2]}


def test_an_export_that_is_being_written_is_unfinished(directory):
    with staged(directory.root / "exports/native/fr/new") as folder:
        for name in (SUMS, "weights.safetensors"):
            (folder / name).write_text("0" * 64 + "  gone.safetensors\n")
        assert problems(directory) == {}
        unfinished = [finding.path for finding in verify(directory) if finding.unfinished]
        assert unfinished == [str(folder.relative_to(directory.root))]


def test_the_next_command_that_writes_sweeps_and_spares_the_living(killed):
    living = killed.root / "features/images/2.safetensors"
    with replacing(living) as aside, staged(killed.root / "exports/onnx/fr/new") as folder:
        (folder / "model.onnx").write_bytes(b"half")
        again, _ = ArtifactDirectory.open_or_create(killed.root, killed.backbone)
        left = [*again.root.rglob(".*.tmp")]
        assert sorted(left) == sorted([aside, folder])
        aside.write_bytes(b"whole")
    assert not [*again.root.rglob(".*.tmp")] and living.read_bytes() == b"whole"


def test_an_import_that_was_killed_is_finished_by_the_rerun(killed, tmp_path):
    stored = killed.delta("fr", "new")
    manifest = replace(stored.manifest, language="de", name="half")
    tensors = stored.tensors()
    manifest, data = manifest.packed(tensors)
    killed.write_delta(manifest, data)
    assert problems(killed) == {}
    assert sorted(path.name for path in (killed.root / "deltas/de/half").glob("delta*")) == [
        manifest.weights.file
    ]


def test_values_that_are_not_finite(directory):
    stored = directory.delta("fr", "new")
    tensors = stored.tensors()
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    store(directory, stored.manifest, tensors)
    assert "not finite" in problems(directory)["deltas/fr/new"]


def test_weights_by_another_name_are_looked_into(directory):
    stored = directory.delta("fr", "new")
    path = stored.folder / stored.manifest.weights.file
    save_file({n: t + 1 for n, t in stored.tensors().items()}, path)
    assert "not what manifest.yaml says" in problems(directory)["deltas/fr/new"]


def test_removing(directory, backbone, tmp_path):
    stored = directory.delta("fr", "old")
    cached = directory.features(f"texts-{stored.manifest.weights.sha256[:12]}", 8)
    cached.add([b"k" * 32], torch.ones(1, 8))
    copy = replace(stored.manifest, name="copy")
    store(directory, copy, stored.tensors(), make_current=False)
    directory.remove("fr", "copy")
    assert cached.folder.exists(), "other deltas with these weights have its features"
    directory.remove("fr", "old")
    assert not stored.folder.exists() and not cached.folder.exists()
    assert problems(directory) == {}
    directory.remove("fr", "new")
    assert directory.languages() == ["de"] and not (directory.root / "deltas/fr").exists()
    assert problems(directory) == {}


def test_a_backbone_that_has_gone_is_a_finding(directory, tmp_path):
    (tmp_path / "backbone").rename(tmp_path / "moved")
    next((directory.root / "deltas/fr/old").glob("delta-*")).unlink()
    found = problems(directory)
    assert found.keys() == {"xclipt.yaml", "deltas/fr/old"}
    assert "names and shapes cannot be checked" in found["xclipt.yaml"]
