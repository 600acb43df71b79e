"""Exports are loaded by what they are for, and give the same features."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from tests.artifacts.test_directory import manifest
from tests.deltas.test_injection import shaken
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.builtin import converted_text_tower
from xclipt.deltas.applied import applied
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import AdapterSpec, CompacterSpec, LoraSpec, SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.export import export_delta
from xclipt.progress import Silent

CAPTIONS = ["un chien court dans l'herbe", "deux enfants", "犬が走っている", "a " * 30]


@pytest.fixture
def stored(backbone, tmp_path) -> StoredDelta:
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    injected = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family)
    tensors = shaken(injected)
    injected.remove()
    described = replace(manifest(), backbone=dict(vars(backbone.identity)))
    return directory.write_delta(described, tensors)


def test_peft_gives_the_same_features(backbone, stored, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    export = export_delta(stored, "peft", tmp_path / "out")
    assert set(export.files) == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert export.bytes == sum(path.stat().st_size for path in export.path.iterdir())
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, export.path).eval()
    with applied(backbone, stored):
        ours = backbone.encode_texts(CAPTIONS)
    base = backbone.encode_texts(CAPTIONS)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(CAPTIONS), backbone.device)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        theirs = backbone.text_tower.head(pooled)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert (ours - base).abs().max() > 1e-2


def test_peft_loads_every_tensor(stored, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    export = export_delta(stored, "peft", tmp_path / "out")
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, export.path)
    loaded = [
        parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name or "modules_to_save" in name
    ]
    assert sum(parameter.numel() for parameter in loaded) == stored.manifest.weights.parameters


def test_native_is_the_delta_itself(stored, tmp_path):
    export = export_delta(stored, "native", tmp_path / "out")
    copy = StoredDelta(DeltaManifest.read(export.path / "manifest.yaml"), export.path, False)
    assert copy.manifest == stored.manifest
    tensors = stored.tensors()
    assert all(torch.equal(copy.tensors()[name], tensors[name]) for name in tensors)
    assert export.as_json().keys() == {"language", "delta", "format", "path", "files", "bytes"}


def test_without_layernorms_nothing_else_is_saved(backbone, stored, tmp_path):
    lora = {name: tensor for name, tensor in stored.tensors().items() if ".lora." in name}
    directory = ArtifactDirectory.open(stored.folder.parents[2])
    plain = replace(stored.manifest, setting={"rank": 8, "alpha": 16, "train_layernorm": False})
    export = export_delta(directory.write_delta(plain, lora), "peft", tmp_path / "out")
    config = json.loads((export.path / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    assert len(config["target_modules"]) == 24


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (AdapterSpec(bottleneck=2), "no bottleneck adapters"),
        (CompacterSpec(), "no compacters"),
        (SoftPromptSpec(), "before <s>"),
        (LoraSpec(rank=2, tune_head=True), "a text head of its own"),
    ],
)
def test_what_peft_cannot_hold_is_refused_with_the_reason(backbone, stored, tmp_path, spec, reason):
    directory = ArtifactDirectory.open(stored.folder.parents[2])
    injected = InjectedDelta(backbone.text_tower, spec, backbone.family)
    tensors = injected.tensors()
    injected.remove()
    described = replace(stored.manifest, kind=spec.kind, setting=asdict(spec))
    delta = directory.write_delta(described, tensors)
    with pytest.raises(XcliptError, match=reason):
        export_delta(delta, "peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    native = export_delta(delta, "native", tmp_path / "out")
    copy = StoredDelta(DeltaManifest.read(native.path / "manifest.yaml"), native.path, False)
    with applied(backbone, copy):
        theirs = backbone.encode_texts(CAPTIONS)
    with applied(backbone, delta):
        assert torch.equal(backbone.encode_texts(CAPTIONS), theirs)


def test_refusals(stored, tmp_path):
    with pytest.raises(XcliptError, match="--format pickle: choose native, peft"):
        export_delta(stored, "pickle", tmp_path)
    with pytest.raises(XcliptError, match="where the delta itself is"):
        export_delta(stored, "native", stored.folder.parents[1])
    (tmp_path / "file").write_text("")
    with pytest.raises(XcliptError, match="cannot write"):
        export_delta(stored, "native", tmp_path / "file")
    path = stored.folder / stored.manifest.weights.file
    path.write_bytes(b"broken")
    with pytest.raises(XcliptError, match="not what"):
        export_delta(stored, "native", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is half-written"
