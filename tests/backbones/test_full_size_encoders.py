"""The text towers that people run today at their own sizes, random in bfloat16."""

import sys
from functools import partial

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel

from tests.backbones.test_catalogue import ROWS
from tests.factories.dual_encoders import write_clip_pixels
from tests.factories.full_size import step_of_each_kind, words_tokenizer
from tests.factories.models import vision_settings
from tests.factories.open_clip import run_with_open_clip


def write(name, folder):
    """The whole text side, and an image side of a few weights."""
    described = dict(ROWS[name].config)
    kind = described.pop("model_type")
    # SigLIP's image side has no projection.
    width = ROWS[name].dim if kind == "siglip" else 16
    small = vision_settings(ROWS[name].dim) | {"hidden_size": width}
    config = CONFIG_MAPPING[kind](**described | {"vision_config": small})
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModel.from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    model.save_pretrained(folder)
    words_tokenizer(config.text_config.vocab_size).save_pretrained(folder)
    write_clip_pixels(folder)


def say(capsys, name, notes):
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\n{name}", *(f"  {note}" for note in notes)]) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["google/siglip2-so400m-patch14-384", "facebook/metaclip-2-worldwide-huge-quickgelu"]
)
def test_of_transformers(tmp_path, capsys, alone, name):
    parameters = ROWS[name].text_parameters
    say(capsys, name, step_of_each_kind(tmp_path, partial(write, name), parameters))


@pytest.mark.slow
def test_of_open_clip(tmp_path, capsys, alone):
    notes = run_with_open_clip(["-m", "tests.open_clip.full_size", tmp_path])
    say(capsys, "xlm-roberta-large-ViT-H-14", notes.splitlines())
