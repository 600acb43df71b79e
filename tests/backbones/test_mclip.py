"""M-CLIP's format: same features as the plain model, every quirk of it, and what is refused."""

import json
import pickle
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.factories.models import (
    VOCABULARY,
    load,
    roberta_settings,
    write_clip_vision,
    write_mclip,
    write_mclip_backbone,
    write_tokenizer,
    write_xlm_roberta_tokenizer,
)
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.mclip import MCLIP, load_mclip_text
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import BERT_MODULES
from xclipt.errors import XcliptError

CAPTIONS = ["un chat", "a dog runs", "chien", "un grand chien noir court a cat sleeps", "", "vert"]
CPU = torch.device("cpu")


def plain_features(encoder, head, tokenizer, captions, extra_padding=0):
    """XLM-R, mean over the mask, linear: written out."""
    rows = tokenizer(captions)["input_ids"]
    length = max(map(len, rows)) + extra_padding
    ids = torch.tensor([row + [1] * (length - len(row)) for row in rows])
    mask = (ids != 1).long()
    with torch.inference_mode():
        hidden = encoder(input_ids=ids, attention_mask=mask)[0]
        pooled = torch.stack(
            [
                states[: int(count)].mean(0)
                for states, count in zip(hidden, mask.sum(1), strict=True)
            ]
        )
        return pooled @ head.weight.T + head.bias


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("position_ids", [True, False])
def test_features_are_those_of_the_plain_model(tmp_path, file, position_ids):
    encoder, head = write_mclip(tmp_path, file=file, position_ids=position_ids)
    write_tokenizer(tmp_path)
    write_clip_vision(tmp_path / "image")
    backbone = load(tmp_path)
    ours = backbone.encode_texts(CAPTIONS)
    tokenizer = backbone.tokenizer.tokenizer
    for padding in (0, 1, 5):
        theirs = plain_features(encoder, head, tokenizer, CAPTIONS, padding)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for i, caption in enumerate(CAPTIONS):
        alone = plain_features(encoder, head, tokenizer, [caption])
        torch.testing.assert_close(ours[i : i + 1], alone, atol=1e-5, rtol=0)
    assert ours.std() > 0.01, "the captions differ, and so do their features"


@pytest.mark.parametrize("padding", [1, 7, 25])
def test_padding_changes_nothing(tmp_path, padding):
    backbone = load(write_mclip_backbone(tmp_path))
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(["un chat noir"]), CPU)
    longer = F.pad(ids, (0, padding), value=1), F.pad(mask, (0, padding))
    with torch.inference_mode():
        base = backbone.text_tower(ids, mask)
        torch.testing.assert_close(backbone.text_tower(*longer), base, atol=1e-5, rtol=0)


def test_the_old_serialisation_of_pytorch_is_read_too(tmp_path):
    write_mclip_backbone(tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    modern = load(tmp_path).encode_texts(CAPTIONS)
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(load(tmp_path).encode_texts(CAPTIONS), modern)


def test_without_a_pooler(tmp_path):
    write_mclip_backbone(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    whole = load(tmp_path)
    features = whole.encode_texts(CAPTIONS)
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if ".pooler." not in k}, path)
    less = load(tmp_path)
    assert torch.equal(less.encode_texts(CAPTIONS), features)
    assert whole.text_parameters - less.text_parameters == 16 * 16 + 16


def test_long_captions_are_cut_to_the_positions_there_are(tmp_path):
    backbone = load(write_mclip_backbone(tmp_path))
    rows = backbone.tokenizer(["chat " * 500])
    assert len(rows[0]) == 40 and rows[0][-1] == 2
    assert backbone.encode_texts(["chat " * 500]).isfinite().all()


def test_with_xlm_rs_own_tokenizer(tmp_path):
    """Its vocabulary, specials, truncation and padding; features of the plain model on its ids."""
    settings = roberta_settings(vocab_size=250_002, max_position_embeddings=514)
    encoder, head = write_mclip(tmp_path, settings)
    reference = write_xlm_roberta_tokenizer(tmp_path)
    write_clip_vision(tmp_path / "image")
    backbone = load(tmp_path)
    captions = [
        *(
            "Hello world",
            "Zwei Hunde spielen im Schnee.",
            "两只狗在雪地里玩耍。",
            "雪の中で遊ぶ二匹の犬",
        ),
        *(
            "Две собаки играют в снегу",
            "كلبان يلعبان في الثلج",
            "눈 속에서 노는 개 두 마리",
            "",
            "x" * 90,
        ),
    ]
    rows = backbone.tokenizer(captions)
    assert rows[0] == [0, 35378, 8999, 2], "as XLM-R is known to cut it"
    assert rows == reference(captions)["input_ids"]
    assert all(row[0] == 0 and row[-1] == 2 and 1 not in row for row in rows)
    assert len({len(row) for row in rows}) > 4
    (long,) = backbone.tokenizer(["Zwei Hunde spielen im Schnee. " * 200])
    (whole,) = reference(["Zwei Hunde spielen im Schnee. " * 200], truncation=False)["input_ids"]
    assert len(whole) > 1000 and long == [*whole[:511], 2]
    ids, mask = backbone.tokenizer.pad(rows, CPU)
    theirs = reference(captions, padding=True, return_tensors="pt")
    assert torch.equal(ids, theirs["input_ids"]) and torch.equal(mask, theirs["attention_mask"])
    with torch.inference_mode():
        hidden = encoder(**theirs).last_hidden_state
        weights = mask[:, :, None]
        expected = head((hidden * weights).sum(1) / weights.sum(1))
    torch.testing.assert_close(backbone.encode_texts(captions), expected, atol=1e-5, rtol=0)
    assert backbone.encode_texts(["wort " * 600]).isfinite().all()


