"""Each kind by itself: its settings, and what it computes."""

import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from tests.factories.deltas import made_manifest, shaken
from tests.factories.dual_encoders import LENGTH
from tests.factories.models import load, write_clip
from tests.factories.tiny import tiny_backbone
from xclipt.artifacts.directory import StoredDelta
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.kinds import KINDS, PartialSpec, spec_from, stored_spec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields
from xclipt.export.exchange import ExportJob

BENDS = "relu, gelu_new, gelu_orig, leakyrelu, swish, tanh"


def adapt(backbone, spec, seed=1) -> AdaptedTower:
    return AdaptedTower(backbone.text_tower, spec, seed, backbone.tokenizer)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_manifests_plain_values_give_the_spec_again(kind):
    spec = replace(kind(), tune_head=True, hard_prompt="une photo :")
    assert spec_from(spec.kind, asdict(spec)) == spec
    assert spec.prompted("un chat") == "une photo : un chat"
    assert kind().prompted("un chat") == "un chat"
    assert spec.architecture == replace(kind(), tune_head=True)


def test_an_unknown_kind_is_one_clear_error_everywhere(tmp_path):
    told = "kind 'nonsense': choose lora, adapter, compacter, soft-prompt, bitfit, full-finetune"
    manifest = replace(made_manifest(tiny_backbone().identity, LoraSpec()), kind="nonsense")
    delta = StoredDelta(manifest, tmp_path, current=True)

    def no_backbone():
        raise AssertionError("the kind is looked at first")

    for attempt in (
        lambda: spec_from("nonsense", {}),
        lambda: PartialSpec("nonsense"),
        lambda: delta.spec,
        lambda: delta.spec.prompted("un chat"),
        lambda: card_fields(ExportJob(delta, tmp_path, no_backbone, "name", tmp_path)),
    ):
        with pytest.raises(XcliptError) as caught:
            attempt()
        assert str(caught.value).endswith(told)
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.yaml'}: ")


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("adapter", {"rank": 4}, "rank: is no setting of a adapter delta; it is of lora"),
        ("lora", {"rnak": 4}, "rnak: is no setting of a lora delta; it is unknown"),
        ("lora", {"tokens": 4}, "tokens: is no setting of a lora delta; it is of soft-prompt"),
        ("lora", {"rank": 2.5}, "rank '2.5': must be a whole number"),
        ("lora", {"alpha": math.nan}, "alpha 'nan': must be a finite number"),
        ("adapter", {"bottleneck": math.inf}, "bottleneck 'inf': must be a finite number"),
        ("adapter", {"bottleneck": True}, "bottleneck 'True': must be a whole number"),
        ("lora", {"rank": 0}, "rank '0': must be at least 1"),
        ("adapter", {"non_linearity": "gelu"}, f"non_linearity 'gelu': choose {BENDS}"),
        ("compacter", {"non_linearity": "gelu"}, f"non_linearity 'gelu': choose {BENDS}"),
        ("soft-prompt", {"tokens": 0}, "tokens '0': must be at least 1"),
    ],
)
def test_settings_are_checked_and_a_wrong_name_is_told_whose_it_is(kind, setting, message):
    for attempt in (spec_from, PartialSpec):
        with pytest.raises(XcliptError) as caught:
            attempt(kind, setting)
        assert str(caught.value) == message


def test_what_nobody_names_is_as_the_start_is():
    start = LoraSpec(rank=3, train_layernorm=False)
    assert PartialSpec().completed(start) == start
    assert PartialSpec("lora", {"hard_prompt": "a"}).completed(start) == replace(
        start, hard_prompt="a"
    )
    assert PartialSpec("lora", {"tune_head": True}).completed(None) == LoraSpec(tune_head=True)
    # Another architecture could not begin from it.
    assert PartialSpec("lora", {"alpha": 4}).completed(start) == LoraSpec(alpha=4)
    assert PartialSpec("adapter").completed(start) == AdapterSpec()


def test_a_kind_that_does_not_say_how_it_folds_cannot_be_folded():
    @dataclass(frozen=True)
    class New(DeltaSpec):
        kind: ClassVar[str] = "new"
        description = "A new one"

        def insert(self, tower, tokenizer):
            return None

    for spec, reason in ((New(), "nothing says how"), (AdapterSpec(), "bends its input")):
        assert spec.not_foldable
        told = f"a delta of kind '{spec.kind}' cannot be folded: .*{reason}"
        with pytest.raises(XcliptError, match=told):
            spec.folded({}, lambda name: torch.zeros(1))


def test_lora_computes_w_plus_scaled_ba_and_folds_to_it():
    backbone = tiny_backbone()
    delta = adapt(backbone, LoraSpec(rank=2))
    tensors = shaken(delta)
    delta.load(tensors)
    name = "encoder.layer.1.attention.self.query"
    query, own = (t.encoder.get_submodule(name) for t in (delta.tower, backbone.text_tower))
    x = torch.randn(2, 7, 16)
    a, b = tensors[f"{name}.lora.lora_A"], tensors[f"{name}.lora.lora_B"]
    merged = own.weight + 16 / 2 * b @ a
    expected = nn.functional.linear(x, merged, own.bias)
    torch.testing.assert_close(query(x), expected, atol=1e-5, rtol=1e-5)
    folded = delta.spec.folded(tensors, backbone.text_tower.encoder.get_parameter)
    torch.testing.assert_close(folded[f"{name}.weight"], merged)
    norm = "encoder.layer.1.output.LayerNorm.weight"
    assert folded[norm] is tensors[norm]


