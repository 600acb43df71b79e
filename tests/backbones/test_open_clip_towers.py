"""open_clip's text towers, as far as they need nothing of open_clip."""

import json
import sys

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from tests.factories.deltas import store_noise
from tests.factories.models import load, write_clip, write_hub_cache
from tests.factories.open_clip_towers import nllb_backbone, own_transformer_backbone
from tests.factories.running import run_xclipt
from tests.factories.tiny import workspace_in
from xclipt.backbones.open_clip.description import CONFIG, WEIGHTS
from xclipt.backbones.open_clip.transformer import Sizes, TextTransformer, fuse, split
from xclipt.backbones.registry import blueprint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.model import Model


@pytest.mark.parametrize("causal", [True, False])
def test_attention_that_was_taken_apart_is_the_fused_one(causal):
    torch.manual_seed(0)
    fused = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    nn.init.normal_(fused.in_proj_bias)
    nn.init.normal_(fused.out_proj.bias)
    apart = TextTransformer(Sizes(9, 5, 32, 4, 1, 64, causal=causal)).transformer.resblocks[0].attn
    name = "transformer.resblocks.0.attn."
    named = {name + n: tensor for n, tensor in fused.state_dict().items()}
    taken = split("", named)
    apart.load_state_dict({n.removeprefix(name): tensor for n, tensor in taken.items()})
    states = torch.randn(3, 9, 32)
    hidden = torch.triu(torch.ones(9, 9, dtype=torch.bool), 1) if causal else None
    expected, _ = fused(states, states, states, need_weights=False, attn_mask=hidden)
    torch.testing.assert_close(apart(states), expected, atol=1e-6, rtol=0)
    again = fuse("", taken)
    assert again.keys() == named.keys()
    assert all(torch.equal(again[n], tensor) for n, tensor in named.items())


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("bias", [False, True])
def test_fusing_is_the_reverse_of_splitting(prefix, bias):
    blocks = f"{prefix}transformer.resblocks."
    projection = f"{prefix}text_projection"
    own = {
        f"{blocks}{i}.attn.in_proj_{end}": torch.randn(6, 2)
        for i in (0, 1)
        for end in ("weight", "bias")
    }
    own |= {f"{blocks}0.attn.out_proj.weight": torch.randn(2, 2), "logit_scale": torch.ones(())}
    # The image tower's attention stays as it is.
    own |= {"visual.transformer.resblocks.0.attn.in_proj_weight": torch.randn(6, 2)}
    if bias:
        own |= {f"{projection}.weight": torch.randn(3, 2), f"{projection}.bias": torch.randn(3)}
    else:
        own[projection] = torch.randn(2, 3)
    taken = split(prefix, own)
    assert taken[f"{projection}.weight"].shape == (3, 2)
    assert not [n for n in taken if n.startswith(blocks) and "in_proj" in n]
    again = fuse(prefix, taken)
    assert again.keys() == own.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("fixed_length", [False, True])
def test_a_soft_prompt_takes_of_the_padding_or_of_the_texts_end(fixed_length):
    backbone = own_transformer_backbone(fixed_length=fixed_length)
    spec = SoftPromptSpec(tokens=3)
    delta = AdaptedTower(backbone.text_tower, spec, tokenizer=backbone.tokenizer)
    (vectors,) = delta.parameters()
    encoder = delta.tower.encoder
    given = []
    encoder.transformer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0][0]))
    words = backbone.tokenizer.tokenizer.get_vocab()
    table = backbone.text_tower.encoder.token_embedding.weight
    positions = encoder.positional_embedding
    for text, kept in (("un chat", ["un", "chat", "</s>"]), ("un " * 30, [*["un"] * 15, "</s>"])):
        delta.within(backbone).encode_texts([text])
        states = given.pop()
        length = 20 if fixed_length else 4 + len(kept)
        kept = [*kept, *["<pad>"] * (length - 4 - len(kept))]
        expected = [table[words["<s>"]][None], vectors, table[[words[word] for word in kept]]]
        torch.testing.assert_close(states, torch.cat(expected) + positions[:length])


