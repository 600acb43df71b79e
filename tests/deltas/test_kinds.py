"""Every kind in towers of several families: counts, identity, coming and going without a trace."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import SiglipTextConfig, SiglipTextModel

from tests.models import write_clip, write_mclip_backbone
from tests.tiny import tiny_backbone
from xclipt.backbones.backbone import TextTower
from xclipt.backbones.registry import empty_tower, load_backbone
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import (
    ALL_LINEAR,
    AdapterSpec,
    CompacterSpec,
    FullSpec,
    LoraSpec,
    SoftPromptSpec,
)
from xclipt.errors import XcliptError
from xclipt.progress import Silent

CAPTIONS = ["un chat", "a dog runs court noir", "chien", ""]
SPECS = {
    "lora": LoraSpec(rank=2),
    "lora-with-head": LoraSpec(rank=2, tune_head=True),
    "lora-alone": LoraSpec(rank=2, train_layernorm=False),
    "lora-all-linear": LoraSpec(rank=2, modules=ALL_LINEAR),
    "adapter": AdapterSpec(bottleneck=4),
    "compacter": CompacterSpec(reduction=4),
    "soft-prompt": SoftPromptSpec(tokens=3),
    "soft-prompt-of-text": SoftPromptSpec(tokens=3, prompt_init="a cat", pool_prompt=False),
    "soft-prompt-with-norms": SoftPromptSpec(train_layernorm=True, tune_head=True),
    "full-finetune": FullSpec(),
}
IDENTITIES = [name for name in SPECS if not name.startswith("soft-prompt")]


@pytest.fixture(params=["bert", "xlm-roberta", "clip", "siglip"])
def small(request, tmp_path):
    if request.param == "bert":
        return tiny_backbone()
    if request.param == "siglip":
        return siglip_backbone()
    write = write_clip if request.param == "clip" else write_mclip_backbone
    write(tmp_path)
    return load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())


def siglip_backbone():
    """SigLIP's text tower has CLIP's names, so that CLIP's row is its row."""
    tiny = tiny_backbone()
    settings = SiglipTextConfig(
        vocab_size=tiny.text_tower.encoder.config.vocab_size,
        **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "max_position_embeddings": 20, "projection_size": 16},
    )
    encoder = SiglipTextModel(settings)
    tower = TextTower(encoder, nn.Linear(16, 8), pools_itself=True, max_length=20).eval()
    return replace(tiny, family="clip", text_tower=tower.requires_grad_(False))


def inject(backbone, spec, seed=1):
    return InjectedDelta(backbone.text_tower, spec, backbone.family, seed, backbone.tokenizer)


def shaken(delta, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in delta.tensors().items()
    }