def test_adapters_compute_what_their_docstring_says():
    backbone = tiny_backbone()
    delta = adapt(backbone, AdapterSpec(bottleneck=4))
    delta.load(shaken(delta))
    name = "encoder.layer.1.attention.output.dense"
    module, own = (t.encoder.get_submodule(name) for t in (delta.tower, backbone.text_tower))
    weights = {k: v for k, v in delta.tensors().items() if k.startswith(f"{name}.adapter")}
    down, d, up, u = (
        weights[f"{name}.adapter.modulelist.{part}.{kind}"]
        for part in ("down_proj", "up_proj")
        for kind in ("weight", "bias")
    )
    x = torch.randn(2, 5, 16)
    h = nn.functional.linear(x, own.weight, own.bias)
    expected = h + nn.functional.gelu(h @ down.T + d, approximate="tanh") @ up.T + u
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_the_prompt_stands_after_the_first_token_and_the_mask_grows(request, family):
    """Written out with ``inputs_embeds``, as the paper's code has it."""
    backbone = tiny_backbone() if family == "bert" else request.getfixturevalue("roberta")
    encoder = backbone.text_tower.encoder
    rows = backbone.tokenizer(["un chat", "a dog runs"])
    ids, mask = backbone.tokenizer.pad(rows, backbone.device)
    words = encoder.embeddings.word_embeddings(ids).detach()
    for pool in (True, False):
        delta = adapt(backbone, SoftPromptSpec(tokens=3, pool_prompt=pool))
        (vectors,) = delta.tensors().values()
        assert vectors.shape == (3, 16)
        with torch.inference_mode():
            ours = delta.tower(ids, mask)
        assert mask.shape == ids.shape, "the caller's mask is the caller's"
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
            theirs = backbone.text_tower.head(pooled)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_prompt_positions_are_roberta_positions(roberta):
    """With padding beside it, a prompted caption has the features that it has alone."""
    tower = adapt(roberta, SoftPromptSpec()).tower
    rows = roberta.tokenizer(["un chat", "un grand chien noir court a cat sleeps"])
    with torch.inference_mode():
        together = tower(*roberta.tokenizer.pad(rows, roberta.device))
        alone = tower(*roberta.tokenizer.pad(rows[:1], roberta.device))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


def test_a_prompt_starts_from_its_text():
    backbone = tiny_backbone()
    (vectors,) = adapt(backbone, SoftPromptSpec(tokens=3, prompt_init="a cat")).tensors().values()
    ids = backbone.tokenizer(["a cat"])[0][1:-1]
    words = backbone.text_tower.encoder.embeddings.word_embeddings.weight
    assert torch.equal(vectors, words[[ids[0], ids[1], ids[0]]])
    (drawn,) = adapt(backbone, SoftPromptSpec(tokens=25)).tensors().values()
    assert 0.015 < drawn.std() < 0.025
    with pytest.raises(XcliptError, match="prompt_init '   ': no token of it"):
        adapt(backbone, SoftPromptSpec(prompt_init="   "))


def test_a_caption_that_fills_the_tower_makes_room_for_the_prompt(tmp_path):
    write_clip(tmp_path)
    backbone = load(tmp_path)
    delta = adapt(backbone, SoftPromptSpec(tokens=4))
    seen = []
    delta.tower.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    delta.within(backbone).encode_texts(["chat " * 100, "chat"])
    long, end = seen[0][0], backbone.tokenizer(["chat"])[0][-1]
    assert len(long) == 20 and long[-1] == end and (long[:-1] != end).all()


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_a_prompt_comes_out_of_the_padding_of_a_tower_of_one_length(loaded, kind):
    """Total and pooled position stay; only what does not fit beside the prompt is cut."""
    backbone = loaded(kind)
    (end,), padding = backbone.tokenizer([""])[0], backbone.tokenizer.tokenizer.pad_token_id
    delta = adapt(backbone, SoftPromptSpec(tokens=4))
    vectors = next(iter(delta.tensors().values()))
    seen = []
    delta.tower.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    delta.tower.encoder.get_input_embeddings().register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    texts = ["a cat", " ".join("a cat" for _ in range(20))]
    with torch.inference_mode():
        delta.tower(*backbone.tokenizer.pad(backbone.tokenizer(texts), backbone.device))
    given, words = seen
    assert "attention_mask" not in given
    ids = given["input_ids"]
    assert ids.shape == (2, LENGTH)
    short, long = backbone.tokenizer(texts)
    assert ids[0, 4:].tolist() == [*short, *[padding] * (LENGTH - 4 - len(short))]
    assert ids[1, 4:].tolist() == [*long[: LENGTH - 5], end]
    table = backbone.text_tower.encoder.get_input_embeddings().weight
    expected = torch.cat([vectors.expand(2, -1, -1), table[ids[:, 4:]]], 1)
    assert torch.equal(words, expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CompacterSpec(reduction=3), "reduction '3': the tower's width 16"),
        (CompacterSpec(reduction=16), "reduction '16'"),
        (SoftPromptSpec(tokens=100), "tokens '100': the tower has 40 positions"),
    ],
)
def test_settings_that_do_not_suit_the_tower_are_refused(roberta, spec, message):
    with pytest.raises(XcliptError, match=message):
        adapt(roberta, spec)


