"""The numbers of the catalogue are those of the models that it names."""

import itertools

import pytest
import torch
from torch import nn
from transformers import M2M100Config, XLMRobertaConfig, XLMRobertaModel
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from tests.conftest import REPOSITORY
from tests.factories.running import run_xclipt
from xclipt.backbones import registry
from xclipt.backbones.catalogue import CATALOGUE
from xclipt.backbones.registry import blueprint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec

ROWS = {one.name: one for one in CATALOGUE}


KINDS = {
    "LoRA": LoraSpec(),
    "of all layers": LoraSpec(modules=ALL_LINEAR),
    "with head": LoraSpec(tune_head=True),
    "adapter": AdapterSpec(),
    "compacter": CompacterSpec(),
    "soft prompt": SoftPromptSpec(),
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def fetch(repo, *_arguments, **_options):
        raise AssertionError(f"{repo} was asked for")

    monkeypatch.setattr(registry, "fetch", fetch)


@pytest.mark.parametrize("name", ROWS)
def test_by_name(name):
    tower, row = blueprint(name).text_tower, ROWS[name]
    assert numbers(tower) == row.text_parameters
    assert AdaptedTower(tower, LoraSpec()).trainable_parameters == row.delta_parameters
    if row.family in ("SigLIP 2", "MetaCLIP 2", "CLIP", "M-CLIP"):  # others have positions to spare
        assert tower.max_length == row.tokens


@pytest.mark.parametrize(
    "name",
    [
        "google/siglip2-so400m-patch14-384",
        "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
        "visheratin/nllb-siglip-mrl-base",
    ],
)
def test_a_dry_run_needs_no_network(name, tmp_path):
    run = run_xclipt(
        *("train-delta", "--backbone", name, "--lang", "sw", "--shots", "50", "--dry-run"),
        *("--artifacts", tmp_path / "artifacts", "--json"),
    )
    assert run.code == 0, run.err
    (planned,) = run.json()["deltas"]
    assert planned["backbone_parameters"] == ROWS[name].text_parameters
    assert planned["trainable_parameters"] == ROWS[name].delta_parameters


@pytest.mark.slow
def test_the_documented_table_is_exact():
    documented = (REPOSITORY / "xclipt/backbones/BACKBONES.md").read_text()
    for line in table():
        assert line in documented.splitlines(), line


def table():
    """What a delta of each kind weighs: numbers, and per cent of the text tower."""
    yield f"| `--backbone` | text tower | {' | '.join(KINDS)} |"
    for row in CATALOGUE:
        tower = blueprint(row.name).text_tower
        cells = [f"`{row.name}`", f"{row.text_parameters:,}"]
        for spec in KINDS.values():
            numbers = AdaptedTower(tower, spec).trainable_parameters
            cells.append(f"{numbers:,} ({100 * numbers / row.text_parameters:.2g} %)")
        yield f"| {' | '.join(cells)} |"


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
