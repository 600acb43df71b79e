"""Every dual encoder of transformers: the features are those of the library's documented use."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    Siglip2Config,
    SiglipTokenizer,
)

from tests.factories.dual_encoders import (
    DUAL_ENCODERS,
    LENGTH,
    documented_texts,
    write_clip_pixels,
    write_dual_encoder,
)
from tests.factories.models import load, write_clip, write_hub_cache, write_tokenizer
from xclipt.backbones.pixels import PIXEL_FILES
from xclipt.backbones.registry import blueprint, load_backbone
from xclipt.errors import XcliptError
from xclipt.progress import Silent

CAPTIONS = [
    "un chat",
    "a dog runs court noir blanc grand petit",
    "chien",
    "",
    "rouge vert a cat sleeps un grand chien noir",
    "chat " * 60,
]
SHORT = ["un chat", "a dog", "chien"]
SIGLIPS = [kind for kind, written in DUAL_ENCODERS.items() if written.fixed]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a small model of a kind; nobody writes into it."""
    made = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            write_dual_encoder(made[kind], kind)
        return made[kind]

    return folder_of


def library(folder, dtype=torch.float32):
    return AutoModel.from_pretrained(folder, dtype=dtype).eval()


@torch.inference_mode()
def their_texts(folder, kind, captions, dtype=torch.float32):
    given = documented_texts(folder, kind, captions)
    return library(folder, dtype).get_text_features(**given).pooler_output.float()


