"""Whatever stands in a file of an artifact directory, what reads it says so in one line."""

import copy
import json

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.factories.deltas import made_manifest, store
from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import CURRENT, MARK, ArtifactDirectory
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest
from xclipt.backbones.identity import BackboneIdentity
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.training.checkpoint import Checkpoint, _hash
from xclipt.training.loop import TrainingState

BACKBONE = BackboneIdentity("builtin", "1", "a" * 64)
ODD = (1e30, -1.0, float("nan"), float("inf"), 10**400, "", "1e30", "\x1b[2J", "é")
KEYS = st.text(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(ODD) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
FAST = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def directory(tmp_path):
    found, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", BACKBONE)
    store(found, made_manifest(BACKBONE, LoraSpec(), "fr", "x"), {"a": torch.ones(2)})
    return found


def places(document, before=()):
    """Where a value stands in nested mappings."""
    for key, value in document.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


def changed(document, place, value):
    new = copy.deepcopy(document)
    inner = new
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return new


def told(*arguments):
    """The command's exit code, once its one line is no traceback and no bug."""
    run = run_xclipt(*arguments)
    assert "xclipt: unexpected" not in run.err and run.err.count("\n") <= 1, run.err
    return run.code


@FAST
@given(data=st.data(), value=VALUES)
def test_a_manifest(directory, data, value):
    path = directory.root / "deltas/fr/x" / MANIFEST
    sound = path.read_text("utf-8")
    document = yaml.safe_load(sound)
    place = data.draw(st.sampled_from(list(places(document))))
    path.write_text(yaml.safe_dump(changed(document, place, value)), "utf-8")
    try:
        for command in (("status",), ("verify",), ("use", "fr", "x")):
            told(*command, "--artifacts", directory.root)
    finally:
        path.write_text(sound, "utf-8")


@FAST
@given(data=st.data(), value=VALUES)
def test_a_mark(directory, data, value):
    path = directory.root / MARK
    sound = path.read_text("utf-8")
    document = yaml.safe_load(sound)
    place = data.draw(st.sampled_from(list(places(document))))
    path.write_text(yaml.safe_dump(changed(document, place, value)), "utf-8")
    try:
        told("status", "--artifacts", directory.root)
    finally:
        path.write_text(sound, "utf-8")


@FAST
@given(content=st.binary(max_size=40) | st.text(max_size=10).map(str.encode))
def test_current(directory, content):
    (directory.root / "deltas/fr" / CURRENT).write_bytes(content)
    for command in (("status",), ("verify",)):
        told(*command, "--artifacts", directory.root)


@FAST
@given(content=st.binary(max_size=80))
def test_files_of_any_bytes(directory, content):
    for name in (MARK, f"deltas/fr/x/{MANIFEST}"):
        path = directory.root / name
        sound = path.read_bytes()
        path.write_bytes(content)
        try:
            assert told("status", "--artifacts", directory.root) in (1, 2)
        finally:
            path.write_bytes(sound)


@FAST
@given(data=st.data(), value=VALUES)
def test_a_checkpoint(tmp_path, data, value):
    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key")
    plain = {
        "step": 3,
        "history": [{"step": 0, "mean_r1": 1.0, "mrr": 0.5, "cosine": None}],
        "losses": [1.0, 2.0, 3.0],
    }
    document = changed(plain, data.draw(st.sampled_from(list(places(plain)))), value)
    tensors = {"weights/a": torch.ones(1)}
    metadata = {"key": "key", "state": json.dumps(document)}
    metadata["sha256"] = _hash(tensors, metadata)
    save_file(tensors, checkpoint.path, metadata=metadata)
    state = checkpoint.load()
    assert isinstance(state, TrainingState) and type(state.step) is int
    assert all(isinstance(loss, float | int) for loss in state.losses)


@FAST
@given(value=VALUES, option=st.sampled_from(["lang", "shots", "epochs", "rank", "seed", "quiet"]))
def test_a_configuration(tmp_path, value, option):
    path = tmp_path / "config.yaml"
    document = {option: value, "dry-run": True, "backbone": "/nowhere"}
    path.write_text(yaml.safe_dump(document), "utf-8")
    assert told("train-delta", "--config", path, "--artifacts", tmp_path / "none") == 2


@pytest.mark.parametrize(
    ("place", "value", "part"),
    [
        (("seed",), True, "seed is True, which is no whole number"),
        (("steps",), 1e30, "steps is 1e+30, which is no whole number"),
        (("seconds",), float("nan"), "seconds is nan, which is no number"),
        (("language",), ["fr"], "language is ['fr'], which is no text"),
        (("data", "shots"), "ten", "data.shots is 'ten', which is no whole number"),
        (("weights",), None, "weights must be a mapping"),
        (("weights", "file"), "../x", "is not a plain name"),
        (("backbone",), {"id": "x"}, "backbone lacks fingerprint"),
    ],
)
def test_file_and_field_are_named(directory, place, value, part):
    path = directory.root / "deltas/fr/x" / MANIFEST
    document = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump(changed(document, place, value)), "utf-8")
    with pytest.raises(XcliptError) as caught:
        DeltaManifest.read(path)
    assert str(caught.value).startswith(f"{path}: ") and part in str(caught.value)
