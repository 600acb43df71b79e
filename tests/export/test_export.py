"""Exports are loaded by what they are for, and give the same features."""

import json
from dataclasses import replace

import pytest
import torch

from tests.factories.deltas import store, store_shaken
from tests.factories.exports import CAPTIONS, SHORT, features, pooled
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.builtin import converted_text_tower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import ALL_LINEAR, QUERY_VALUE, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.progress import Silent

MODULES = [QUERY_VALUE, ALL_LINEAR]


def no_backbone():
    raise AssertionError("this export needs no backbone")


@pytest.mark.parametrize("spec", [LoraSpec(), LoraSpec(rank=2, modules=ALL_LINEAR)], ids=MODULES)
def test_peft_gives_the_same_features(backbone, spec, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    stored = store_shaken(tmp_path / "artifacts", backbone, spec)
    export = export_delta(stored, "peft", tmp_path / "out", no_backbone)
    assert set(export.files) == {
        *("adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.yaml"),
        "SHA256SUMS",
    }
    assert export.bytes == sum(path.stat().st_size for path in export.path.iterdir())
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, export.path).eval()
    ours = features(backbone, stored, CAPTIONS)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(CAPTIONS), backbone.device)
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        theirs = backbone.text_tower.head(pooled(hidden, mask))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_peft_loads_every_tensor(stored, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    export = export_delta(stored, "peft", tmp_path / "out", no_backbone)
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, export.path)
    loaded = [
        parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name or "modules_to_save" in name
    ]
    assert sum(parameter.numel() for parameter in loaded) == stored.manifest.weights.parameters


def test_native_is_the_delta_itself(stored, tmp_path):
    export = export_delta(stored, "native", tmp_path / "out", no_backbone)
    copy = StoredDelta(DeltaManifest.read(export.path / "manifest.yaml"), export.path, False)
    assert copy.manifest == stored.manifest
    tensors = stored.tensors()
    assert all(torch.equal(copy.tensors()[name], tensors[name]) for name in tensors)
    assert export.as_json().keys() == {"language", "delta", "format", "path", "files", "bytes"}


def test_without_layernorms_nothing_else_is_saved(backbone, stored, tmp_path):
    lora = {name: tensor for name, tensor in stored.tensors().items() if ".lora." in name}
    directory = ArtifactDirectory.open(stored.folder.parents[2])
    plain = replace(stored.manifest, setting={"rank": 8, "alpha": 16, "train_layernorm": False})
    export = export_delta(store(directory, plain, lora), "peft", tmp_path / "out", no_backbone)
    config = json.loads((export.path / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    assert len(config["target_modules"]) == 24


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (AdapterSpec(bottleneck=2), "no bottleneck adapters"),
        (CompacterSpec(), "no compacters"),
        (SoftPromptSpec(train_layernorm=True), "trains no LayerNorm"),
        (LoraSpec(rank=2, tune_head=True), "a text head of its own"),
    ],
)
def test_what_peft_cannot_hold_is_refused_with_the_reason(backbone, tmp_path, spec, reason):
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    with pytest.raises(XcliptError, match=reason):
        export_delta(delta, "peft", tmp_path / "out", no_backbone)
    assert not (tmp_path / "out").exists()
    native = export_delta(delta, "native", tmp_path / "out", no_backbone)
    copy = StoredDelta(DeltaManifest.read(native.path / "manifest.yaml"), native.path, False)
    theirs, ours = (one.within(backbone).encode_texts(CAPTIONS) for one in (copy, delta))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("pool", [True, False])
def test_a_soft_prompt_is_pefts_prompt_tuning_from_start(backbone, tmp_path, pool):
    from peft import PeftModel
    from transformers import AutoModel

    spec = SoftPromptSpec(tokens=3, pool_prompt=pool)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.5)
    ours = features(backbone, delta, CAPTIONS)
    export = export_delta(delta, "peft", tmp_path / "out", lambda: backbone)
    assert "input_ids[:, 1:]" in (export.path / "README.md").read_text()
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, export.path).eval()
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(CAPTIONS), backbone.device)
    with torch.inference_mode():
        hidden = model(input_ids=ids[:, 1:], attention_mask=mask[:, 1:]).last_hidden_state
        counted = torch.cat(
            [torch.ones(len(ids), 1), pool * torch.ones(len(ids), 3), mask[:, 1:]], 1
        )
        theirs = backbone.text_tower.head(pooled(hidden, counted))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_prompts_of_roberta_are_exact_too_and_clips_are_refused(small, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    backbone = small("mclip")
    delta = store_shaken(tmp_path / "m", backbone, SoftPromptSpec(tokens=2), noise=0.5)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "peft", tmp_path / "out", lambda: backbone)
    encoder = AutoModel.from_config(backbone.text_tower.encoder.config)
    encoder.load_state_dict(backbone.text_tower.encoder.state_dict())
    model = PeftModel.from_pretrained(encoder, export.path).eval()
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    with torch.inference_mode():
        hidden = model(input_ids=ids[:, 1:], attention_mask=mask[:, 1:]).last_hidden_state
        counted = torch.cat([torch.ones(len(ids), 3), mask[:, 1:]], 1)
        theirs = backbone.text_tower.head(pooled(hidden, counted))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    clip = small("clip")
    delta = store_shaken(tmp_path / "c", clip, SoftPromptSpec(tokens=2))
    with pytest.raises(XcliptError, match="this one takes none"):
        export_delta(delta, "peft", tmp_path / "out2", lambda: clip)


@pytest.mark.parametrize("modules", MODULES)
def test_a_lora_of_clips_text_tower(small, modules, tmp_path):
    from peft import PeftModel
    from transformers import CLIPTextModel

    backbone = small("clip")
    spec = LoraSpec(rank=2, modules=modules)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "peft", tmp_path / "out", no_backbone)
    assert "CLIPTextModel.from_pretrained" in (export.path / "README.md").read_text()
    encoder = CLIPTextModel.from_pretrained(tmp_path / "backbone-clip")
    model = PeftModel.from_pretrained(encoder, export.path).eval()
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).pooler_output
        theirs = backbone.text_tower.head(found)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_an_older_export_leaves_no_weights(backbone, stored, tmp_path):
    first = export_delta(stored, "hub", tmp_path / "out", no_backbone)
    again = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(), noise=0.1)
    export = export_delta(again, "hub", tmp_path / "out", no_backbone)
    assert export.path == first.path
    assert sorted(path.name for path in export.path.iterdir()) == sorted(export.files)


def test_a_backbone_that_is_not_the_deltas_is_refused(small, stored, tmp_path):
    with pytest.raises(XcliptError, match=r"was trained on backbone .* not on "):
        export_delta(stored, "merged", tmp_path / "out", lambda: small("mclip"))


def test_refusals(stored, tmp_path):
    with pytest.raises(XcliptError, match="format 'pickle': choose native, peft"):
        export_delta(stored, "pickle", tmp_path, no_backbone)
    with pytest.raises(XcliptError, match="where the delta itself is"):
        export_delta(stored, "native", stored.folder.parents[1], no_backbone)
    (tmp_path / "file").write_text("")
    with pytest.raises(XcliptError, match="cannot write"):
        export_delta(stored, "native", tmp_path / "file", no_backbone)
    path = stored.folder / stored.manifest.weights.file
    path.write_bytes(b"broken")
    with pytest.raises(XcliptError, match="not what"):
        export_delta(stored, "native", tmp_path / "out", no_backbone)
    assert not (tmp_path / "out").exists(), "nothing is half-written"
