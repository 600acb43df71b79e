"""Deltas come back from every folder that can hold them, onto their own backbone alone."""

import copy
import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features
from tests.factories.foreign import features_around, foreign_peft
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import ALL_LINEAR, QUERY_VALUE, LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.export.importing import import_delta

AFTER = ["attention.output.dense", "output.dense"]
EVERY_KIND = [
    LoraSpec(rank=2),
    LoraSpec(rank=2, alpha=3, train_layernorm=False, hard_prompt="un"),
    LoraSpec(rank=2, modules=ALL_LINEAR),
    LoraSpec(rank=2, modules="query,attention.output.dense"),
    AdapterSpec(bottleneck=4),
    CompacterSpec(reduction=4),
    SoftPromptSpec(tokens=2, pool_prompt=False),
]


@pytest.fixture
def backbone(small):
    return small("mclip")


@pytest.fixture
def other(backbone, tmp_path):
    return ArtifactDirectory.open_or_create(tmp_path / "other", backbone.identity)[0]


@pytest.mark.parametrize("format", ["native", "hub", "peft", "opendelta"])
@pytest.mark.parametrize("spec", EVERY_KIND, ids=lambda spec: spec.kind)
def test_there_and_back_is_the_same_delta(backbone, other, tmp_path, format, spec):
    if format == "peft" and spec.kind in ("adapter", "compacter"):
        return
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    imported = import_delta(other, export.path)
    assert imported.format == ("native" if format == "hub" else format) and not imported.foreign
    assert imported.delta.manifest == delta.manifest and imported.delta.current
    back, there = imported.delta.tensors(), delta.tensors()
    assert back.keys() == there.keys()
    assert all(torch.equal(back[name], there[name]) for name in there)


@pytest.mark.parametrize("norms", [None, ["output.LayerNorm"]])
def test_a_lora_that_peft_made(backbone, other, tmp_path, norms):
    encoder = backbone.text_tower.encoder
    model = foreign_peft(encoder, tmp_path / "theirs", modules_to_save=norms)
    with pytest.raises(XcliptError, match=r"theirs: has no manifest.yaml .*; give `language=LANG`"):
        import_delta(other, tmp_path / "theirs")
    imported = import_delta(other, tmp_path / "theirs", language="jp")
    manifest = imported.delta.manifest
    assert imported.foreign and (manifest.language, manifest.name) == ("ja", "theirs")
    assert manifest.setting["rank"] == 2 and manifest.setting["alpha"] == 4
    assert manifest.setting["train_layernorm"] is bool(norms)
    assert 0 < manifest.percent < 100
    ours = features(backbone, imported.delta, SHORT)
    torch.testing.assert_close(ours, features_around(backbone, model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("targets", "modules"),
    [
        (["value", "key"], "attention.self.key,attention.self.value"),
        (["value"], "attention.self.value"),
        (["value", "output.dense"], "attention.self.value,attention.output.dense,output.dense"),
        (["query", "value"], QUERY_VALUE),
    ],
)
def test_a_lora_of_any_modules(backbone, other, tmp_path, targets, modules):
    model = foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs", target_modules=targets)
    imported = import_delta(other, tmp_path / "theirs", language="fr")
    assert imported.delta.manifest.setting["modules"] == modules
    ours = features(backbone, imported.delta, SHORT)
    torch.testing.assert_close(ours, features_around(backbone, model), atol=1e-5, rtol=1e-5)


def test_a_lora_of_some_blocks_alone_is_refused(backbone, other, tmp_path):
    changes = {"target_modules": ["query"], "layers_to_transform": [0]}
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs", **changes)
    with pytest.raises(XcliptError, match=r"missing, the tower wants \(2, 16\)"):
        import_delta(other, tmp_path / "theirs", language="fr")
    assert other.languages() == []


def test_settings_that_nobody_knows_are_told_with_the_folder(backbone, other, tmp_path):
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs")
    path = tmp_path / "theirs/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 0}))
    with pytest.raises(XcliptError, match="theirs: rank '0': must be at least 1"):
        import_delta(other, tmp_path / "theirs", language="fr")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    export = export_delta(delta, "native", tmp_path / "out", lambda: backbone)
    path = export.path / "manifest.yaml"
    path.write_text(path.read_text().replace("kind: lora", "kind: nonsense"))
    with pytest.raises(XcliptError, match=r"manifest\.yaml.* kind '?nonsense"):
        import_delta(other, export.path)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_deltas_that_opendelta_saved(backbone, other, tmp_path, dropout):
    opendelta = import_opendelta()
    encoder = copy.deepcopy(backbone.text_tower.encoder).requires_grad_(True)
    model = opendelta.LoraModel(
        encoder,
        lora_r=2,
        lora_dropout=dropout,
        modified_modules=["attention.self.query", "attention.self.value"],
    )
    model.freeze_module(exclude=["deltas", "output.LayerNorm"], set_state_dict=True)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    model.save_finetuned(str(tmp_path / "theirs"))
    imported = import_delta(other, tmp_path / "theirs", language="fr", name="theirs-1")
    assert imported.foreign and imported.delta.manifest.setting["train_layernorm"]
    ours = features(backbone, imported.delta, SHORT)
    theirs = features_around(backbone, encoder.eval())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (
            {"delta_type": "compacter", "reduction_factor": 2, "modified_modules": AFTER},
            CompacterSpec(reduction=2, non_linearity="relu", train_layernorm=False),
        ),
        (
            {"delta_type": "adapter", "bottleneck_dim": 3, "modified_modules": AFTER},
            AdapterSpec(bottleneck=3, non_linearity="gelu_new", train_layernorm=False),
        ),
        (
            {
                "delta_type": "adapter",
                "bottleneck_dim": 3,
                "non_linearity": "tanh",
                "modified_modules": AFTER,
            },
            AdapterSpec(bottleneck=3, non_linearity="tanh", train_layernorm=False),
        ),
    ],
    ids=["compacter", "adapter", "tanh"],
)
def test_what_opendelta_makes_of_a_dictionary(backbone, other, tmp_path, config, spec):
    """As the paper's code builds its deltas: the configuration classes' defaults apply."""
    opendelta = import_opendelta()
    encoder = copy.deepcopy(backbone.text_tower.encoder).requires_grad_(True)
    model = opendelta.AutoDeltaModel.from_config(
        opendelta.AutoDeltaConfig.from_dict(config), backbone_model=encoder
    )
    model.freeze_module(exclude=["deltas"], set_state_dict=True)
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            generator = torch.Generator().manual_seed(len(name))
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_finetuned(str(tmp_path / "theirs"))
    imported = import_delta(other, tmp_path / "theirs", language="fr")
    assert imported.delta.spec == spec
    ours = features(backbone, imported.delta, SHORT)
    theirs = features_around(backbone, encoder.eval())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    again = export_delta(imported.delta, "opendelta", tmp_path / "out", lambda: backbone)
    written = json.loads((again.path / "config.json").read_text())
    assert written["non_linearity"] == spec.non_linearity


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