def test_padding_counts_in_a_tower_of_fixed_length_alone():
    for fixed_length in (False, True):
        backbone = own_transformer_backbone(fixed_length=fixed_length)
        padding = backbone.tokenizer.tokenizer.pad_token_id
        ids, mask = backbone.tokenizer.pad(backbone.tokenizer(["un chat"]), backbone.device)
        assert ids.shape[1] == (20 if fixed_length else 4)
        features = backbone.text_tower(ids, mask)
        more = nn.functional.pad(ids[:, :4], (0, 16), value=padding)
        torch.testing.assert_close(backbone.text_tower(more, torch.ones_like(more)), features)
        other = nn.functional.pad(ids[:, :4], (0, 16), value=7)
        differing = (backbone.text_tower(other, torch.ones_like(more)) - features).abs().max()
        assert differing > 0.1 if fixed_length else differing < 1e-5


def test_a_language_is_the_first_token():
    backbone = nllb_backbone()
    tokens = backbone.tokenizer
    french, german = (tokens(["chien", "un chat"], code) for code in ("fr", "de"))
    assert [row[0] for row in french] == [4, 4] and [row[0] for row in german] == [5, 5]
    assert [row[1:] for row in french] == [row[1:] for row in german]
    assert tokens(["chien"], ["fr"]) == french[:1]
    assert tokens(["chien"]) == tokens(["chien"], "en") == tokens(["chien"], "br")
    assert (backbone.encode_tokens(french) - backbone.encode_tokens(german)).abs().max() > 1e-3
    assert tokens.identified("chien", "fr") != tokens.identified("chien", "de")
    assert tokens.identified("chien", None) == "chien"
    with pytest.raises(ValueError):
        tokens(["chien", "un chat"], ["fr"])


def test_features_are_kept_by_text_and_language(tmp_path):
    workspace = workspace_in(tmp_path, nllb_backbone())
    by_language = {
        code: workspace.encode_texts(["chien"], language=code) for code in (None, "fr", "de", "en")
    }
    assert (by_language["fr"] - by_language["de"]).abs().max() > 1e-3
    assert torch.equal(by_language["en"], by_language[None])
    for code, features in by_language.items():
        assert torch.equal(workspace.encode_texts(["chien"], language=code), features)
        assert torch.equal(workspace.backbone.encode_texts(["chien"], language=code), features)


def test_a_model_tells_the_tower_each_texts_language(tmp_path):
    workspace = workspace_in(tmp_path, nllb_backbone())
    for code in ("fr", "de"):
        store_noise(workspace, code, "shaken", 0.1, spec=LoraSpec(rank=2))
    model = Model(workspace)
    mixed = model.encode_text(["chien", "chien", "chien"], ["fr", "de", "en"])
    for row, code in zip(mixed, ("fr", "de", "en"), strict=True):
        backbone = workspace.backbone
        if code != "en":
            backbone = workspace.directory.current(code).within(backbone)
        alone = nn.functional.normalize(backbone.encode_texts(["chien"], language=code))[0]
        assert row == pytest.approx(alone.numpy(), abs=1e-5)


PUBLISHED = {
    "xlm-roberta-base": ("mlp", 512, 278_272_256),
    "FacebookAI/xlm-roberta-large": ("mlp", 1024, 560_937_984),
    "facebook/nllb-200-distilled-600M": ("linear", 512, 414_035_968),
    "facebook/nllb-200-distilled-1.3B": ("linear", 1024, 767_139_840),
}
"""As in open_clip's own table of its models: 278.27, 560.94, 414.04 and 767.14 million."""


def describe(folder, text, dim=512, **model):
    folder.mkdir(exist_ok=True)
    model = {"embed_dim": dim, "vision_cfg": {}, "text_cfg": text, **model}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_dry_run_needs_the_configuration_of_a_published_model_alone(tmp_path, name):
    projection, dim, count = PUBLISHED[name]
    pooler = "cls_pooler" if "nllb" in name else "mean_pooler"
    text = {"hf_model_name": name, "hf_proj_type": projection, "hf_pooler_type": pooler}
    run = run_xclipt(
        *("train-delta", "--backbone", describe(tmp_path / "model", text, dim), "--lang", "fr"),
        *("--dry-run", "--json", "--artifacts", tmp_path / "artifacts"),
    )
    assert run.code == 0, run.err
    (delta,) = run.json()["deltas"]
    assert delta["backbone_parameters"] == count
    layers, width = (12, 768) if "base" in name else (24, 1024)
    layers = 12 if "600M" in name else layers
    lora, norms = layers * 2 * 8 * 2 * width, layers * 4 * width
    assert delta["trainable_parameters"] == lora + norms


