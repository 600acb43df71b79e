"""XLM-R ViT-H-14's text tower at its own size, random in bfloat16: ``python -m`` with a folder.

The test that runs it is in ``tests/backbones/test_full_size_encoders.py``.
"""

import sys
import tempfile
from pathlib import Path

import open_clip
import torch

from tests.factories.full_size import step_of_each_kind, words_tokenizer
from tests.open_clip.models import save_as_published
from xclipt.backbones.catalogue import CATALOGUE
from xclipt.backbones.mclip import XLM_ROBERTA_LARGE

PUBLISHED = "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"
_VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}


def write(folder: Path) -> None:
    """open_clip's own configuration but for the image tower, which has a few weights."""
    config = open_clip.get_model_config("xlm-roberta-large-ViT-H-14") | {"vision_cfg": _VISION}
    tokenizer = words_tokenizer(XLM_ROBERTA_LARGE["vocab_size"])
    save_as_published(folder, config, tokenizer, XLM_ROBERTA_LARGE, dtype=torch.bfloat16)


if __name__ == "__main__":
    (row,) = [row for row in CATALOGUE if row.name == PUBLISHED]
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as aside:
        notes = step_of_each_kind(Path(aside) / "model", write, row.text_parameters)
    sys.stdout.write("\n".join(notes) + "\n")
