"""Names, hub ids and folders; without a network each failure is one line that helps."""

import json
import sys
import types
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from tests.factories.models import load, write_hub_cache, write_mclip_backbone
from xclipt.backbones import fingerprint as fingerprints
from xclipt.backbones import mclip, registry
from xclipt.backbones.clip import load_image_side
from xclipt.backbones.registry import blueprint
from xclipt.errors import XcliptError


@pytest.fixture
def offline(tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.mark.parametrize("name", ["mclip-l14", "M-CLIP/LABSE-Vit-L-14", "openai/clip-vit-base-x"])
def test_offline_says_which_repository_and_where_a_copy_may_lie(offline, name):
    repository = "M-CLIP/XLM-Roberta-Large-Vit-L-14" if name == "mclip-l14" else name
    with pytest.raises(XcliptError) as caught:
        load(name)
    told = str(caught.value)
    assert told.startswith(f"{repository}: no config.json")
    assert "(not in the cache, and the hub cannot be reached)" in told
    assert str(offline) in told and "`backbone=FOLDER`" in told and "\n" not in told


def test_a_hub_id_is_found_in_the_cache(tmp_path, offline, monkeypatch):
    folder = write_mclip_backbone(tmp_path / "model")
    (folder / "image").rename(tmp_path / "vision")
    captions = ["un chat", "a dog"]
    write_hub_cache(folder, offline, "someone/tiny-mclip")
    write_hub_cache(tmp_path / "vision", offline, "someone/tiny-vision")
    monkeypatch.setitem(mclip._IMAGE_TOWER_OF_WIDTH, 8, "someone/tiny-vision")
    backbone = load("someone/tiny-mclip")
    assert backbone.identity.id == "someone/tiny-mclip"
    assert backbone.identity.revision == "0123456789ab+0123456789ab"
    assert backbone.encode_texts(captions).shape == (2, 8)


def test_of_the_model_base_only_configuration_and_tokenizer_are_read(
    tmp_path, offline, monkeypatch
):
    """As published: no shapes in ``config.json``, and here no tokenizer beside the weights."""
    folder = write_mclip_backbone(tmp_path / "model")
    expected = load(folder).encode_texts(["un chat", "a dog"])
    base = tmp_path / "base"
    base.mkdir()
    described = json.loads((folder / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(described | {"model_type": "xlm-roberta"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(base / name)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (base / name).write_bytes(b"not to be touched")
    write_hub_cache(base, offline, "someone/base")
    published = {"modelBase": "someone/base", "transformerDimensions": 16, "numDims": 8}
    (folder / "config.json").write_text(json.dumps(published))
    asked, download = [], huggingface_hub.hf_hub_download

    def recorded(repo, name, **settings):
        asked.append((repo, name))
        return download(repo, name, **settings)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", recorded)
    assert torch.equal(load(folder).encode_texts(["un chat", "a dog"]), expected)
    assert {repo for repo, _ in asked} == {"someone/base"}
    assert {"config.json", "tokenizer.json"} <= {name for _, name in asked}
    assert {name for _, name in asked} <= {
        *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    }


def test_an_id_of_a_folder_is_its_full_path(tmp_path, monkeypatch):
    write_mclip_backbone(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert load("model").identity.id == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["resnet", "no/such/folder/at/all", "mclip-xl"])
def test_unknown_names_are_told_what_there_is(name):
    for attempt in (load, blueprint):
        with pytest.raises(XcliptError, match="choose builtin, mclip-l14"):
            attempt(name)


def test_a_folder_in_another_format_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(XcliptError, match="neither M-CLIP"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(XcliptError, match=r"config\.json: cannot read"):
        load(tmp_path)


def test_a_new_family_is_one_row(tmp_path, monkeypatch):
    folder = write_mclip_backbone(tmp_path)
    features = load(folder).encode_texts(["un chat"])
    described = json.loads((folder / "config.json").read_text()) | {"model_type": "other"}
    (folder / "config.json").write_text(json.dumps(described))
    of_its_own = replace(
        mclip.MCLIP,
        name="Other",
        marks="model_type other",
        recognises=lambda config: config.get("model_type") == "other",
    )
    monkeypatch.setattr(registry, "FAMILIES", (of_its_own,))
    assert torch.equal(load(folder).encode_texts(["un chat"]), features)
    assert blueprint(str(folder)).text_parameters == load(folder).text_parameters
    with pytest.raises(XcliptError, match="or a folder of one of: Other"):
        load("nonsense")
    (folder / "config.json").write_text("{}")
    with pytest.raises(XcliptError, match=r"neither Other \(model_type other\)"):
        load(folder)


def test_open_clip_is_optional_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(XcliptError, match=r"pip install 'xclipt\[open-clip\]'"):
        load_image_side("open_clip:ViT-B-16-plus-240/laion400m_e32")


def test_an_open_clip_that_cannot_be_imported_says_why(monkeypatch, tmp_path):
    """As beside a torchvision that was built for another torch."""
    (tmp_path / "open_clip.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    with pytest.raises(XcliptError, match=r"nms does not exist\); install the torchvision"):
        load_image_side("open_clip:ViT-B-16-plus-240/laion400m_e32")


def test_open_clips_image_tower_and_transform_are_taken_as_they_are(
    monkeypatch, make_picture, tmp_path
):
    visual = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 240 * 240, 640))
    visual.output_dim, visual.preprocess_cfg = 640, {"size": (240, 240)}
    asked = []

    def create(name, pretrained):
        asked.append((name, pretrained))
        model = types.SimpleNamespace(visual=visual)
        return model, None, lambda picture: torch.full((3, 240, 240), float(picture.width))

    stand_in = types.SimpleNamespace(create_model_and_transforms=create)
    monkeypatch.setitem(sys.modules, "open_clip", stand_in)
    side = load_image_side("open_clip:ViT-B-16-plus-240/laion400m_e32")
    assert asked == [("ViT-B-16-plus-240", "laion400m_e32")]
    pixels = side.read_pixels(make_picture(tmp_path / "a.png", size=(300, 400)))
    assert pixels.shape == (3, 240, 240) and pixels.max() == 300
    assert side.tower(pixels[None]).shape == (1, side.dim)


def test_numbers_are_looked_at_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(fingerprints, "_PART", 4)
    matrix = torch.zeros(3, 3)
    assert fingerprints.is_finite(matrix)
    for place in range(9):
        spoilt = matrix.clone()
        spoilt.view(-1)[place] = float("nan" if place % 2 else "inf")
        assert not fingerprints.is_finite(spoilt)