def test_a_pickle_that_would_run_code_is_refused(backbone, other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    export = export_delta(delta, "opendelta", tmp_path / "out", lambda: backbone)
    torch.save({"weight": Evil()}, export.path / "pytorch_model.bin")
    with pytest.raises(XcliptError, match="or holds more than tensors"):
        import_delta(other, export.path)
    (export.path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(XcliptError, match=r"pytorch_model\.bin"):
        import_delta(other, export.path)
    assert not (tmp_path / "was-run").exists() and other.languages() == []


@pytest.mark.parametrize("format", ["native", "peft", "opendelta"])
def test_another_backbones_delta_is_refused_with_both_fingerprints(
    backbone, tmp_path, format, other
):
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    identity = replace(backbone.identity, fingerprint="b" * 64)
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "third", identity)
    with pytest.raises(XcliptError, match=f"{backbone.identity.fingerprint[:12]}.*bbbbbbbbbbbb"):
        import_delta(directory, export.path)


@pytest.mark.parametrize("format", ["peft", "opendelta"])
def test_weights_that_were_trained_on_are_not_passed_off(backbone, other, tmp_path, format):
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    if format == "peft":
        path = export.path / "adapter_model.safetensors"
        save_file({n: t + 0.01 for n, t in load_file(path).items()}, path)
    else:
        path = export.path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 32}))
    with pytest.raises(XcliptError, match=r"not those that manifest\.yaml describes"):
        import_delta(other, export.path)
    (export.path / "manifest.yaml").unlink()
    assert import_delta(other, export.path, language="fr").foreign


def test_names_current_and_again(backbone, other, tmp_path):
    first = store_shaken(tmp_path / "a", backbone, LoraSpec(rank=2), name="one")
    second = store_shaken(tmp_path / "b", backbone, LoraSpec(rank=2), name="one", noise=0.2)
    out = [
        export_delta(delta, "native", tmp_path / f"out{i}", lambda: backbone).path
        for i, delta in enumerate((first, second))
    ]
    assert import_delta(other, out[0]).delta.current
    assert import_delta(other, out[0]).delta.current, "the same again is no conflict"
    with pytest.raises(XcliptError, match="another delta of that name; give this one another"):
        import_delta(other, out[1])
    assert not import_delta(other, out[1], name="two").delta.current
    assert other.current_name("fr") == "one"
    assert import_delta(other, out[1], name="three", make_current=True).delta.current
    with pytest.raises(XcliptError, match=r"language 'de': .* is a delta for fr"):
        import_delta(other, out[0], language="de")
    with pytest.raises(XcliptError, match="cannot name a delta"):
        import_delta(other, out[0], name="../../evil")


def test_folders_that_hold_no_delta(backbone, other, tmp_path):
    with pytest.raises(XcliptError, match="no such folder"):
        import_delta(other, tmp_path / "none")
    with pytest.raises(XcliptError, match="no delta; it has none of"):
        import_delta(other, tmp_path)
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    merged = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    with pytest.raises(XcliptError, match="a merged tower cannot be imported"):
        import_delta(other, merged.path)
    (merged.path / "model.onnx").write_bytes(b"a graph")
    with pytest.raises(XcliptError, match="ONNX cannot be imported, its graph is whole; import"):
        import_delta(other, merged.path)
    native = export_delta(delta, "native", tmp_path / "out2", lambda: backbone)
    path = native.path / "manifest.yaml"
    plain = yaml.safe_load(path.read_text())
    plain["weights"]["file"] = "../../../secret.safetensors"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(XcliptError, match="not a plain name"):
        import_delta(other, native.path)
    assert other.languages() == []