def test_a_dry_run_of_open_clips_own_transformer(tmp_path):
    # ViT-B-32's: 63.43 million.
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    tower = blueprint(str(describe(tmp_path / "model", text)))
    block = 4 * (512 * 512 + 512) + 2 * 4 * 512 * 512 + 4 * 512 + 512 + 4 * 512
    expected = (49408 + 77) * 512 + 12 * block + 2 * 512 + 512 * 512
    assert tower.text_parameters == expected == 63_428_096
    delta = AdaptedTower(tower.text_tower, LoraSpec(rank=2, modules=ALL_LINEAR))
    assert delta.trainable_parameters == 12 * 2 * (4 * 1024 + 2 * 2560) + 12 * 4 * 512


def test_sizes_that_the_configuration_does_not_tell_are_in_the_weights_header(tmp_path):
    text = {"hf_model_name": "someone/xlm-roberta-small", "hf_tokenizer_name": "someone/else"}
    folder = describe(tmp_path / "model", text, 8)
    with pytest.raises(XcliptError, match="xlm-roberta-small alone, whose sizes are those"):
        blueprint(str(folder))
    shapes = {
        "embeddings.word_embeddings.weight": (50, 64),
        "embeddings.position_embeddings.weight": (20, 64),
        "embeddings.token_type_embeddings.weight": (1, 64),
        "encoder.layer.0.intermediate.dense.weight": (96, 64),
        "encoder.layer.1.intermediate.dense.weight": (96, 64),
    }
    tensors = {f"text.transformer.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    save_file(tensors, folder / WEIGHTS[0])
    tower = blueprint(str(folder))
    assert tower.text_tower.max_length == 18
    block = 4 * (64 * 64 + 64) + 2 * 64 * 96 + 96 + 64 + 4 * 64
    encoder = (50 + 20 + 1) * 64 + 2 * 64 + 2 * block
    assert tower.text_parameters == encoder + 64 * 36 + 36 * 8


def test_without_open_clip_it_is_told_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    folder = describe(tmp_path / "model", {"width": 64})
    (folder / WEIGHTS[0]).write_bytes(b"")
    with pytest.raises(XcliptError) as caught:
        load(folder)
    told = f"{folder} needs open_clip: pip install 'xclipt[open-clip]'"
    assert str(caught.value) == told
    artifacts = tmp_path / "artifacts"
    run = run_xclipt("train-delta", "--backbone", folder, "--lang", "fr", "--artifacts", artifacts)
    assert run.code == 2 and run.err.strip().endswith(told) and len(run.err.splitlines()) == 1


def test_a_folder_in_both_formats_is_of_the_one_whose_weights_are_there(tmp_path):
    folder = tmp_path / "model"
    write_clip(folder)
    describe(folder, {"width": 64}, 8)
    assert load(folder).text_tower.published.config == "config.json"
    (folder / "model.safetensors").rename(folder / WEIGHTS[0])
    assert blueprint(str(folder)).text_tower.published.config == CONFIG
    (folder / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    assert blueprint(str(folder)).text_tower.published.config == CONFIG


def test_a_hub_id_is_described_by_either_file(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    describe(tmp_path / "model", {"width": 64, "layers": 1})
    write_hub_cache(tmp_path / "model", tmp_path / "hub", "someone/open-clip")
    assert blueprint("someone/open-clip").text_parameters > 0
    with pytest.raises(XcliptError) as caught:
        load("someone/open-clip")
    assert "no open_clip_model.safetensors or open_clip_pytorch_model.bin" in str(caught.value)


def test_a_head_that_is_not_there_is_not_trained(tmp_path):
    folder = describe(tmp_path / "model", {"width": 64, "proj_type": "none"}, 64)
    with pytest.raises(XcliptError, match="no text head") as caught:
        AdaptedTower(blueprint(str(folder)).text_tower, LoraSpec(rank=2, tune_head=True))
    assert caught.value.field == "tune_head"


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"model_cfg": {"embed_dim": 8}}', '{"model_cfg": 3}']
)
def test_a_configuration_that_is_none_is_refused(tmp_path, content):
    (tmp_path / CONFIG).write_text(content)
    with pytest.raises(XcliptError, match=CONFIG) as caught:
        blueprint(str(tmp_path))
    assert "\n" not in str(caught.value)
