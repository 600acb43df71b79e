"""The numbers of the catalogue are those of the models that it names."""

import itertools
import json

import pytest
import torch
from torch import nn
from transformers import M2M100Config, XLMRobertaConfig, XLMRobertaModel
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from tests.factories.running import run_xclipt
from xclipt.backbones.catalogue import CATALOGUE
from xclipt.backbones.registry import blueprint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec

ROWS = {one.name: one for one in CATALOGUE}


def siglip2(**text):
    text = {"model_type": "siglip_text_model", "vocab_size": 256_000, **text}
    return {"model_type": "siglip", "text_config": text, "vision_config": {}}


def clip(dim, **text):
    return {"model_type": "clip", "projection_dim": dim, "text_config": text, "vision_config": {}}


LARGE = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SO400M = {"num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304}
CONFIGS = {
    "google/siglip2-base-patch16-224": siglip2(),
    "google/siglip2-large-patch16-256": siglip2(hidden_size=1024, projection_size=1024, **LARGE),
    "google/siglip2-so400m-patch14-384": siglip2(hidden_size=1152, projection_size=1152, **SO400M),
    "facebook/metaclip-2-worldwide-huge-quickgelu": {
        "model_type": "metaclip_2",
        "projection_dim": 1024,
        "text_config": {
            "vocab_size": 901_629,
            "hidden_size": 1024,
            "projection_dim": 1024,
            "max_position_embeddings": 77,
            "eos_token_id": 2,
            **LARGE,
        },
        "vision_config": {},
    },
    "openai/clip-vit-base-patch32": clip(512),
    "openai/clip-vit-large-patch14": clip(
        768, hidden_size=768, intermediate_size=3072, num_attention_heads=12
    ),
}
"""What the publishers' ``config.json`` say of the text side."""


def counted(name, tower):
    row, spec = ROWS[name], LoraSpec()
    assert sum(p.numel() for p in tower.parameters()) == row.text_parameters
    assert AdaptedTower(tower, spec).trainable_parameters == row.delta_parameters
    assert tower.max_length in (row.tokens, None) or name == "builtin"


@pytest.mark.parametrize("name", [name for name in ROWS if "/" not in name])
def test_by_short_name(name):
    counted(name, blueprint(name).text_tower)


@pytest.mark.parametrize("name", CONFIGS)
def test_by_config(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    counted(name, blueprint(str(tmp_path)).text_tower)


def numbers(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "width", "layers", "ffn", "projection"),
    [
        ("laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", 768, 12, 3072, (640, 512)),
        (
            "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
            *(1024, 24, 4096, (1024, 1024)),
        ),
        ("visheratin/nllb-siglip-mrl-base", 1024, 12, 4096, (768,)),
        ("visheratin/nllb-siglip-mrl-large", 1024, 24, 8192, (1152,)),
    ],
)
def test_open_clips_from_their_parts(name, width, layers, ffn, projection):
    """Without open_clip: the encoder by transformers, and projections without biases."""
    with torch.device("meta"):
        if "nllb" in name:
            sizes = {"d_model": width, "encoder_layers": layers, "encoder_ffn_dim": ffn}
            encoder = M2M100Encoder(M2M100Config(vocab_size=256_206, **sizes))
        else:
            settings = XLMRobertaConfig(
                vocab_size=250_002,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=width // 64,
                intermediate_size=ffn,
                max_position_embeddings=514,
                type_vocab_size=1,
            )
            encoder = XLMRobertaModel(settings, add_pooling_layer=False)
        ends = (width, *projection)
        heads = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(ends)]
    row = ROWS[name]
    assert row.text_parameters == numbers(encoder) + sum(map(numbers, heads))
    assert row.dim == projection[-1]
    # Query and value of every layer at rank 8, and two LayerNorms.
    assert row.delta_parameters == layers * (2 * 8 * 2 * width + 2 * 2 * width)


def test_the_command_lists_them():
    run = run_xclipt("backbones")
    assert run.code == 0
    for name in ROWS:
        assert name in run.out
    rows = run_xclipt("backbones", "--json").json()["backbones"]
    assert [row["name"] for row in rows] == list(ROWS)
    assert rows[1]["delta_parameters"] == 884_736 and round(rows[1]["percent"], 3) == 0.158
