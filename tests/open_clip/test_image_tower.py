"""B-16-plus's image tower through open_clip itself: its architecture, its weights, its pixels."""

import os
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from tests.factories.models import (
    load,
    roberta_settings,
    write_hub_cache,
    write_mclip,
    write_tokenizer,
)

NAME, WEIGHTS = "ViT-B-16-plus-240", "laion400m_e32"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The whole model at its real size, and a hub cache that holds its weights."""
    torch.manual_seed(0)
    model = open_clip.create_model(NAME).eval()
    repository, file = open_clip.get_pretrained_cfg(NAME, WEIGHTS)["hf_hub"].rsplit("/", 1)
    folder = tmp_path_factory.mktemp("weights")
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / (file or "open_clip_model.safetensors"),
    )
    cache = tmp_path_factory.mktemp("hub")
    write_hub_cache(folder, cache, repository)
    return model, cache


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate([(300, 400, 3), (251, 240, 3), (500, 333, 3), (240, 240, 3)]):
        # Blocks, not noise: resampling must matter, and must not drown in rounding.
        coarse = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(shape[1::-1], Image.Resampling.BICUBIC)
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    return paths


def by_hand(picture):
    """Shorter edge to 240 by bicubic, centre crop, OpenAI's mean and deviation."""
    scale = 240 / min(picture.size)
    small = picture.resize([int(n * scale) for n in picture.size], Image.Resampling.BICUBIC)
    left, top = (round((n - 240) / 2) for n in small.size)
    pixels = np.array(small.crop((left, top, left + 240, top + 240)))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return (torch.tensor(pixels).permute(2, 0, 1) / 255 - mean) / deviation


def test_features_and_pixels_are_open_clips(published, pictures, tmp_path, monkeypatch):
    model, cache = published
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    write_mclip(tmp_path / "mclip", roberta_settings(), dim=640)
    write_tokenizer(tmp_path / "mclip")
    # No folder of its own for the image tower: it is the published one of 640 dimensions.
    backbone = load(tmp_path / "mclip")
    assert backbone.dim == 640 and backbone.identity.revision == "local+laion400m_e3"
    theirs = torch.stack([by_hand(Image.open(path)) for path in pictures])
    ours = torch.stack([backbone.read_pixels(path) for path in pictures])
    assert ours.shape == (4, 3, 240, 240)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    with torch.inference_mode():
        expected = model.encode_image(theirs)
    torch.testing.assert_close(backbone.encode_pictures(pictures), expected, atol=1e-4, rtol=1e-4)
    assert expected.std(0).mean() > 1e-3, "the pictures differ, and so do their features"


def test_without_the_weights_it_is_told_what_to_do(tmp_path):
    # HF_HUB_OFFLINE is read when the hub's library is imported.
    code = (
        "import sys\n"
        "from xclipt.backbones.clip import load_image_side\n"
        "from xclipt.errors import XcliptError\n"
        "try: load_image_side(sys.argv[1])\n"
        "except XcliptError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code, f"open_clip:{NAME}/{WEIGHTS}"],
        **{"capture_output": True, "text": True, "check": True, "env": environment},
    )
    assert len(run.stdout.strip().splitlines()) == 1
    assert run.stdout.startswith(f"open_clip {NAME}/{WEIGHTS}: cannot load")
