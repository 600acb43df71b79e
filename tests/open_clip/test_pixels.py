"""Pictures of transformers' models are Pillow's, also where torchvision is installed."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from tests.factories.dual_encoders import write_dual_encoder
from tests.factories.models import load

KINDS = ("clip", "siglip", "siglip2", "chinese_clip")


@pytest.mark.parametrize("kind", KINDS)
def test_pillows_processor_is_taken(tmp_path, kind):
    write_dual_encoder(tmp_path, kind)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    ours = load(tmp_path).read_pixels(tmp_path / "picture.png")

    def theirs(**backend):
        processor = AutoImageProcessor.from_pretrained(tmp_path, **backend)
        picture = Image.open(tmp_path / "picture.png")
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]

    torch.testing.assert_close(ours, theirs(backend="pil"), atol=0, rtol=0)
    assert (ours - theirs()).abs().max() > 1e-3, "what transformers takes here by itself"
