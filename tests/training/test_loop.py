"""The loop: it learns, it is reproducible, it goes on where it was cut off."""

import itertools
import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from tests.factories.deltas import shaken
from tests.factories.tiny import WORDS, tiny_backbone
from xclipt.backbones.text_tower import Similarity
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.training.checkpoint import Checkpoint
from xclipt.training.loop import (
    Evaluated,
    Outcome,
    TrainingState,
    ValidationSet,
    _best,
    fit,
)
from xclipt.training.losses import ALIGNMENTS, contrastive, sigmoid_contrastive
from xclipt.training.pairs import TrainingPairs, rows_of_epochs
from xclipt.training.recipe import (
    PAPER,
    SCHEDULES,
    SENTENCES,
    Recipe,
    recipe_with,
    stored_recipe,
)
from xclipt.training.steps import Part, losses_of

RECIPE = Recipe(
    epochs=5,
    batch_size=4,
    learning_rate=1e-2,
    logit_scale=10,
    align_weight=1,
    evaluations=4,
)


def material(backbone, seed=0):
    generator = torch.Generator().manual_seed(seed)
    texts = [" ".join(pair) for pair in itertools.islice(itertools.combinations(WORDS[:8], 2), 10)]
    partners = [text.replace("chat", "cat").replace("chien", "dog") for text in texts]
    images = torch.randn(10, 8, generator=generator)
    pairs = TrainingPairs(
        images=images,
        tokens=backbone.tokenizer(texts),
        partner_tokens=backbone.tokenizer(partners),
        partner_features=backbone.encode_texts(partners),
    )
    return pairs, ValidationSet(images, backbone.tokenizer(texts), torch.arange(10))


KINDS = [
    LoraSpec(rank=4, tune_head=True),
    AdapterSpec(bottleneck=4),
    CompacterSpec(reduction=4),
    SoftPromptSpec(tokens=2),
    BitFitSpec(),
    FullSpec(),
]


LORA = LoraSpec(rank=4)


def run(
    backbone,
    recipe=RECIPE,
    state=None,
    save=lambda state: None,
    validate=True,
    seed=1,
    spec=LORA,
):
    pairs, validation = material(backbone)
    return fit(
        backbone,
        AdaptedTower(backbone.text_tower, spec, seed),
        [pairs],
        recipe,
        seed,
        [validation] if validate else [],
        state or TrainingState(),
        save,
        Silent().start("", 1),
    )


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_learns_and_leaves_the_backbone_alone():
    backbone = tiny_backbone()
    before = {name: p.clone() for name, p in backbone.text_tower.named_parameters()}
    outcome = run(backbone, replace(RECIPE, epochs=60, patience=100))
    assert outcome.losses[-1] < outcome.losses[0] / 1.2
    assert outcome.chosen.mrr > outcome.base.mrr
    assert same(before, dict(backbone.text_tower.named_parameters()))


def test_what_the_model_decides_of_a_recipe():
    plain, siglip = Similarity(), Similarity(117.3, -12.93)
    own = Recipe().on(siglip)
    assert (own.logit_scale, own.contrastive_loss, own.logit_bias) == (117.3, "softmax", None)
    assert own.on(plain) == own, "once decided, for good"
    assert Recipe().on(plain).logit_scale == PAPER.on(siglip).logit_scale == 100
    asked = Recipe(contrastive_loss="sigmoid")
    assert (asked.on(siglip).logit_scale, asked.on(siglip).logit_bias) == (117.3, -12.93)
    with pytest.raises(XcliptError, match="contrastive_loss 'sigmoid': the backbone has no bias"):
        asked.on(plain)
    with pytest.raises(XcliptError, match="choose auto, softmax, sigmoid"):
        Recipe(contrastive_loss="hinge")
    # A manifest from before there was a choice.
    old = asdict(Recipe().on(plain))
    del old["contrastive_loss"], old["logit_bias"]
    assert stored_recipe(old) == asdict(Recipe().on(plain))