@pytest.mark.parametrize("name", SPECS)
def test_coming_changing_and_going(small, name):
    tower = small.text_tower
    base = small.encode_texts(CAPTIONS)
    before = {n: t.clone() for n, t in tower.state_dict().items()}
    fingerprint = small.measure_fingerprint()
    delta = inject(small, SPECS[name])
    if name in IDENTITIES:
        torch.testing.assert_close(small.encode_texts(CAPTIONS), base, atol=1e-6, rtol=0)
        assert small.measure_fingerprint() == fingerprint, "what a delta adds is not the backbone's"
    trainable = [p for p in tower.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == delta.trainable_parameters
    delta.load(shaken(delta))
    changed = small.encode_texts(CAPTIONS)
    assert (changed - base).abs().max() > 1e-3
    with delta.bypassed():
        assert torch.equal(small.encode_texts(CAPTIONS), base)
    assert torch.equal(small.encode_texts(CAPTIONS), changed)
    tensors = delta.tensors()
    delta.remove()
    after = tower.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert torch.equal(small.encode_texts(CAPTIONS), base)
    assert not any(p.requires_grad for p in tower.parameters())
    again = inject(small, SPECS[name], seed=2)
    again.load(tensors)
    assert torch.equal(small.encode_texts(CAPTIONS), changed), "what was saved is all there is"
    again.remove()


@pytest.mark.parametrize("name", SPECS)
def test_every_tensor_learns(small, name):
    delta = inject(small, SPECS[name])
    delta.load(shaken(delta))
    ids, mask = small.tokenizer.pad(small.tokenizer(CAPTIONS), small.device)
    (small.text_tower(ids, mask) ** 2).sum().backward()
    idle = [n for n, p in delta.named_parameters().items() if p.grad is None or not p.grad.any()]
    # Adding the same to every key leaves attention as it is, and key biases do nothing else.
    assert not [n for n in idle if "key.bias" not in n and "k_proj.bias" not in n]


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_first_step_moves_a_fresh_delta(small, name):
    delta = inject(small, SPECS[name])
    base = small.encode_texts(CAPTIONS)
    optimiser = torch.optim.Adam(delta.parameters(), lr=1e-2)
    ids, mask = small.tokenizer.pad(small.tokenizer(CAPTIONS), small.device)
    for _ in range(3):
        optimiser.zero_grad()
        (small.text_tower(ids, mask) ** 2).sum().backward()
        optimiser.step()
    assert (small.encode_texts(CAPTIONS) - base).abs().max() > 1e-3
    fresh = inject(tiny_backbone(), SPECS[name]).tensors() if small.family == "bert" else {}
    moved = delta.tensors()
    idle = [n for n in fresh if n in moved and ".adapter" in n and torch.equal(moved[n], fresh[n])]
    assert not idle, "zero in one factor does not keep the other from learning"


PAPER = [
    (LoraSpec(), 884_736, 0.158),
    (AdapterSpec(), 2_507_904, 0.447),
    (CompacterSpec(), 261_120, 0.047),
    (SoftPromptSpec(), 4_096, 0.0007),
]


@pytest.mark.parametrize(("spec", "count", "share"), PAPER, ids=[s.kind for s, _, _ in PAPER])
def test_counts_on_xlm_roberta_large_are_the_designs(spec, count, share):
    tower, family = empty_tower("mclip-l14")
    total = sum(p.numel() for p in tower.parameters())
    assert total == 560_677_632
    assert InjectedDelta(tower, spec, family).trainable_parameters == count
    digits = 4 if share < 0.001 else 3
    assert round(100 * count / total, digits) == share


def test_full_finetuning_trains_all_that_matters():
    tower, family = empty_tower("mclip-l14")
    pooler = 1024 * 1024 + 1024
    count = InjectedDelta(tower, FullSpec(), family).trainable_parameters
    assert count == 560_677_632 - pooler


def test_a_tuned_head_adds_the_head():
    tower, family = empty_tower("mclip-l14")
    delta = InjectedDelta(tower, LoraSpec(tune_head=True), family)
    assert delta.trainable_parameters == 884_736 + 1024 * 768 + 768


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_the_prompt_stands_after_the_first_token_and_the_mask_grows(tmp_path, family):
    """Written out with ``inputs_embeds``, as the paper's code has it."""
    backbone = tiny_backbone()
    if family == "xlm-roberta":
        write_mclip_backbone(tmp_path)
        backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    tower, encoder = backbone.text_tower, backbone.text_tower.encoder
    rows = backbone.tokenizer(["un chat", "a dog runs"])
    ids, mask = backbone.tokenizer.pad(rows, backbone.device)
    words = encoder.embeddings.word_embeddings(ids).detach()
    for pool in (True, False):
        delta = inject(backbone, SoftPromptSpec(tokens=3, pool_prompt=pool))
        (vectors,) = delta.tensors().values()
        assert vectors.shape == (3, 16)
        with torch.inference_mode():
            ours = tower(ids, mask)
        assert mask.shape == ids.shape, "the caller's mask is the caller's"
        delta.remove()
        prompt = vectors.expand(2, -1, -1)
        grown = torch.cat([mask[:, :1], torch.ones(2, 3), mask[:, 1:]], 1)
        with torch.inference_mode():
            hidden = encoder(
                inputs_embeds=torch.cat([words[:, :1], prompt, words[:, 1:]], 1),
                attention_mask=grown,
            ).last_hidden_state
            counted = grown.clone()
            counted[:, 1:4] = float(pool)
            pooled = (hidden * counted[..., None]).sum(1) / counted.sum(1, keepdim=True)
            theirs = tower.head(pooled)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_prompt_positions_are_roberta_positions(tmp_path):
    """With padding beside it, a prompted caption has the features that it has alone."""
    write_mclip_backbone(tmp_path)
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    delta = inject(backbone, SoftPromptSpec())
    rows = backbone.tokenizer(["un chat", "un grand chien noir court a cat sleeps"])
    with torch.inference_mode():
        together = backbone.text_tower(*backbone.tokenizer.pad(rows, backbone.device))
        alone = backbone.text_tower(*backbone.tokenizer.pad(rows[:1], backbone.device))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
    delta.remove()


def test_a_prompt_starts_from_its_text():
    backbone = tiny_backbone()
    delta = inject(backbone, SoftPromptSpec(tokens=3, prompt_init="a cat"))
    (vectors,) = delta.tensors().values()
    ids = backbone.tokenizer(["a cat"])[0][1:-1]
    words = backbone.text_tower.encoder.embeddings.word_embeddings.weight
    assert torch.equal(vectors, words[[ids[0], ids[1], ids[0]]])
    delta.remove()
    for text in ("", "   "):
        drawn = inject(backbone, SoftPromptSpec(tokens=50 // 2, prompt_init=text.strip()))
        (vectors,) = drawn.tensors().values()
        assert 0.015 < vectors.std() < 0.025
        drawn.remove()
    with pytest.raises(XcliptError, match="no token of it"):
        inject(backbone, SoftPromptSpec(prompt_init="   "))


def test_a_caption_that_fills_the_tower_makes_room_for_the_prompt(tmp_path):
    write_clip(tmp_path)
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    delta = inject(backbone, SoftPromptSpec(tokens=4))
    seen = []
    backbone.text_tower.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    backbone.encode_texts(["chat " * 100, "chat"])
    long, end = seen[0][0], backbone.tokenizer(["chat"])[0][-1]
    assert len(long) == 20 and long[-1] == end and (long[:-1] != end).all()
    delta.remove()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CompacterSpec(reduction=3), "--reduction 3: the tower's width 16"),
        (CompacterSpec(reduction=16), "--reduction 16"),
        (SoftPromptSpec(tokens=100), "--tokens 100: the tower has 40 positions"),
    ],
)
def test_settings_that_do_not_suit_the_tower_leave_it_alone(tmp_path, spec, message):
    write_mclip_backbone(tmp_path)
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    base = backbone.encode_texts(CAPTIONS)
    with pytest.raises(XcliptError, match=message):
        inject(backbone, spec)
    assert torch.equal(backbone.encode_texts(CAPTIONS), base)


def test_adapters_compute_what_their_docstring_says():
    backbone = tiny_backbone()
    delta = inject(backbone, AdapterSpec(bottleneck=4))
    delta.load(shaken(delta))
    name = "encoder.layer.1.attention.output.dense"
    module = backbone.text_tower.encoder.get_submodule(name)
    weights = {k: v for k, v in delta.tensors().items() if k.startswith(f"{name}.adapter")}
    down, d, up, u = (
        weights[f"{name}.adapter.modulelist.{part}.{kind}"]
        for part in ("down_proj", "up_proj")
        for kind in ("weight", "bias")
    )
    x = torch.randn(2, 5, 16)
    h = nn.functional.linear(x, module.weight, module.bias)
    expected = h + nn.functional.gelu(h @ down.T + d, approximate="tanh") @ up.T + u
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
    delta.remove()