def test_tokens_go_to_where_the_tower_is(tmp_path, monkeypatch):
    backbone = load(write_mclip_backbone(tmp_path))
    monkeypatch.setattr(Backbone, "autocast", lambda self: nullcontext())  # knows no meta
    seen = []

    class Tower(torch.nn.Module):
        def forward(self, ids, mask):
            seen.extend([ids.device.type, mask.device.type])
            return torch.zeros(len(ids), 8)

    there = replace(backbone, text_tower=Tower(), device=torch.device("meta"))
    with pytest.raises(NotImplementedError, match="no data"):  # nothing comes back from there
        there.encode_texts(CAPTIONS)
    assert set(seen) == {"meta"}


def test_the_fingerprint_is_of_weights_tokenizer_and_pixels(tmp_path):
    one = load(write_mclip_backbone(tmp_path / "a"))
    assert one.measure_fingerprint() == one.identity.fingerprint
    one.encode_texts(CAPTIONS)
    assert one.measure_fingerprint() == one.identity.fingerprint, "use leaves no trace"
    copy = load(write_mclip_backbone(tmp_path / "b"))
    assert copy.identity.fingerprint == one.identity.fingerprint, "the place does not matter"
    other = load(write_mclip_backbone(tmp_path / "c", seed=1))
    assert other.identity.fingerprint != one.identity.fingerprint
    settings = {"do_center_crop": False, "size": {"height": 8, "width": 8}}
    (tmp_path / "b/image/preprocessor_config.json").write_text(json.dumps(settings))
    assert load(tmp_path / "b").identity.fingerprint != one.identity.fingerprint


def test_named_backbones_know_their_shapes():
    totals = {name: blueprint(name).text_parameters for name in MCLIP.named}
    assert totals["mclip-l14"] == 560_677_632
    assert totals["mclip-l14"] - totals["mclip-b32"] == 256 * 1025
    assert totals["mclip-l14"] - totals["mclip-b16plus"] == 128 * 1025
    assert totals["mclip-labse-l14"] == 470_926_848 + 2 * 768 * 769 - 768 * 769


def test_the_shapes_of_a_folder_are_those_of_its_weights(tmp_path):
    backbone = load(write_mclip_backbone(tmp_path))
    tower = blueprint(str(tmp_path)).text_tower
    assert tower.module_names == backbone.text_tower.module_names == BERT_MODULES
    assert tower.published == backbone.text_tower.published
    shapes = {name: p.shape for name, p in tower.named_parameters()}
    assert shapes == {name: p.shape for name, p in backbone.text_tower.named_parameters()}
    assert all(p.is_meta for p in tower.parameters())