def test_the_sigmoid_loss_is_what_is_minimised():
    backbone = tiny_backbone()
    backbone.text_tower.similarity = Similarity(10.0, -2.0)
    recipe = replace(RECIPE, epochs=30, align_weight=0, logit_scale=None, evaluations=1)
    soft = run(backbone, recipe)
    sigmoid = run(backbone, replace(recipe, contrastive_loss="sigmoid"))
    pairs, _ = material(backbone)
    batch = next(rows_of_epochs(10, recipe.batch_size, 1, filled=True))
    texts = backbone.encode_tokens([pairs.tokens[i] for i in batch])
    images = pairs.images[batch]
    assert soft.losses[0] == pytest.approx(contrastive(images, texts, 10.0).item(), rel=1e-4)
    expected = sigmoid_contrastive(images, texts, 10.0, -2.0).item()
    assert sigmoid.losses[0] == pytest.approx(expected, rel=1e-4)
    assert sum(sigmoid.losses[-3:]) < sum(sigmoid.losses[:3])


def test_the_same_seed_gives_the_same_bytes():
    one, again, other = run(tiny_backbone()), run(tiny_backbone()), run(tiny_backbone(), seed=2)
    assert same(one.tensors, again.tensors)
    assert not same(one.tensors, other.tensors)


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("saves", "dropout", "fused_on"),
    [*((saves, dropout, "cuda") for saves in (1, 2, 3) for dropout in (0.0, 0.3)), (2, 0.3, "cpu")],
)
def test_a_training_that_was_killed_ends_in_the_same_bytes(
    tmp_path, monkeypatch, saves, dropout, fused_on
):
    monkeypatch.setattr("xclipt.training.loop._FUSED_ON", (fused_on,))
    recipe = replace(RECIPE, dropout=dropout, teacher="live")
    whole = run(tiny_backbone(), recipe)
    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key")
    count = itertools.count(1)

    def save_then_die(state):
        checkpoint.save(state)
        if next(count) == saves:
            raise KilledError

    with pytest.raises(KilledError):
        run(tiny_backbone(), recipe, save=save_then_die)
    state = checkpoint.load()
    assert 0 < state.step < whole.steps
    torch.rand(3)  # whatever the global generator has come to
    resumed = run(tiny_backbone(), recipe, state=state, save=checkpoint.save)
    assert same(resumed.tensors, whole.tensors)
    assert resumed.losses == whole.losses
    assert resumed.history == whole.history


def test_a_fused_optimiser_rounds_otherwise_and_no_more(monkeypatch):
    plain = run(tiny_backbone())
    monkeypatch.setattr("xclipt.training.loop._FUSED_ON", ("cpu",))
    fused = run(tiny_backbone())
    assert fused.losses != plain.losses
    assert fused.losses == pytest.approx(plain.losses, rel=1e-3)


@pytest.mark.parametrize("spec", KINDS, ids=[spec.kind for spec in KINDS])
def test_every_kind_learns_and_is_taken_up(tmp_path, spec):
    recipe = replace(RECIPE, epochs=30, patience=100, head_learning_rate=1e-3)
    whole = run(tiny_backbone(), recipe, spec=spec)
    assert sum(whole.losses[-12:]) < sum(whole.losses[:12])
    # The base is the frozen backbone even where a fresh delta is not the identity.
    assert whole.base == run(tiny_backbone(), recipe).base
    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key")

    def save_then_die(state):
        checkpoint.save(state)
        raise KilledError

    with pytest.raises(KilledError):
        run(tiny_backbone(), recipe, save=save_then_die, spec=spec)
    resumed = run(tiny_backbone(), recipe, state=checkpoint.load(), spec=spec)
    assert same(resumed.tensors, whole.tensors) and resumed.losses == whole.losses


def test_the_head_has_a_learning_rate_of_its_own():
    spec = LoraSpec(rank=4, tune_head=True)
    moved = {}
    for rate in (1e-5, 1e-2):
        backbone = tiny_backbone()
        before = backbone.text_tower.head.weight.detach().clone()
        recipe = replace(RECIPE, head_learning_rate=rate)
        outcome = run(backbone, recipe, validate=False, spec=spec)
        moved[rate] = (outcome.tensors["head.weight"] - before).abs().max()
        assert torch.equal(backbone.text_tower.head.weight, before)
    assert 0 < moved[1e-5] < moved[1e-2] / 100