@torch.inference_mode()
def their_pictures(folder, paths, dtype=torch.float32):
    pixels = AutoImageProcessor.from_pretrained(folder)(
        images=[Image.open(path) for path in paths], return_tensors="pt"
    )
    given = {name: values.to(dtype) for name, values in pixels.items()}
    return library(folder, dtype).get_image_features(**given).pooler_output.float()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    paths = []
    for height, width in ((30, 47), (33, 20)):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(folder / f"{width}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.mark.parametrize("kind", DUAL_ENCODERS)
def test_features_are_those_of_the_library(folder_of, pictures, kind):
    folder = folder_of(kind)
    backbone = load(folder)
    ours = backbone.encode_texts(CAPTIONS)
    torch.testing.assert_close(ours, their_texts(folder, kind, CAPTIONS), atol=1e-5, rtol=0)
    ours = backbone.encode_pictures(pictures)
    torch.testing.assert_close(ours, their_pictures(folder, pictures), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", DUAL_ENCODERS)
def test_features_in_bfloat16_are_those_of_the_library(folder_of, pictures, kind):
    """Of length one, within 1e-2 of the library's in float32, and in bfloat16."""
    folder = folder_of(kind)
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.bfloat16, Silent())
    texts, images = backbone.encode_texts(CAPTIONS), backbone.encode_pictures(pictures)
    for dtype in (torch.float32, torch.bfloat16):
        for ours, theirs in (
            (texts, their_texts(folder, kind, CAPTIONS, dtype)),
            (images, their_pictures(folder, pictures, dtype)),
        ):
            of_length_one = (F.normalize(features, dim=-1) for features in (ours, theirs))
            torch.testing.assert_close(*of_length_one, atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", DUAL_ENCODERS)
def test_config_json_alone_tells_the_shapes(folder_of, tmp_path, kind):
    shutil.copy(folder_of(kind) / "config.json", tmp_path)
    tower, loaded = blueprint(str(tmp_path)).text_tower, load(folder_of(kind)).text_tower
    shapes = {name: p.shape for name, p in tower.named_parameters()}
    assert shapes == {name: p.shape for name, p in loaded.named_parameters()}
    for name in ("max_length", "pooling", "masked", "begins", "module_names", "published"):
        assert getattr(tower, name) == getattr(loaded, name)


@pytest.mark.parametrize("kind", SIGLIPS)
@torch.inference_mode()
def test_siglips_padding_matters_and_ours_is_right(folder_of, kind):
    folder = folder_of(kind)
    ours = F.normalize(load(folder).encode_texts(SHORT), dim=-1)
    model, tokenizer = library(folder), AutoTokenizer.from_pretrained(folder)

    def cosines(*, mask: bool, **padding) -> torch.Tensor:
        given = tokenizer(
            SHORT,
            truncation=True,
            max_length=LENGTH,
            return_attention_mask=True,
            return_tensors="pt",
            **padding,
        )
        masked = {"attention_mask": given["attention_mask"]} if mask else {}
        theirs = model.get_text_features(given["input_ids"], **masked).pooler_output
        return (ours * F.normalize(theirs, dim=-1)).sum(-1)

    whole = {"padding": "max_length"}
    assert cosines(mask=False, padding_side="right", **whole).min() > 1 - 1e-6
    assert cosines(mask=False, padding=True, padding_side="right").min() < 0.9
    assert cosines(mask=True, padding_side="right", **whole).min() < 0.9
    assert cosines(mask=True, padding_side="left", **whole).min() < 0.9


def test_texts_are_cleaned_as_siglip_was_trained(folder_of):
    one, two = load(folder_of("siglip")).tokenizer, load(folder_of("siglip2")).tokenizer
    assert one(["Un  CHAT, noir!"]) == one(["un chat noir"])
    assert two(["Un CHAT"]) == two(["un chat"])
    assert two(["un chat!"]) != two(["un chat"]), "SigLIP 2 keeps punctuation"
    # The library's Gemma tokenizer knows no capital letter.
    theirs = AutoTokenizer.from_pretrained(folder_of("siglip2"))
    assert theirs.unk_token_id in theirs("Un CHAT")["input_ids"]
    assert theirs.unk_token_id not in two(["Un CHAT"])[0]
    assert isinstance(one.tokenizer, SiglipTokenizer)


def test_the_similarity_is_the_models_own(folder_of):
    for kind in DUAL_ENCODERS:
        similarity = load(folder_of(kind)).text_tower.similarity
        expected = (117.3, -12.93) if kind in SIGLIPS else (14.28, None)
        assert (similarity.scale, similarity.bias) == expected


@torch.inference_mode()
def test_metaclip_pools_at_the_first_end_of_text(folder_of):
    tower = load(folder_of("metaclip_2")).text_tower
    once, twice = torch.tensor([[0, 4, 5, 2]]), torch.tensor([[0, 4, 5, 2, 7, 2]])
    features = tower(once, torch.ones_like(once))
    torch.testing.assert_close(tower(twice, torch.ones_like(twice)), features, atol=1e-6, rtol=0)
    other = torch.tensor([[0, 4, 5, 7, 7, 2]])
    assert (tower(other, torch.ones_like(other)) - features).abs().max() > 1e-2


def test_clips_historical_end_of_text(tmp_path):
    """Published configurations say 2, and mean the last of the vocabulary."""
    write_clip(tmp_path)
    features = load(tmp_path).encode_texts(CAPTIONS)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    assert config["text_config"]["eos_token_id"] == 19
    config["text_config"]["eos_token_id"] = 2
    path.write_text(json.dumps(config))
    assert torch.equal(load(tmp_path).encode_texts(CAPTIONS), features)


@pytest.mark.parametrize("kind", ["siglip", "chinese_clip", "siglip2"])
def test_the_fingerprint_is_of_the_tokenizer_whatever_its_files(folder_of, tmp_path, kind):
    before = load(folder_of(kind)).identity.fingerprint
    assert load(folder_of(kind)).measure_fingerprint() == before
    shutil.copytree(folder_of(kind), tmp_path / "copy")
    assert load(tmp_path / "copy").identity.fingerprint == before
    if kind == "siglip":  # another letter in the place of g
        file = tmp_path / "copy/spiece.model"
        data = file.read_bytes()
        assert data.count(b"\n\x01g") == 1
        file.write_bytes(data.replace(b"\n\x01g", b"\n\x01z"))
    elif kind == "chinese_clip":
        file = tmp_path / "copy/vocab.txt"
        file.write_text(file.read_text().replace("chat\nchien", "chien\nchat"))
    else:  # what an unmasked text is padded with is part of its features
        file = tmp_path / "copy/tokenizer_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"pad_token": "<eos>"}))
    assert load(tmp_path / "copy").identity.fingerprint != before


def write_as(model, folder: Path, format: str) -> None:
    """The weights of a folder in another format."""
    (folder / "model.safetensors").unlink()
    if format == "shards":
        model.save_pretrained(folder, max_shard_size="8KB")
        assert (folder / "model.safetensors.index.json").is_file()
        return
    if format.startswith("half"):
        model.to(torch.float16 if format == "half" else torch.bfloat16).save_pretrained(folder)
        return
    state = model.state_dict()
    if format == "bin":
        torch.save(state, folder / "pytorch_model.bin")
        return
    names = sorted(state)
    places = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(names)}
    for shard in set(places.values()):
        torch.save({n: state[n] for n in names if places[n] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )


@pytest.mark.parametrize("format", ["shards", "bin", "bin-shards", "half", "half-bfloat"])
def test_every_format_of_weights(tmp_path, format):
    model = write_dual_encoder(tmp_path, "siglip2")
    before = load(tmp_path)
    write_as(model, tmp_path, format)
    after = load(tmp_path)
    features = after.encode_texts(CAPTIONS)
    assert {p.dtype for p in after.text_tower.parameters()} == {torch.float32}
    if format.startswith("half"):
        torch.testing.assert_close(features, before.encode_texts(CAPTIONS), atol=5e-2, rtol=0)
    else:
        assert torch.equal(features, before.encode_texts(CAPTIONS))
        assert after.identity.fingerprint == before.identity.fingerprint


def test_shards_of_a_hub_id_are_found_in_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    write_as(write_dual_encoder(tmp_path / "model", "siglip"), tmp_path / "model", "shards")
    there = load(tmp_path / "model")
    write_hub_cache(tmp_path / "model", tmp_path / "cache", "someone/tiny-siglip")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    cached = load("someone/tiny-siglip")
    assert cached.identity.fingerprint == there.identity.fingerprint
    assert torch.equal(cached.encode_texts(CAPTIONS), there.encode_texts(CAPTIONS))


def test_damaged_shards_are_refused(tmp_path):
    write_as(write_dual_encoder(tmp_path, "siglip2"), tmp_path, "bin-shards")
    index = tmp_path / "pytorch_model.bin.index.json"
    shard = tmp_path / "pytorch_model-00002-of-00002.bin"
    sound = shard.read_bytes()
    shard.unlink()
    with pytest.raises(XcliptError, match=r"00002\.bin: not there, and pytorch_model\.bin\.index"):
        load(tmp_path)
    (tmp_path / "ran").unlink(missing_ok=True)

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Trap()}, shard)
    with pytest.raises(XcliptError, match="cannot load the siglip"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists(), "no pickle runs"
    shard.write_bytes(sound)
    places = json.loads(index.read_text())
    for wrong, message in (
        ({"weight_map": dict.fromkeys(places["weight_map"], "../other.bin")}, "no file beside it"),
        ({"weight_map": {}}, "has no weight_map"),
        ([1], "not a JSON object"),
    ):
        index.write_text(json.dumps(wrong))
        with pytest.raises(XcliptError, match=message):
            load(tmp_path)


def test_a_folder_of_transformers_5_has_its_own_preprocessing(tmp_path, make_picture):
    """``processor_config.json`` and no ``preprocessor_config.json``."""
    write_clip(tmp_path)
    picture = make_picture(tmp_path / "red.png", "red", (30, 20))
    default = load(tmp_path).read_pixels(picture)
    write_clip_pixels(tmp_path)
    own = load(tmp_path).read_pixels(picture)
    assert (own - default).abs().max() > 0.1
    both, alone = (tmp_path / name for name in PIXEL_FILES)
    both.write_text(json.dumps({"image_processor": json.loads(alone.read_text())}))
    alone.unlink()
    assert torch.equal(load(tmp_path).read_pixels(picture), own)
    both.write_text("{")
    with pytest.raises(XcliptError, match=r"processor_config\.json: not a JSON object"):
        load(tmp_path)


def test_without_settings_only_a_clip_has_a_default(tmp_path):
    write_dual_encoder(tmp_path, "siglip2")
    path = tmp_path / PIXEL_FILES[0]
    settings = json.loads(path.read_text())
    settings["image_processor"]["size"] = {"height": 9, "width": 9}
    path.write_text(json.dumps(settings))
    with pytest.raises(XcliptError, match="makes pictures of 3x9x9, the image tower takes 3x8x8"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(XcliptError, match=r"has no processor_config\.json and no preprocessor_con"):
        load(tmp_path)


def test_what_cannot_be_read_is_told_with_what_can(tmp_path):
    Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(XcliptError, match=r"NaFlex .*google/siglip2-base-patch16-224") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(XcliptError, match="NaFlex"):
        blueprint(str(tmp_path))
    remote = {"model_type": "jina_clip", "auto_map": {"AutoModel": "modeling_clip.JinaCLIPModel"}}
    (tmp_path / "config.json").write_text(json.dumps(remote))
    with pytest.raises(XcliptError, match=r"trust_remote_code would run.*metaclip_2") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_text_tower_without_a_pooler_is_refused(tmp_path):
    from transformers import (
        CLIPVisionConfig,
        DistilBertConfig,
        VisionTextDualEncoderConfig,
    )

    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        CLIPVisionConfig(), DistilBertConfig()
    )
    config.save_pretrained(tmp_path)
    with pytest.raises(XcliptError, match="text tower of type distilbert has no pooler"):
        blueprint(str(tmp_path))


def test_another_models_tokenizer_is_refused(tmp_path):
    write_dual_encoder(tmp_path, "chinese_clip")
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(XcliptError, match=r"tokenizer\.json: not there"):
        load(tmp_path)
    write_dual_encoder(tmp_path / "large", "siglip2")
    (tmp_path / "large/tokenizer.json").unlink()
    (tmp_path / "large/tokenizer_config.json").unlink()
    write_tokenizer(tmp_path / "large")
    config = json.loads((tmp_path / "large/config.json").read_text())
    config["text_config"]["vocab_size"] = 256_000
    (tmp_path / "large/config.json").write_text(json.dumps(config))
    with pytest.raises(XcliptError, match=r"misshapen, first text_model\.embeddings\.token"):
        load(tmp_path / "large")
