"""OpenDelta loads its export by itself, into a plain transformers encoder, with equal features."""

import copy

import pytest
import torch

from tests.factories.deltas import store_shaken
from tests.factories.exports import CAPTIONS, SHORT, features, pooled
from xclipt.backbones.builtin import converted_text_tower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.progress import Silent


def test_a_lora_on_the_builtin_backbone(backbone, stored, tmp_path):
    from transformers import AutoModel

    ours = features(backbone, stored, CAPTIONS)
    export = export_delta(stored, "opendelta", tmp_path / "out", lambda: backbone)
    assert set(export.files) == {
        *("pytorch_model.bin", "config.json", "README.md", "manifest.yaml", "SHA256SUMS")
    }
    encoder = AutoModel.from_pretrained(converted_text_tower(Silent()), add_pooling_layer=False)
    import_opendelta().AutoDeltaModel.from_finetuned(str(export.path), backbone_model=encoder)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(CAPTIONS), backbone.device)
    with torch.inference_mode():
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        theirs = backbone.text_tower.head(pooled(hidden, mask))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("format", ["mclip", "clip"])
@pytest.mark.parametrize(
    "spec",
    [
        LoraSpec(rank=2),
        AdapterSpec(bottleneck=4),
        CompacterSpec(reduction=4),
        SoftPromptSpec(tokens=2),
        SoftPromptSpec(tokens=2, pool_prompt=False, train_layernorm=True),
    ],
    ids=lambda spec: spec.kind,
)
def test_every_kind(small, tmp_path, format, spec):
    backbone = small(format)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    ours = features(backbone, delta, SHORT)
    if format == "clip" and spec.kind == "soft-prompt":
        with pytest.raises(XcliptError, match="this one takes none"):
            export_delta(delta, "opendelta", tmp_path / "out", lambda: backbone)
        return
    export = export_delta(delta, "opendelta", tmp_path / "out", lambda: backbone)
    encoder = copy.deepcopy(backbone.text_tower.encoder)
    import_opendelta().AutoDeltaModel.from_finetuned(str(export.path), backbone_model=encoder)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    counted = mask
    if spec.kind == "soft-prompt":
        ids, mask = ids[:, 1:], mask[:, 1:]
        prompt = torch.tensor([1.0, spec.pool_prompt, spec.pool_prompt]).expand(len(ids), -1)
        counted = torch.cat([prompt, mask], 1)
    with torch.inference_mode():
        output = encoder(input_ids=ids, attention_mask=mask)
        found = (
            output.pooler_output if format == "clip" else pooled(output.last_hidden_state, counted)
        )
        theirs = backbone.text_tower.head(found)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_its_pickle_holds_tensors_alone(stored, tmp_path):
    export = export_delta(stored, "opendelta", tmp_path / "out", lambda: None)
    state = torch.load(export.path / "pytorch_model.bin", weights_only=True)
    assert state.keys() == stored.tensors().keys()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (FullSpec(), "no place for a full-finetune delta; export shaken as merged"),
        (LoraSpec(tune_head=True), "text head"),
    ],
)
def test_what_opendelta_has_no_place_for(small, tmp_path, spec, reason):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    with pytest.raises(XcliptError, match=reason):
        export_delta(delta, "opendelta", tmp_path / "out", lambda: backbone)
    assert not (tmp_path / "out").exists()