def test_sentences_that_are_drawn_to_one_place_are_near_and_no_better():
    base = Evaluated(0, 90, 0.93, cosine=0.53, loss=0.47)
    drawn = Evaluated(8, 87, 0.91, cosine=0.63, loss=0.52)
    apart = Evaluated(4, 88, 0.92, cosine=0.60, loss=0.43)
    assert _best([base, drawn, apart], RECIPE) is apart
    for chosen, better in ((drawn, False), (apart, True)):
        outcome = Outcome({}, 8, chosen, base, (), ())
        assert outcome.beats_base(RECIPE) is better


def test_the_papers_recipe():
    assert PAPER.steps(50) == 500 and PAPER.steps(10) == 100
    assert (PAPER.align_loss, PAPER.teacher, PAPER.logit_scale) == ("mse", "live", 100)
    steps = PAPER.evaluation_steps(500)
    assert steps == set(range(5, 501, 5)), "every fifth step, as in the paper's code"
    history = [
        Evaluated(i, r1, mrr) for i, (r1, mrr) in enumerate([(1, 9), (5, 1), (5, 2), (3, 8)])
    ]
    assert _best(history, PAPER).step == 2, "recall, the latest of equals"
    assert _best(history, RECIPE).step == 0
    assert PAPER.schedule == "cosine"
    warm = [PAPER.rate(step, 500) for step in (0, 250, 499)]
    assert warm[0] == 1 and warm[1] == pytest.approx(0.5) and 0 < warm[2] < 1e-4
    settings = {"lr": PAPER.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
    one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    adam = torch.optim.Adam([one], **settings)
    adamw = torch.optim.AdamW([other], weight_decay=PAPER.weight_decay, **settings)
    for parameter, optimiser in ((one, adam), (other, adamw)):
        for _ in range(3):
            optimiser.zero_grad()
            (parameter**3).sum().backward()
            optimiser.step()
    assert torch.equal(one, other)


@pytest.mark.parametrize(("pairs", "every"), [(50, 5), (10, 4), (13, 7), (3, 100)])
def test_evaluations_come_as_often_as_in_the_released_code(pairs, every):
    recipe = replace(PAPER, evaluate_every=every)
    steps = recipe.steps(pairs)
    looks = recipe.evaluation_steps(steps)
    # With fewer steps than that the released code has nothing to load in the end.
    assert len(looks) == (50 * math.ceil(pairs / 5) // every or 1)
    assert looks == ({step for step in range(1, steps + 1) if step % every == 0} or {steps})


def test_steps_of_warm_up_are_those_of_transformers():
    recipe = recipe_with(PAPER, schedule="cosine-from-zero", warmup_steps=7)
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimiser, 7, 50)
    for step in range(50):
        assert recipe.rate(step, 50) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        theirs.step()
    assert recipe_with(warmup_steps=0).rate(0, 50) == 1


def test_weight_decay_is_that_of_the_optimiser():
    tensors = {
        name: run(tiny_backbone(), replace(RECIPE, optimiser=name, weight_decay=0.5)).tensors
        for name in ("adam", "adamw")
    }
    plain = run(tiny_backbone(), RECIPE).tensors
    assert not same(tensors["adam"], tensors["adamw"])
    assert not same(tensors["adamw"], plain)
    assert same(run(tiny_backbone(), replace(RECIPE, optimiser="adam")).tensors, plain)


def test_dropout_stays_within_the_step():
    backbone = tiny_backbone()
    delta = AdaptedTower(backbone.text_tower, LORA, 1)
    rows = backbone.tokenizer(["un chat", "a dog"])
    before, state = delta.within(backbone).encode_tokens(rows), torch.get_rng_state()
    with delta.dropout(0.5, "1-1"):
        one = delta.within(backbone).embed_together(rows)
    with delta.dropout(0.5, "1-1"):
        assert torch.equal(delta.within(backbone).embed_together(rows), one)
    with delta.dropout(0.5, "1-2"):
        assert not torch.equal(delta.within(backbone).embed_together(rows), one)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(delta.within(backbone).encode_tokens(rows), before)
    assert not backbone.text_tower.training and not delta.tower.training
    with pytest.raises(XcliptError, match=r"dropout '1\.5': must be below 1"):
        replace(RECIPE, dropout=1.5)


def test_a_constant_rate_rises_and_stays_and_learns_otherwise_than_a_falling_one():
    constant = SCHEDULES["constant"]
    assert [constant(step, 20, 2) for step in (0, 1, 2, 19)] == [1 / 3, 2 / 3, 1, 1]
    assert [constant(step, 20, 0) for step in (0, 19)] == [1, 1]
    falling = run(tiny_backbone(), RECIPE)
    steady = run(tiny_backbone(), replace(RECIPE, schedule="constant"))
    assert any(not torch.equal(steady.tensors[n], t) for n, t in falling.tensors.items())
    with pytest.raises(XcliptError, match="schedule 'linear': choose cosine, cosine-from"):
        replace(RECIPE, schedule="linear")


def test_a_checkpoint_of_another_request_is_ignored(tmp_path):
    path = tmp_path / "training.safetensors"
    run(tiny_backbone(), save=Checkpoint(path, "one").save)
    assert Checkpoint(path, "one").load().step > 0
    assert Checkpoint(path, "other").load().step == 0
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, "one").load().step == 0


