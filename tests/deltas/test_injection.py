"""Putting a delta in and taking it out: exact counts, and the backbone untouched."""

import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import (
    ALL_LINEAR,
    AdapterSpec,
    LoraSpec,
    SoftPromptSpec,
    spec_for,
    spec_from,
)
from xclipt.errors import XcliptError

CAPTIONS = ["un chien court", "犬が走っている", "a dog"]


@pytest.fixture
def delta(backbone):
    injected = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family, seed=3)
    yield injected
    injected.remove()


def shaken(delta: InjectedDelta, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in delta.tensors().items()
    }


def test_counts_are_what_arithmetic_says(backbone, delta):
    layers, width, rank = 12, 384, 8
    lora = layers * 2 * rank * (width + width)
    norms = layers * 2 * 2 * width
    assert delta.trainable_parameters == lora + norms == 165_888
    tower = 117_505_920 + 384 * backbone.dim + backbone.dim
    assert backbone.text_parameters == tower
    trainable = [p for p in backbone.text_tower.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == delta.trainable_parameters


def test_without_layernorm_only_lora_is_trained(backbone):
    delta = InjectedDelta(backbone.text_tower, LoraSpec(rank=4, train_layernorm=False), "bert")
    try:
        assert delta.trainable_parameters == 12 * 2 * 4 * 768
    finally:
        delta.remove()


def test_rank_two_of_all_linear_layers_is_as_large_as_rank_eight_of_two(backbone):
    delta = InjectedDelta(backbone.text_tower, LoraSpec(rank=2, modules=ALL_LINEAR), "bert")
    try:
        attention, feed_forward = 4 * (384 + 384), 2 * (384 + 1536)
        norms = 12 * 2 * 2 * 384
        assert delta.trainable_parameters == 12 * 2 * (attention + feed_forward) + norms == 184_320
    finally:
        delta.remove()


def test_a_fresh_delta_is_the_identity(backbone):
    base = backbone.encode_texts(CAPTIONS)
    delta = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family)
    try:
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
    finally:
        delta.remove()


def test_loading_changes_features_and_removing_restores_every_bit(backbone):
    base, fingerprint = backbone.encode_texts(CAPTIONS), backbone.measure_fingerprint()
    modules = [name for name, _ in backbone.text_tower.named_modules()]
    delta = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family)
    tensors = shaken(delta)
    delta.load(tensors)
    changed = backbone.encode_texts(CAPTIONS)
    assert (changed - base).abs().max() > 1e-2
    with delta.bypassed():
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
    assert torch.equal(backbone.encode_texts(CAPTIONS), changed)
    assert backbone.measure_fingerprint() != fingerprint, "the LayerNorms are the delta's now"
    delta.remove()
    assert torch.equal(backbone.encode_texts(CAPTIONS), base)
    assert backbone.measure_fingerprint() == fingerprint
    assert [name for name, _ in backbone.text_tower.named_modules()] == modules
    assert not any(p.requires_grad for p in backbone.text_tower.parameters())


def test_deltas_can_follow_one_another(backbone):
    base = backbone.encode_texts(CAPTIONS)
    for _ in range(3):
        delta = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family)
        delta.load(shaken(delta))
        delta.remove()
    assert torch.equal(backbone.encode_texts(CAPTIONS), base)


def test_lora_computes_w_plus_scaled_ba(backbone, delta):
    tensors = shaken(delta)
    delta.load(tensors)
    name = "encoder.layer.5.attention.self.query"
    query = backbone.text_tower.encoder.get_submodule(name)
    x = torch.randn(2, 7, 384)
    a, b = tensors[f"{name}.lora.lora_A"], tensors[f"{name}.lora.lora_B"]
    merged = query.weight + 16 / 8 * b @ a
    expected = torch.nn.functional.linear(x, merged, query.bias)
    torch.testing.assert_close(query(x), expected, atol=1e-5, rtol=1e-5)


def test_seed_decides_the_initial_values(backbone):
    def initial(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.randint(0, 1000, ()).item())  # whatever came before
        delta = InjectedDelta(backbone.text_tower, LoraSpec(), backbone.family, seed)
        tensors = delta.tensors()
        delta.remove()
        return tensors

    one, same, other = initial(1), initial(1), initial(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_tensors_of_another_tower_are_refused(delta):
    tensors = delta.tensors()
    first = next(iter(tensors))
    with pytest.raises(XcliptError, match="1 differ"):
        delta.load({name: t for name, t in tensors.items() if name != first})
    with pytest.raises(XcliptError, match="the tower wants"):
        delta.load({**tensors, first: torch.zeros(2, 2)})


def test_specs():
    assert spec_from("lora", {"rank": 4}) == LoraSpec(rank=4)
    assert spec_for("adapter", bottleneck=8, rank=None) == AdapterSpec(bottleneck=8)
    assert spec_from("soft-prompt", asdict(SoftPromptSpec(tokens=2))) == SoftPromptSpec(tokens=2)
    with pytest.raises(XcliptError, match="--rank: not a setting of --delta adapter, but of lora"):
        spec_for("adapter", rank=4)
    with pytest.raises(XcliptError, match="--delta prefix: choose lora, adapter"):
        spec_for("prefix")
    with pytest.raises(XcliptError, match="--tokens 0"):
        SoftPromptSpec(tokens=0)
    with pytest.raises(XcliptError, match="'magic' is unknown"):
        spec_from("magic", {})
    with pytest.raises(XcliptError, match="rnak"):
        spec_from("lora", {"rnak": 4})
    with pytest.raises(XcliptError, match="--rank 0"):
        LoraSpec(rank=0)
    with pytest.raises(XcliptError, match="--modules some: choose query-value or all-linear"):
        LoraSpec(modules="some")


def test_opendelta_leaves_no_stand_ins_behind():
    code = (
        "import sys; from xclipt.deltas.opendelta import import_opendelta; import_opendelta();"
        "assert 'turtle' not in sys.modules and 'DeltaCenter' not in sys.modules;"
        "from transformers.models.distilbert import modeling_distilbert as d;"
        "assert not hasattr(d, 'MultiHeadSelfAttention')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert import_opendelta().LoraModel.delta_type == "lora"
