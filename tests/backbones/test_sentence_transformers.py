"""CLIP in sentence-transformers' format: the features are those of the library."""

import json
import re
import shutil

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features, pooled
from tests.factories.models import load, write_clip, write_clip_vision
from tests.factories.sentence_transformers import write_pair
from xclipt.backbones.registry import blueprint, load_backbone
from xclipt.backbones.text_tower import DISTILBERT_MODULES
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.progress import Silent

CAPTIONS = ["un chat", "a dog runs court noir blanc", "chien", "", "chat " * 60]


@pytest.mark.parametrize("activation", [None, torch.nn.Tanh()], ids=["identity", "tanh"])
def test_features_are_those_of_the_library(tmp_path, activation):
    model = write_pair(tmp_path, activation=activation)
    backbone = load(tmp_path)
    assert backbone.text_tower.module_names == DISTILBERT_MODULES
    theirs = torch.from_numpy(model.encode(CAPTIONS))
    torch.testing.assert_close(backbone.encode_texts(CAPTIONS), theirs, atol=1e-5, rtol=0)
    shapes = {name: p.shape for name, p in blueprint(str(tmp_path)).text_tower.named_parameters()}
    assert shapes == {n: p.shape for n, p in backbone.text_tower.named_parameters()}


def test_features_in_bfloat16(tmp_path):
    theirs = torch.from_numpy(write_pair(tmp_path).encode(CAPTIONS))
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.bfloat16, Silent())
    of_length_one = (F.normalize(f, dim=-1) for f in (backbone.encode_texts(CAPTIONS), theirs))
    torch.testing.assert_close(*of_length_one, atol=1e-2, rtol=0)


@pytest.mark.parametrize("modules", ["query-value", ALL_LINEAR])
def test_peft_has_the_features_as_its_card_says(tmp_path, modules):
    write_pair(tmp_path / "model")
    backbone = load(tmp_path / "model")
    spec = LoraSpec(rank=2, modules=modules)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    export = export_delta(delta, "peft", tmp_path / "out", lambda: backbone)
    (code,) = re.findall(r"```python\n(.*?)```", (export.path / "README.md").read_text(), re.S)
    code = code.replace("TEXT_TOWER", repr(str(tmp_path / "model")))
    made = {}
    exec(code.replace('"shaken', f'"{export.path}'), made)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    with torch.inference_mode():
        hidden = made["encoder"].eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        theirs = backbone.text_tower.head(pooled(hidden, mask))
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_a_default_prompt_is_put_before_every_text(tmp_path):
    write_pair(tmp_path)
    path = tmp_path / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    prompts = {"prompts": {"search": "un grand "}, "default_prompt_name": "search"}
    path.write_text(json.dumps(config | prompts))
    theirs = torch.from_numpy(SentenceTransformer(str(tmp_path)).encode(CAPTIONS[:3]))
    ours = load(tmp_path).encode_texts(CAPTIONS[:3])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_published_format_of_today_and_before(tmp_path):
    write_pair(tmp_path)
    before = load(tmp_path).encode_texts(CAPTIONS)
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    modes = {f"pooling_mode_{name}": name == "mean_tokens" for name in names}
    path = tmp_path / "1_Pooling/config.json"
    path.write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    modules = json.loads((tmp_path / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert torch.equal(load(tmp_path).encode_texts(CAPTIONS), before)
    path.write_text(json.dumps(modes | {"pooling_mode_cls_token": True}))
    with pytest.raises(XcliptError, match="takes the mean over a text's tokens, no other pooling"):
        load(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    write_pair(tmp_path)
    shutil.rmtree(tmp_path / "image")
    with pytest.raises(XcliptError, match="publishes the text tower by itself; name the CLIP"):
        load(tmp_path)
    write_clip_vision(tmp_path / "image", dim=6)
    with pytest.raises(XcliptError, match="the text tower has 8 dimensions, the image tower 6"):
        load(tmp_path)
    path = tmp_path / "2_Dense/config.json"
    path.write_text(json.dumps({"activation_function": "os.system"}))
    with pytest.raises(XcliptError, match=r"'os\.system' is none of Identity, Tanh, ReLU, GELU"):
        load(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(XcliptError, match=r"modules\.json: not a list of modules"):
        load(tmp_path)


@pytest.mark.parametrize("spec", [LoraSpec(rank=2), LoraSpec(modules=ALL_LINEAR, tune_head=True)])
def test_merged_is_a_folder_of_the_librarys(tmp_path, spec):
    write_pair(tmp_path / "model", activation=torch.nn.Tanh())
    backbone = load(tmp_path / "model")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    ours = features(backbone, delta, CAPTIONS)
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    theirs = torch.from_numpy(SentenceTransformer(str(export.path)).encode(CAPTIONS))
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    write_clip_vision(export.path / "image")
    torch.testing.assert_close(load(export.path).encode_texts(CAPTIONS), ours, atol=1e-5, rtol=1e-5)


def test_a_clip_in_a_folder_of_sentence_transformers(tmp_path):
    inner = tmp_path / "0_CLIPModel"
    write_clip(inner)
    modules = [{"idx": 0, "path": inner.name, "type": "sentence_transformers.models.CLIPModel"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    whole, alone = load(tmp_path), load(inner)
    assert whole.identity.fingerprint == alone.identity.fingerprint
    assert blueprint(str(tmp_path)).text_parameters == whole.text_parameters
    delta = store_shaken(tmp_path / "artifacts", whole, LoraSpec(rank=2))
    export = export_delta(delta, "merged", tmp_path / "out", lambda: whole)
    ours = features(whole, delta, CAPTIONS)
    torch.testing.assert_close(load(export.path).encode_texts(CAPTIONS), ours, atol=1e-5, rtol=1e-5)


def test_the_published_one_by_its_name():
    outline = blueprint("clip-vit-b32-multilingual")
    assert outline.text_parameters == 134_734_080 + 768 * 512
