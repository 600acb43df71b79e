"""A delta in a copy of the tower: exact counts, shared weights, and the backbone never touched."""

import pytest
import torch

from tests.factories.deltas import shaken
from tests.factories.specs import IDENTITIES, SPECS
from tests.factories.tiny import tiny_backbone
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower, require_fit
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.training.recipe import RECIPES

CAPTIONS = ["un chat", "a dog runs court noir", "chien", ""]


def adapt(backbone, spec, seed=1) -> AdaptedTower:
    return AdaptedTower(backbone.text_tower, spec, seed, backbone.tokenizer)


def train(backbone, delta, steps=3) -> None:
    optimiser = torch.optim.Adam(delta.parameters(), lr=1e-2)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(CAPTIONS), backbone.device)
    for _ in range(steps):
        optimiser.zero_grad()
        (delta.tower(ids, mask) ** 2).sum().backward()
        optimiser.step()


def structure(tower: TextTower):
    """What there is of a tower beside its weights' values, ``forward`` and hooks included."""
    modules = [
        (name, type(module), module.training, sorted(vars(module)), len(module._forward_hooks))
        for name, module in tower.named_modules()
    ]
    tensors = [
        (name, tensor.data_ptr(), tensor.requires_grad, tensor.grad is None)
        for name, tensor in tower.state_dict(keep_vars=True).items()
    ]
    return modules, tensors, tower.prompt


@pytest.mark.parametrize("name", SPECS)
def test_the_backbones_own_tower_is_never_touched(small, name):
    base, tower = small.encode_texts(CAPTIONS), small.text_tower
    weights = {n: tensor.clone() for n, tensor in tower.state_dict().items()}
    before, fingerprint = structure(tower), small.measure_fingerprint()

    def untouched() -> None:
        assert structure(tower) == before
        after = tower.state_dict()
        assert all(torch.equal(after[n], tensor) for n, tensor in weights.items())
        assert torch.equal(small.encode_texts(CAPTIONS), base)
        assert small.measure_fingerprint() == fingerprint

    delta = adapt(small, SPECS[name])
    untouched()
    delta.load(shaken(delta))
    changed = delta.within(small).encode_texts(CAPTIONS)
    assert (changed - base).abs().max() > 1e-3
    untouched()
    train(small, delta)
    assert (delta.within(small).encode_texts(CAPTIONS) - changed).abs().max() > 1e-3
    untouched()


@pytest.mark.parametrize("name", SPECS)
def test_another_delta_and_back_are_the_same_bits(small, name):
    captions = ["un chat noir", "un grand chien court", "un"]
    frozen = small.encode_texts(captions)
    towers = []
    for seed in (1, 2):
        delta = adapt(small, SPECS[name], seed)
        train(small, delta, steps=seed)
        towers.append(delta.within(small))
    first, second = (tower.encode_texts(captions) for tower in towers)
    assert not torch.equal(first, second)
    for _ in range(2):
        assert torch.equal(towers[0].encode_texts(captions), first)
        assert torch.equal(towers[1].encode_texts(captions), second)
        assert torch.equal(small.encode_texts(captions), frozen)


@pytest.mark.parametrize("name", SPECS)
def test_the_copy_shares_all_but_what_the_kind_trains(small, name):
    delta = adapt(small, SPECS[name])
    own = small.text_tower
    base = {n: t.data_ptr() for n, t in (*own.named_parameters(), *own.named_buffers())}
    trained = {parameter.data_ptr() for parameter in delta.parameters()}
    copied = dict(delta.tower.named_parameters()) | dict(delta.tower.named_buffers())
    assert base.keys() <= copied.keys()
    for place, tensor in copied.items():
        own = tensor.data_ptr() in trained
        assert own == tensor.requires_grad
        assert own or tensor.data_ptr() == base[place], place
    assert not trained & set(base.values())
    assert sum(p.numel() for p in copied.values() if p.requires_grad) == delta.trainable_parameters


@pytest.mark.parametrize("name", SPECS)
def test_what_is_saved_is_all_there_is(small, name):
    one, other = adapt(small, SPECS[name], seed=1), adapt(small, SPECS[name], seed=2)
    one.load(shaken(one))
    features = one.within(small).encode_texts(CAPTIONS)
    other.load(one.tensors())
    assert torch.equal(other.within(small).encode_texts(CAPTIONS), features)
    assert torch.equal(one.within(small).encode_texts(CAPTIONS), features), "they are apart"


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_fresh_delta_is_the_identity_and_learns_from_the_first_step(small, name):
    delta = adapt(small, SPECS[name])
    base, fresh = small.encode_texts(CAPTIONS), delta.tensors()
    features = delta.within(small).encode_texts(CAPTIONS)
    torch.testing.assert_close(features, base, atol=1e-6, rtol=0)
    train(small, delta)
    assert (delta.within(small).encode_texts(CAPTIONS) - base).abs().max() > 1e-3
    idle = [n for n, t in delta.tensors().items() if ".adapter" in n and torch.equal(t, fresh[n])]
    assert not idle, "zero in one factor does not keep the other from learning"