def test_without_validation_the_last_weights_are_kept():
    outcome = run(tiny_backbone(), validate=False)
    assert outcome.chosen is None and outcome.history == ()
    assert outcome.steps == RECIPE.steps(10)


def test_the_best_evaluation_is_kept_and_patience_ends_it():
    outcome = run(tiny_backbone(), replace(RECIPE, learning_rate=5.0, evaluations=15, patience=2))
    assert outcome.chosen.mrr == max(e.mrr for e in outcome.history[1:])
    assert outcome.steps < RECIPE.steps(10)


@pytest.mark.parametrize("validate", [True, False])
def test_a_rate_that_is_too_high_is_told(validate):
    recipe = replace(RECIPE, learning_rate=1e30, schedule="constant")
    message = r"diverged at step \d+: .* \(pairs \d+(, \d+){3}\); take a lower `learning_rate` than"
    with pytest.raises(XcliptError, match=message):
        run(tiny_backbone(), recipe, validate=validate)


def breaking_at(monkeypatch, step, break_it):
    """Break something right after the so-manyeth update."""
    count = itertools.count(1)
    update = torch.optim.AdamW.step

    def spoiling(self, *given):
        update(self, *given)
        if next(count) == step:
            break_it(self.param_groups[0]["params"])

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiling)


def overflow(parameters):
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(3e38)


@pytest.mark.parametrize(
    ("step", "saved", "message"),
    [
        (7, 4, r"step 8: loss nan, gradient nan \("),
        (8, 4, r"step 8: weights or features that are not finite \("),
        (15, 11, r"step 15: weights or features that are not finite \("),
    ],
)
def test_what_was_saved_before_is_what_stays(tmp_path, monkeypatch, step, saved, message):
    breaking_at(monkeypatch, step, overflow)
    checkpoint = Checkpoint(tmp_path / "training.safetensors", "key")
    with pytest.raises(XcliptError, match=message):
        run(tiny_backbone(), save=checkpoint.save)
    state = checkpoint.load()
    assert state.step == saved and len(state.losses) == saved
    tensors = [*state.weights.values(), *state.best.values(), *state.optimiser.values()]
    assert tensors and all(tensor.isfinite().all() for tensor in tensors)


def test_the_last_step_is_checked_without_validation_too(monkeypatch):
    breaking_at(monkeypatch, RECIPE.steps(10), overflow)
    with pytest.raises(XcliptError, match="step 15: weights or features that are not finite"):
        run(tiny_backbone(), validate=False)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(monkeypatch):
    moved = []
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: moved.append(1))
    monkeypatch.setattr("xclipt.training.loop.get_total_norm", lambda _: torch.tensor(torch.inf))
    with pytest.raises(XcliptError, match=r"step 1: loss [\d.]+, gradient inf"):
        run(tiny_backbone())
    assert not moved


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"images": torch.full((10, 8), torch.nan)}, "the backbone is damaged"),
        ({"partner_features": torch.full((10, 8), torch.inf)}, "the backbone is damaged"),
        ({}, "nothing is trained yet"),
    ],
)
def test_what_is_not_finite_from_the_start_is_no_matter_of_the_rate(damage, message):
    backbone = tiny_backbone()
    pairs = replace(material(backbone)[0], **damage)
    if not damage:
        torch.nn.init.constant_(backbone.text_tower.head.weight, torch.nan)
    delta = AdaptedTower(backbone.text_tower, LORA, 1)
    nothing = ([], TrainingState(), lambda state: None, Silent().start("", 1))
    with pytest.raises(XcliptError, match=f"at step 1: loss nan.*{message}") as caught:
        fit(backbone, delta, [pairs], RECIPE, 1, *nothing)
    assert "learning_rate" not in str(caught.value)


