"""Exports of sentence-transformers' text towers, through the library that each is for."""

import re

import pytest
import torch

from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features
from tests.factories.models import load
from tests.factories.sentence_transformers import write_pair
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.export.formats import export_delta


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pair")
    write_pair(made)
    return made


@pytest.mark.parametrize("format", ["peft", "opendelta"])
def test_the_cards_encoder_has_the_features(folder, tmp_path, monkeypatch, format):
    monkeypatch.setitem(__import__("sys").modules, "opendelta", import_opendelta())
    backbone = load(folder)
    delta = store_shaken(tmp_path / "a", backbone, LoraSpec(rank=2, modules=ALL_LINEAR))
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    (code,) = re.findall(r"```python\n(.*?)```", (export.path / "README.md").read_text(), re.S)
    code = code.replace("TEXT_TOWER", repr(str(folder))).replace('"shaken', f'"{export.path}')
    made = {}
    exec(code, made)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    with torch.inference_mode():
        state = made["encoder"].eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        theirs = backbone.text_tower.head(pooled)
    torch.testing.assert_close(theirs, features(backbone, delta, SHORT), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_onnx_gives_the_same_features(folder, tmp_path):
    import onnxruntime
    from transformers import AutoTokenizer

    backbone = load(folder)
    delta = store_shaken(tmp_path / "a", backbone, LoraSpec(rank=2), noise=0.2)
    export = export_delta(delta, "onnx", tmp_path / "out", lambda: backbone)
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    tokens = tokenizer(SHORT, padding=True, return_tensors="np", return_token_type_ids=False)
    (theirs,) = session.run(["features"], dict(tokens))
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-4, rtol=1e-4)
