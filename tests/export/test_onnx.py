"""ONNX graphs give the same features in onnxruntime, at any batch and length."""

from types import SimpleNamespace

import pytest
import torch

import xclipt.export.onnx.graph as onnx_graph
from tests.factories.deltas import store_shaken
from tests.factories.exports import CAPTIONS, SHORT, features
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta


def run(session, tokenizer, captions, prefix, limit):
    """As the export's card says."""
    tokens = tokenizer(
        [prefix + caption for caption in captions],
        padding=True,
        truncation=True,
        max_length=limit,
        return_tensors="np",
        return_token_type_ids=False,
    )
    (found,) = session.run(["features"], dict(tokens))
    return torch.from_numpy(found)


def compare(backbone, delta, out, captions):
    import onnxruntime
    from transformers import AutoTokenizer

    ours = features(backbone, delta, captions)
    export = export_delta(delta, "onnx", out, lambda: backbone)
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    told = session.get_modelmeta().custom_metadata_map
    assert told["backbone_fingerprint"] == backbone.identity.fingerprint
    limit = int(told["max_tokens"])
    together = run(session, tokenizer, captions, told["prefix"], limit)
    torch.testing.assert_close(together, ours, atol=1e-4, rtol=1e-4)
    for caption, feature in zip(captions, ours, strict=True):
        alone = run(session, tokenizer, [caption], told["prefix"], limit)[0]
        torch.testing.assert_close(alone, feature, atol=1e-4, rtol=1e-4)
    return told, export


@pytest.mark.slow
def test_a_lora_on_the_builtin_backbone(backbone, tmp_path):
    spec = LoraSpec()
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    told, _ = compare(backbone, delta, tmp_path / "out", CAPTIONS)
    assert told["prefix"] == "query: " and told["max_tokens"] == "128"


@pytest.mark.parametrize(
    ("format", "spec"),
    [
        ("mclip", LoraSpec(rank=2, tune_head=True)),
        pytest.param("mclip", AdapterSpec(bottleneck=4), marks=pytest.mark.slow),
        pytest.param("mclip", SoftPromptSpec(tokens=2), marks=pytest.mark.slow),
        pytest.param("clip", LoraSpec(rank=2), marks=pytest.mark.slow),
        pytest.param("clip", CompacterSpec(reduction=4), marks=pytest.mark.slow),
        pytest.param("clip", SoftPromptSpec(tokens=2), marks=pytest.mark.slow),
    ],
)
def test_small_towers(small, tmp_path, format, spec):
    backbone = small(format)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    base = backbone.encode_texts(SHORT)
    _, export = compare(backbone, delta, tmp_path / "out", SHORT)
    assert torch.equal(backbone.encode_texts(SHORT), base), "the backbone is as it was"
    assert {"model.onnx", "tokenizer.json", "README.md", "manifest.yaml"} <= set(export.files)


@pytest.mark.slow
def test_weights_beyond_protobufs_limit_lie_beside_the_graph(small, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_LARGEST_FILE", 0)
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), noise=0.2)
    _, export = compare(backbone, delta, tmp_path / "out", SHORT)
    assert "model.onnx.data" in export.files


class OtherGraph:
    """What torch.onnx would return for a model that sums token ids."""

    model = SimpleNamespace(metadata_props={})

    def save(self, path, external_data):
        import onnx
        from onnx import TensorProto, helper

        shape = ["batch", "length"]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1])
        axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
        nodes = [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["counted"]),
            helper.make_node("Cast", ["counted"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["cast", "axes"], ["features"]),
        ]
        graph = helper.make_graph(nodes, "sum", inputs, [output], [axes])
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def test_a_graph_that_differs_is_not_handed_out(small, tmp_path, monkeypatch):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    monkeypatch.setattr(onnx_graph, "exported", lambda *given: OtherGraph())
    with pytest.raises(XcliptError, match=r"features differ from PyTorch's by .* more than 1e-04"):
        export_delta(delta, "onnx", tmp_path / "out", lambda: backbone)
    assert not list(tmp_path.glob("out/**/model.onnx")), "nothing is half-written"


def test_without_its_packages_the_extra_is_named(stored, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(XcliptError, match=r"onnxruntime is not installed: pip install 'xclipt\[on"):
        export_delta(stored, "onnx", tmp_path / "out", lambda: None)