def test_live_and_frozen_teachers_differ_where_they_should():
    backbone = tiny_backbone()
    pairs, _ = material(backbone)
    delta = AdaptedTower(backbone.text_tower, LoraSpec(rank=4), 1)
    adapted = delta.within(backbone)
    gradients = {}
    for teacher in ("live", "frozen"):
        recipe = replace(RECIPE, teacher=teacher, align_loss="mse", align_weight=1e4)
        loss = losses_of(adapted, [Part(pairs, [0, 1, 2], 1.0)], recipe).total
        grads = torch.autograd.grad(loss, delta.parameters(), allow_unused=True)
        gradients[teacher] = dict(zip(delta.named_parameters(), grads, strict=True))
    # At the start both teachers give the same features, so the loss is the same ...
    norm = "encoder.layer.1.output.LayerNorm.bias"
    live, frozen = gradients["live"][norm], gradients["frozen"][norm]
    # ... and this bias moves text and partner alike: only a frozen partner lets alignment pull it.
    plain = torch.autograd.grad(
        losses_of(adapted, [Part(pairs, [0, 1, 2], 1.0)], replace(RECIPE, align_weight=0)).total,
        [delta.named_parameters()[norm]],
    )[0]
    assert (live - plain).norm() < 1e-3 * (frozen - plain).norm()


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_live_teacher_adds_the_partners_gradient_and_nothing_else(name):
    """grad(live) = grad(frozen) + gradient through the partner alone, for every parameter."""
    backbone = tiny_backbone()
    pairs, _ = material(backbone)
    delta = AdaptedTower(backbone.text_tower, LoraSpec(rank=4, tune_head=True), 1)
    delta.load(shaken(delta, seed=5))
    adapted = delta.within(backbone)
    batch = [4, 0, 7]
    weights = delta.parameters()

    def encode(rows):
        return delta.tower(*backbone.tokenizer.pad([rows[i] for i in batch], "cpu"))

    def gradients(loss):
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return [
            torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)
        ]

    # What the delta makes of the partners now, held fast: what a frozen teacher is to autograd.
    held = adapted.encode_tokens(pairs.partner_tokens)
    pairs = replace(pairs, partner_features=held)
    recipe = replace(RECIPE, align_loss=name, teacher="live", align_weight=3.0)
    parts = [Part(pairs, batch, 1.0)]
    live = gradients(losses_of(adapted, parts, recipe).total)
    text, images = encode(pairs.tokens).detach(), pairs.images[batch]
    through_partner = gradients(
        3 * ALIGNMENTS[name].loss(text, encode(pairs.partner_tokens), images, recipe.logit_scale)
    )
    if ALIGNMENTS[name].moves_partner_alone:
        frozen = gradients(losses_of(adapted, parts, replace(recipe, align_weight=0)).total)
    else:
        frozen = gradients(losses_of(adapted, parts, replace(recipe, teacher="frozen")).total)
    for one, other, partner in zip(live, frozen, through_partner, strict=True):
        torch.testing.assert_close(one, other + partner, rtol=1e-3, atol=1e-5)
    # Both parts are there, or the sum would prove nothing.
    assert sum(g.norm() for g in through_partner) > 1e-2
    assert sum(g.norm() for g in frozen) > 1e-2