def test_a_folder_that_has_everything_asks_the_hub_for_nothing(tmp_path, monkeypatch):
    import huggingface_hub

    def refuse(*arguments, **settings):
        raise AssertionError(f"asked the hub for {arguments}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    load(write_mclip_backbone(tmp_path))


def _changed(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("words", [4, 400])
def test_a_tokenizer_of_another_model_is_refused(tmp_path, words):
    settings = roberta_settings(vocab_size=VOCABULARY - 1 if words == 4 else 400)
    write_mclip_backbone(tmp_path, settings=settings)
    with pytest.raises(XcliptError, match=r"tokenizer\.json: 20 tokens do not fit"):
        load(tmp_path)


def test_a_tokenizer_that_pads_with_another_token_is_refused(tmp_path):
    write_mclip_backbone(tmp_path)
    write_tokenizer(tmp_path, pad="</s>")
    with pytest.raises(XcliptError, match="pads with 2, the encoder expects 1"):
        load_mclip_text(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "pytorch_model.bin").unlink(), "no weights"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"PK\3\4 cut off"), "pytorch_model.bin"),
        (lambda f: (f / "config.json").write_text("{"), "not a JSON object"),
        (lambda f: _changed(f, numDims=9), r"LinearTransformation is \(8, 16\)"),
        (lambda f: _changed(f, intermediate_size=64), "do not fit the encoder"),
        (lambda f: _changed(f, model_type="bert", numDims=None), "LinearTransformation"),
    ],
)
def test_damaged_folders_are_refused_in_one_line(tmp_path, damage, message):
    write_mclip_backbone(tmp_path)
    damage(tmp_path)
    with pytest.raises(XcliptError, match=message) as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    write_mclip_backbone(tmp_path)

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(XcliptError, match=r"pytorch_model\.bin"):
        load(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_towers_of_different_models_are_refused(tmp_path):
    write_mclip_backbone(tmp_path)
    write_clip_vision(tmp_path / "image", dim=12)
    with pytest.raises(XcliptError, match="8 dimensions, the image tower 12"):
        load(tmp_path)


def _based_on(folder, base):
    """Take the encoder's settings and the tokenizer out of a backbone's folder, and name a base."""
    described = {"modelBase": str(base), "transformerDimensions": 16, "numDims": 8}
    (folder / "config.json").write_text(json.dumps(described))
    for file in folder.glob("*token*.json"):
        file.unlink()


@pytest.mark.parametrize("base", ["{root}/models/base", "base", "../models/base", "./base"])
def test_a_model_base_may_be_a_folder(tmp_path, base):
    folder = write_mclip_backbone(tmp_path / "mclip")
    whole = load(folder)
    _based_on(folder, base.format(root=tmp_path))
    beside = (folder / base.format(root=tmp_path)).resolve()
    beside.mkdir(parents=True)
    # Fewer heads are no other weights: they are read from the base.
    settings = roberta_settings(model_type="xlm-roberta", num_attention_heads=4)
    (beside / "config.json").write_text(json.dumps(settings))
    write_tokenizer(beside)
    read = load(folder)
    assert read.text_tower.encoder.config.num_attention_heads == 4
    assert read.tokenizer(CAPTIONS) == whole.tokenizer(CAPTIONS)
    assert blueprint(str(folder)).text_parameters == read.text_parameters == whole.text_parameters
    assert read.identity.fingerprint == whole.identity.fingerprint
    write_tokenizer(beside, pad="<pad>", end="chat")  # what is remembered of it does not stay
    assert load(folder).identity.fingerprint != whole.identity.fingerprint


@pytest.mark.parametrize(
    "base", ["/nowhere/base", "../../secret", "", "a/b/c", "~/base", "C:\\base"]
)
def test_a_model_base_that_is_not_there_is_one_line(tmp_path, base):
    folder = write_mclip_backbone(tmp_path)
    _based_on(folder, base)
    with pytest.raises(XcliptError) as refusal:
        load(folder)
    assert str(refusal.value).startswith(
        f"{folder}/config.json: modelBase {base!r}: no such folder"
    )
    assert "its config.json is needed" in str(refusal.value) and "\n" not in str(refusal.value)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(roberta_settings() | described))
    with pytest.raises(XcliptError, match=r"its tokenizer\.json is needed"):
        load(folder)
    write_tokenizer(folder)
    assert load(folder).encode_texts(CAPTIONS).isfinite().all()  # nobody asks the base


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is none of bert, roberta, xlm-roberta"),
        ({}, "model_type None is none of"),
        ({"model_type": "distilbert"}, "the encoder is distilbert, whose head .* as a pickle"),
    ],
)
def test_a_base_that_is_no_encoder_is_refused(tmp_path, config, message):
    folder = write_mclip_backbone(tmp_path)
    _based_on(folder, "base")
    (folder / "base").mkdir()
    (folder / "base/config.json").write_text(json.dumps(config))
    with pytest.raises(XcliptError, match=rf"base.config\.json: {message}"):
        load(folder)


@pytest.mark.parametrize(
    "base",
    [
        "bert-base-multilingual-cased",
        "google-bert/bert-base-multilingual-cased",
        "distilbert-base-multilingual-cased",
        "distilbert/distilbert-base-multilingual-cased",
    ],
)
def test_legacy_encoders_are_refused_with_the_reason(tmp_path, base):
    write_mclip_backbone(tmp_path)
    _changed(tmp_path, modelBase=base)
    for read in (load, lambda folder: blueprint(str(folder))):
        with pytest.raises(XcliptError, match=rf"config\.json: the encoder is {base}, .* a pickle"):
            read(tmp_path)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_legacy_encoder_alone_is_refused_with_the_reason(tmp_path, kind):
    # What the hub's repositories of the first models hold.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": 119547}))
    for read in (load, lambda folder: blueprint(str(folder))):
        with pytest.raises(
            XcliptError, match=f"the encoder is {kind}, whose head M-CLIP published"
        ):
            read(tmp_path)


@pytest.mark.parametrize("name", MCLIP.unreadable)
def test_legacy_models_are_refused_by_name_before_anything_is_fetched(name, monkeypatch):
    import huggingface_hub

    def refuse(*arguments, **settings):
        raise AssertionError(f"asked the hub for {arguments}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    for read in (load, blueprint):
        with pytest.raises(XcliptError, match=rf"backbone '{name}': the encoder is .* as a pickle"):
            read(name)
