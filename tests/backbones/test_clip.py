"""CLIP of transformers: its own text tower, its pooling, its pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.factories.models import IMAGE_SIZE, load, write_clip, write_clip_vision
from xclipt.backbones.clip import load_image_side
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import CLIP_MODULES
from xclipt.errors import XcliptError

CAPTIONS = ["un chat", "a dog runs", "chien noir", "un grand chien noir court"]


def test_features_are_those_of_transformers(tmp_path, make_picture):
    model = write_clip(tmp_path)
    backbone = load(tmp_path)
    assert backbone.text_tower.module_names == CLIP_MODULES
    tokenizer = backbone.tokenizer
    for caption, ours in zip(CAPTIONS, backbone.encode_texts(CAPTIONS), strict=True):
        with torch.inference_mode():
            theirs = model.get_text_features(torch.tensor(tokenizer([caption]))).pooler_output
        torch.testing.assert_close(ours[None], theirs, atol=1e-5, rtol=0)
    pictures = [make_picture(tmp_path / f"{c}.png", c, (30, 20)) for c in ("red", "blue")]
    pixels = torch.stack([backbone.read_pixels(path) for path in pictures])
    with torch.inference_mode():
        theirs = model.get_image_features(pixels).pooler_output
    torch.testing.assert_close(backbone.encode_pictures(pictures), theirs, atol=1e-5, rtol=0)


def test_shapes_without_weights(tmp_path):
    write_clip(tmp_path)
    tower = blueprint(str(tmp_path)).text_tower
    assert tower.module_names == CLIP_MODULES
    shapes = {name: p.shape for name, p in tower.named_parameters()}
    assert shapes == {n: p.shape for n, p in load(tmp_path).text_tower.named_parameters()}


def test_pixels_are_clips(tmp_path):
    """Shorter edge to size by bicubic, centre crop, OpenAI's mean and deviation: written out."""
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (30, 47, 3), dtype=np.uint8))
    picture.save(tmp_path / "picture.png")
    write_clip_vision(tmp_path / "model")
    ours = load_image_side(tmp_path / "model").read_pixels(tmp_path / "picture.png")
    width = int(47 * IMAGE_SIZE / 30)
    small = picture.resize((width, IMAGE_SIZE), Image.Resampling.BICUBIC)
    left = (width - IMAGE_SIZE) // 2
    values = torch.tensor(np.array(small)[:, left : left + IMAGE_SIZE]).permute(2, 0, 1) / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    torch.testing.assert_close(ours, (values - mean) / deviation, atol=1e-5, rtol=1e-5)


def test_a_folder_without_tokenizer_or_weights_is_refused(tmp_path):
    write_clip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(XcliptError, match=r"tokenizer\.json: not there"):
        load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(XcliptError, match="no weights"):
        load(tmp_path)