def test_a_frozen_teacher_is_not_trained_through():
    backbone = tiny_backbone()
    pairs, _ = material(backbone)
    features = pairs.partner_features.clone().requires_grad_()
    adapted = AdaptedTower(backbone.text_tower, LORA, 1).within(backbone)
    # The tokens of partners are poison: a frozen teacher must not read them.
    poisoned = replace(pairs, partner_tokens=[[10**6]] * 10, partner_features=features)
    recipe = replace(RECIPE, align_loss="mse", teacher="frozen", align_weight=1.0)
    loss = losses_of(adapted, [Part(poisoned, [0, 1, 2], 1.0)], recipe).total
    with torch.no_grad():
        text = adapted.encode_tokens([pairs.tokens[i] for i in (0, 1, 2)])
    (gradient,) = torch.autograd.grad(loss, features)
    expected = torch.zeros_like(features)
    expected[:3] = 2 * (features[:3] - text).detach() / text.numel()
    torch.testing.assert_close(gradient, expected)


def test_the_image_loss_needs_a_live_teacher():
    assert recipe_with(align_loss="image").teacher == "live"
    with pytest.raises(XcliptError, match="teacher 'frozen': `align_loss=image`"):
        recipe_with(align_loss="image", teacher="frozen")


def test_loss_is_contrastive_plus_weighted_alignment():
    backbone = tiny_backbone()
    pairs, _ = material(backbone)
    batch = [4, 2, 7]
    text = backbone.encode_tokens([pairs.tokens[i] for i in batch])
    partner = pairs.partner_features[batch]
    expected = contrastive(pairs.images[batch], text, 10) + 0.5 * ((text - partner) ** 2).mean()
    recipe = replace(RECIPE, align_loss="mse", align_weight=0.5)
    torch.testing.assert_close(
        losses_of(backbone, [Part(pairs, batch, 1.0)], recipe).total, expected
    )


def test_batches_cover_every_pair_once_an_epoch_and_are_full():
    def epochs(filled=True, pairs=10, size=4):
        return [*itertools.islice(rows_of_epochs(pairs, size, 1, filled=filled), 6)]

    batches = epochs()[:3]
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert set().union(*batches) == set(range(10))
    assert all(len(set(batch)) == 4 for batch in batches)
    assert epochs() == epochs() and epochs()[0] != epochs()[3]
    assert all(sorted(batch) == [0, 1, 2] for batch in epochs(pairs=3, size=3))
    short = epochs(filled=False)[:3]
    assert [*map(len, short)] == [4, 4, 2]
    assert sorted(i for batch in short for i in batch) == [*range(10)]


def test_steps_follow_pairs_or_epochs():
    assert [Recipe().steps(n) for n in (1, 10, 50, 500, 29_000)] == [20, 20, 42, 134, 500]
    passes = [SENTENCES.steps(n) for n in (1000, 10_000, 28_000, 1_000_000)]
    assert passes == [190, 939, 2625, 4000]
    assert Recipe(epochs=50, batch_size=5).steps(50) == 500
    assert Recipe(epochs=3, batch_size=50).steps(7) == 3


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_every_alignment_loss_comes_with_its_weight_and_a_teacher_that_it_can_learn_from(name):
    row, recipe = ALIGNMENTS[name], recipe_with(align_loss=name)
    assert recipe.align_weight == row.weight > 0
    assert recipe.teacher == ("live" if row.moves_partner_alone else "frozen")


def test_a_weight_that_is_given_stays():
    assert recipe_with(align_loss="contrastive", align_weight=7).align_weight == 7
    assert recipe_with(PAPER, align_loss="contrastive").align_weight == PAPER.align_weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"align_loss": "magic"}, "align_loss 'magic': choose mse, cosine"),
        ({"teacher": "strict"}, "teacher 'strict': choose live, frozen"),
        ({"partner_captions": "most"}, "partner_captions 'most': choose one, all"),
        ({"epochs": 0}, "epochs '0': must be at least 1"),
        *(
            ({field.name: value}, f"{field.name} '{value}': must be a finite number")
            for field in fields(Recipe)
            if "float" in str(field.type)
            for value in (math.nan, math.inf, -math.inf)
        ),
        ({"learning_rate": -1.0}, "learning_rate '-1.0': must be at least 1e-12"),
    ],
)
def test_recipes_are_checked(change, message):
    with pytest.raises(XcliptError, match=message):
        recipe_with(**change)