@pytest.mark.parametrize("name", SPECS)
def test_every_tensor_learns(small, name):
    delta = adapt(small, SPECS[name], seed=2)  # with some all ReLUs of a compacter are closed
    delta.load(shaken(delta))
    ids, mask = small.tokenizer.pad(small.tokenizer(CAPTIONS), small.device)
    (delta.tower(ids, mask) ** 2).sum().backward()
    idle = [n for n, p in delta.named_parameters().items() if p.grad is None or not p.grad.any()]
    # Adding the same to every key leaves attention as it is, and key biases do nothing else.
    assert not [n for n in idle if "key.bias" not in n and "k_proj.bias" not in n]


def test_on_the_builtin_backbone_a_fresh_lora_changes_no_bit_and_a_shaken_one_only_its_copy(
    backbone,
):
    captions = ["un chien court", "犬が走っている", "a dog"]
    base = backbone.encode_texts(captions)
    delta = adapt(backbone, LoraSpec())
    assert torch.equal(delta.within(backbone).encode_texts(captions), base)
    delta.load(shaken(delta, 0.05))
    assert (delta.within(backbone).encode_texts(captions) - base).abs().max() > 1e-2
    assert torch.equal(backbone.encode_texts(captions), base)


@pytest.mark.parametrize(
    ("spec", "lora"),
    [
        (LoraSpec(), 12 * 2 * 8 * (384 + 384)),
        # As large as rank 8 of two projections.
        (LoraSpec(rank=2, modules=ALL_LINEAR), 12 * 2 * (4 * (384 + 384) + 2 * (384 + 1536))),
        (LoraSpec(rank=4, train_layernorm=False), 12 * 2 * 4 * (384 + 384)),
    ],
)
def test_counts_are_what_arithmetic_says(spec, lora):
    norms = spec.train_layernorm * 12 * 2 * 2 * 384
    assert AdaptedTower(blueprint("builtin").text_tower, spec).trainable_parameters == lora + norms


PAPER = [
    (LoraSpec(), 884_736, 0.158),
    (LoraSpec(**RECIPES["paper-scripts"].lora), 1_082_112, 0.193),
    (AdapterSpec(), 2_507_904, 0.447),
    (CompacterSpec(), 261_120, 0.047),
    (SoftPromptSpec(), 4_096, 0.0007),
]


@pytest.fixture(scope="module")
def large():
    """XLM-R large in M-CLIP, by its shapes alone."""
    return blueprint("mclip-l14")


@pytest.mark.parametrize(("spec", "count", "share"), PAPER, ids=[str(n) for _, n, _ in PAPER])
def test_counts_on_xlm_roberta_large_are_the_designs(large, spec, count, share):
    assert large.text_parameters == 560_677_632
    assert AdaptedTower(large.text_tower, spec).trainable_parameters == count
    digits = 4 if share < 0.001 else 3
    assert round(100 * count / large.text_parameters, digits) == share


def test_full_finetuning_trains_all_that_matters(large):
    pooler = 1024 * 1024 + 1024
    count = AdaptedTower(large.text_tower, FullSpec()).trainable_parameters
    assert count == 560_677_632 - pooler


def test_a_tuned_head_adds_the_head(large):
    delta = AdaptedTower(large.text_tower, LoraSpec(tune_head=True))
    assert delta.trainable_parameters == 884_736 + 1024 * 768 + 768


def test_seed_decides_the_initial_values():
    backbone = tiny_backbone()

    def initial(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.randint(0, 1000, ()).item())  # whatever came before
        return adapt(backbone, LoraSpec(), seed).tensors()

    one, same, other = initial(1), initial(1), initial(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_tensors_of_another_tower_are_refused():
    backbone = tiny_backbone()
    delta = adapt(backbone, LoraSpec(rank=2))
    tensors = delta.tensors()
    first = next(iter(tensors))
    less = {name: tensor for name, tensor in tensors.items() if name != first}
    with pytest.raises(XcliptError, match=f"1 differ, first {first}"):
        delta.load(less)
    with pytest.raises(XcliptError, match="the tower wants"):
        delta.load({**tensors, first: torch.zeros(2, 2)})
    for wrong, part in (
        (less, f"DIR: 1 tensors do not fit this backbone, first {first}: missing"),
        ({**tensors, "more": torch.zeros(1)}, "first more: .* the tower wants none"),
        ({**tensors, first: torch.zeros(2, 2)}, r"\(2, 2\), the tower wants \(2, 16\)"),
        ({**tensors, first: tensors[first] / 0}, f"{first} holds values that are not finite"),
    ):
        with pytest.raises(XcliptError, match=part):
            require_fit("DIR", backbone.text_tower, delta.spec, wrong)
    require_fit("DIR", backbone.text_tower, delta.spec, tensors)
