"""Int8 graphs are measured on pictures before they are handed out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import xclipt.export.onnx.int8 as onnx_int8
from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.registry import open_dataset
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import FailedError, XcliptError
from xclipt.export.formats import export_delta
from xclipt.export.recall import RecallCheck, RecallLoss
from xclipt.progress import Silent
from xclipt.workspace import Workspace


@pytest.fixture
def checked(small, tmp_path, make_picture):
    """A delta on a small backbone, and pictures with captions in its language."""
    backbone, folder = small("mclip"), tmp_path / "data"
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), noise=0.2)
    rows = []
    for i, caption in enumerate(SHORT):
        make_picture(folder / f"images/{i}.png", f"rgb({i * 60},{255 - i * 60},90)", (30, 20))
        rows.append(json.dumps({"image": f"{i}.png", "captions": [caption]}))
    (folder / "captions.fr.jsonl").write_text("\n".join(rows))
    directory = ArtifactDirectory.open(delta.folder.parents[2])
    check = RecallCheck(Workspace(directory, backbone, Silent()), open_dataset(str(folder)))
    return backbone, delta, check


@pytest.mark.slow
def test_it_is_smaller_near_and_says_what_it_cost(checked, tmp_path):
    import onnxruntime

    backbone, delta, check = checked
    check = replace(check, max_loss=100)
    export = export_delta(delta, "onnx-int8", tmp_path / "out", lambda: backbone, check=check)
    assert "model.int8.onnx" in export.files and "recall.json" in export.files
    full = export_delta(delta, "onnx", tmp_path / "out", lambda: backbone)
    assert full.path != export.path
    small, large = export.path / "model.int8.onnx", full.path / "model.onnx"
    assert small.stat().st_size < large.stat().st_size
    session = onnxruntime.InferenceSession(small)
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    tokens = tokenizer(SHORT, padding=True, return_tensors="np", return_token_type_ids=False)
    (found,) = session.run(["features"], dict(tokens))
    near = torch.cosine_similarity(torch.from_numpy(found), features(backbone, delta, SHORT))
    assert near.min() > 0.99 and not np.allclose(found, features(backbone, delta, SHORT), atol=1e-6)
    loss = export.loss
    assert loss and (loss.pictures, loss.captions) == (4, 4)
    assert json.loads((export.path / "recall.json").read_text())["full"] == loss.full
    assert export.as_json()["recall"]["reduced"] == loss.reduced
    assert str(loss) in (export.path / "README.md").read_text()


@pytest.mark.slow
def test_what_costs_recall_is_refused_unless_the_user_insists(checked, tmp_path, monkeypatch):
    backbone, delta, check = checked
    pictures = [check.dataset.picture_path(f"{i}.png") for i in range(len(SHORT))]
    perfect = backbone.encode_pictures(pictures)

    def encoder(path, side, job):
        # In float32 every text finds its own picture, in int8 another's.
        found = perfect.roll(int(path.name == onnx_int8.GRAPH), dims=0)
        return lambda texts, language: found

    monkeypatch.setattr(onnx_int8, "_encoder", encoder)
    with pytest.raises(FailedError, match=r"more than 0.5 may not be lost: .*`max_loss=\d") as said:
        export_delta(delta, "onnx-int8", tmp_path / "no", lambda: backbone, check=check)
    assert "\n" not in str(said.value) and not list((tmp_path / "no").rglob("*.onnx"))
    named = float(str(said.value).rsplit("max_loss=", 1)[1].rstrip("`"))
    check = replace(check, max_loss=named)
    lost = export_delta(delta, "onnx-int8", tmp_path / "no", lambda: backbone, check=check).loss
    assert lost and (lost.full, lost.reduced, lost.loss) == (100, 0, 100)


def test_nothing_to_measure_on_is_said(checked, tmp_path):
    backbone, delta, check = checked
    with pytest.raises(XcliptError, match="name pictures that its recall is measured on"):
        export_delta(delta, "onnx-int8", tmp_path / "out", lambda: backbone)
    with pytest.raises(XcliptError, match="is for onnx-int8 alone"):
        export_delta(delta, "onnx", tmp_path / "out", lambda: backbone, check=check)
    for bad in (-1, float("nan")):
        with pytest.raises(XcliptError, match="max_loss"):
            replace(check, max_loss=bad)


def test_a_gain_reads_as_one():
    loss = RecallLoss("photos", "val", 664, 3320, 14.23, 14.58, -0.35, (-0.87, 0.15))
    assert str(loss).endswith("photos (val): a change of +0.35 points [-0.15, +0.87]")