def test_bitfit_trains_the_biases_alone(roberta):
    delta = adapt(roberta, BitFitSpec())
    assert delta.named_parameters() and all(n.endswith(".bias") for n in delta.named_parameters())
    assert not any(name.startswith("pooler") for name in delta.named_parameters())
    folded = delta.spec.folded(shaken(delta), roberta.text_tower.encoder.get_parameter)
    assert folded.keys() == delta.named_parameters().keys()
    with_norms = adapt(roberta, BitFitSpec(train_layernorm=True)).named_parameters()
    more = with_norms.keys() - delta.named_parameters().keys()
    assert more and all(name.endswith("LayerNorm.weight") for name in more)


@pytest.mark.parametrize(
    ("kind", "nearest"), [("prefix", "soft-prompt"), ("parallel_adapter", "adapter")]
)
def test_what_opendelta_has_besides_is_refused_with_the_nearest_kind(kind, nearest):
    with pytest.raises(XcliptError, match=f"xclipt does not; nearest is {nearest}; choose lora"):
        PartialSpec(kind)


def test_a_pooler_that_is_read_is_trained(loaded, roberta):
    pooler = {"pooler.dense.weight", "pooler.dense.bias"}
    read = loaded("vision-text-dual-encoder")
    for backbone, there in ((read, pooler), (roberta, set())):
        own = dict(backbone.text_tower.encoder.named_parameters()).keys()
        assert pooler <= own
        for spec in (BitFitSpec(), FullSpec()):
            wanted = {n for n in there if isinstance(spec, FullSpec) or n.endswith("bias")}
            assert adapt(backbone, spec).named_parameters().keys() & pooler == wanted


def test_opendelta_leaves_no_stand_ins_behind():
    assert import_opendelta().LoraModel.delta_type == "lora"
    assert not {"turtle", "DeltaCenter", "transformers.deepspeed"} & sys.modules.keys()
    from transformers.models.t5 import T5ForConditionalGeneration
    from transformers.models.t5.modeling_t5 import T5Attention

    assert issubclass(T5ForConditionalGeneration, torch.nn.Module)
    assert issubclass(T5Attention, torch.nn.Module)


def test_a_soft_prompt_is_as_long_as_the_text_that_it_starts_from():
    backbone = tiny_backbone()
    assert SoftPromptSpec().tokens == 4 and SoftPromptSpec(tokens=2).tokens == 2
    spec = SoftPromptSpec(prompt_init="a cat runs")
    counted = spec.counted(backbone.tokenizer)
    assert counted == SoftPromptSpec(prompt_init="a cat runs", tokens=3) != spec
    delta = adapt(backbone, spec)
    assert delta.spec == counted and delta.trainable_parameters == 3 * 16
    (vectors,) = delta.tensors().values()
    ids = backbone.tokenizer.tokenizer("a cat runs", add_special_tokens=False)["input_ids"]
    words = backbone.text_tower.encoder.get_input_embeddings().weight
    assert torch.equal(vectors, words[ids])
    # A number that is given stays, and so does a spec that is whole.
    longer = SoftPromptSpec(prompt_init="a cat runs", tokens=5)
    assert adapt(backbone, longer).trainable_parameters == 5 * 16
    assert LoraSpec().counted(backbone.tokenizer) == LoraSpec()


def test_without_a_tokenizer_the_length_must_be_given():
    backbone, spec = tiny_backbone(), SoftPromptSpec(prompt_init="a cat")
    assert spec.counted(None) is spec
    with pytest.raises(XcliptError, match="tokens: without a tokenizer, as in a dry run"):
        AdaptedTower(backbone.text_tower, spec)
    with pytest.raises(XcliptError, match="prompt_init ' ': no token of it is a word's"):
        adapt(backbone, SoftPromptSpec(prompt_init=" "))
    with pytest.raises(XcliptError, match=r"tokens '2\.5': must be a whole number"):
        SoftPromptSpec(tokens=2.5)


@pytest.mark.parametrize("kind", ["adapter", "compacter"])
def test_a_manifest_from_before_the_non_linearity_was_stored_had_gelu(kind):
    before = asdict(KINDS[kind]())
    del before["non_linearity"]
    assert stored_spec(kind, before).non_linearity == "gelu_new"
    assert stored_spec(kind, before | {"non_linearity": "tanh"}).non_linearity == "tanh"
    assert spec_from("compacter", {}).non_linearity == "relu"
