"""What a delta starts from: the shipped start, another delta, or nothing."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.factories.deltas import store_noise
from tests.factories.noting import Noting
from tests.factories.tiny import tiny_backbone, workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.backbones.builtin import WARM_START
from xclipt.backbones.builtin.train_warm_start import (
    WARM_START_SPEC,
    Parallel,
    WarmStartRecipe,
    frozen_targets,
    human_captions,
    photographs,
    train_start,
)
from xclipt.data.registry import open_dataset
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.kinds import PartialSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.metrics import retrieval_ranks, summarise
from xclipt.training import loop
from xclipt.training.recipe import PAPER, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.training.warm_start import AUTO, NONE, WarmStarts, read, write
from xclipt.workspace import Workspace

OTHER = "0" * 64
"""The fingerprint of another backbone."""


@pytest.fixture
def workspace(backbone, tmp_path) -> Workspace:
    return workspace_in(tmp_path, backbone, Noting())


@pytest.fixture
def starts(tmp_path) -> WarmStarts:
    """Of a directory on the tiny backbone, beside the file that comes with the builtin one."""
    return WarmStarts(workspace_in(tmp_path).directory, WARM_START)


LORA = LoraSpec()
ANY_LORA = PartialSpec()


def request(language, delta=ANY_LORA, *, shots=2, seed=1, start=AUTO, **recipe):
    recipe = recipe_with(**{"epochs": 1} | recipe, start=start)
    pairs = AlignmentRequest(language, shots=shots, seed=seed)
    return TrainingRequest(pairs, delta, recipe, validation_pictures=0)


def test_the_shipped_start_is_for_the_builtin_backbone_and_its_own_lora(backbone):
    fingerprint = backbone.identity.fingerprint
    assert backbone.warm_start == WARM_START and WARM_START.stat().st_size < 400_000
    start = read(WARM_START, WARM_START_SPEC, fingerprint, name="builtin")
    assert start.name == "builtin"
    assert sum(tensor.numel() for tensor in start.tensors.values()) == 184_320
    assert {tensor.dtype for tensor in start.tensors.values()} == {torch.float32}
    for change, fits in (
        ({"hard_prompt": "a photo of"}, True),
        ({"tune_head": True}, True),
        ({"train_layernorm": False}, False),
        ({"rank": 4}, False),
    ):
        assert (read(WARM_START, replace(WARM_START_SPEC, **change), fingerprint) is None) != fits
    assert read(WARM_START, AdapterSpec(), fingerprint) is None
    assert read(WARM_START, WARM_START_SPEC, OTHER) is None


@pytest.mark.slow
def test_it_reads_names_better_that_it_was_not_trained_on(backbone, emoji_pictures):
    delta = AdaptedTower(backbone.text_tower, WARM_START_SPEC)
    delta.load(read(WARM_START, WARM_START_SPEC, backbone.identity.fingerprint).tensors)
    pictures, own = emoji_pictures[:100], torch.arange(100)
    for language in ("fr", "ja", "tr"):
        names = [name.captions[0] for name in EmojiDataset().captions(language, "test")[:100]]

        def mrr(model, names=names) -> float:
            ranks = retrieval_ranks(pictures, model.encode_texts(names), own)
            return summarise(ranks.t2i).mrr + summarise(ranks.i2t).mrr

        assert mrr(delta.within(backbone)) > mrr(backbone), language


def test_auto_leaves_baselines_translated_text_other_kinds_and_the_papers_recipe_alone(backbone):
    starts = WarmStarts(None, WARM_START)

    def chosen(wanted, spec, routine):
        return starts.choose(wanted, spec, routine, backbone.identity.fingerprint)

    assert chosen(AUTO, WARM_START_SPEC, 1).name == "builtin"
    assert chosen(AUTO, WARM_START_SPEC, 2) is not None
    assert chosen(AUTO, WARM_START_SPEC, 3) is chosen(AUTO, WARM_START_SPEC, None) is None
    assert chosen(AUTO, AdapterSpec(), 1) is None
    assert chosen(PAPER.start, WARM_START_SPEC, 1) is None
    bare = WarmStarts(None, None)
    assert bare.choose(AUTO, WARM_START_SPEC, 1, backbone.identity.fingerprint) is None


def test_what_a_training_would_begin_from_gives_the_setting_that_nobody_names(starts, tmp_path):
    assert starts.setting(AUTO, 1) == starts.setting(AUTO, 2) == WARM_START_SPEC
    assert starts.setting(AUTO, None) is starts.setting(AUTO, 3) is starts.setting(NONE, 1) is None
    assert WarmStarts(None, None).setting(AUTO, 1) is None
    own = LoraSpec(rank=3, train_layernorm=False)
    write(tmp_path / "own.safetensors", {"a": torch.zeros(1)}, own, OTHER)
    assert starts.setting(str(tmp_path / "own.safetensors"), 1) == own
    workspace = workspace_in(tmp_path)
    store_noise(workspace, "fr", "own", 0.1, spec=own)
    store_noise(workspace, "de", "own", 0.1, spec=AdapterSpec(bottleneck=4))
    assert starts.setting("fr", 1) == starts.setting("fr/own", 1) == own
    for language, spec in (("fr", own), ("de", LoraSpec())):
        asked = request("es", start=language)
        assert asked.delta_spec(starts) == spec, "of another kind nothing is taken"
    assert request("es", AdapterSpec(), start="fr").delta_spec(starts) == AdapterSpec()


def test_a_delta_starts_from_another_languages(workspace):
    def train(language, **changes):
        asked = request(language, shots=4, batch_size=4, learning_rate=1e-3, **changes)
        asked = replace(asked, validation_pictures=10)
        return train_delta(workspace, EmojiDataset(), asked)

    alone = train("fr", start=NONE)
    assert alone.manifest.start is None
    assert [entry["step"] for entry in alone.manifest.validation["history"]] == [0, 1]
    german = train("de")
    assert german.manifest.start["name"] == "builtin"
    assert [entry["step"] for entry in german.manifest.validation["history"]] == [0, 0, 1]
    workspace.directory.set_current("de", german.manifest.name)
    child = train("es", seed=2, start="de")
    assert child.manifest.start == {
        "name": f"de/{german.manifest.name}",
        "sha256": german.manifest.weights.sha256,
    }
    # What its start has seen is no more unseen for the child.
    assert set(german.manifest.data.pictures) < set(child.manifest.data.pictures)


def test_who_misses_the_shipped_start_by_a_setting_is_told(workspace):
    notes = workspace.progress.notes

    def train(spec, start):
        asked = replace(request("fr", spec, start=start), force=True)
        return train_delta(workspace, EmojiDataset(), asked).manifest.start

    assert train(LoraSpec(), NONE) is train(AdapterSpec(), AUTO) is None
    assert train(PartialSpec(), AUTO)["name"] == "builtin"
    assert not [note for note in notes if "identity" in note]
    assert train(LoraSpec(), AUTO) is None
    (said,) = [note for note in notes if "identity" in note]
    assert "fr: starts from the identity; leave out `rank`, `alpha`" in said


def test_a_start_that_cannot_be_is_refused(starts, tmp_path):
    def choose(wanted, spec=LORA):
        return starts.choose(wanted, spec, 1, OTHER)

    for wanted, message in (
        ("de", "start 'de': de has no current delta; name one as LANG/NAME"),
        ("de/x", "start 'de/x': .*no delta 'x' for 'de'"),
        ("jp", "start 'jp': ja has no current delta"),
        *((outside, "start ") for outside in ("../elsewhere", "..", "de/../../x")),
    ):
        with pytest.raises(XcliptError, match=message):
            choose(wanted)
    with pytest.raises(XcliptError, match="start 'de': there is no artifact directory yet"):
        WarmStarts(None, None).choose("de", LoraSpec(), 1, OTHER)
    stored = store_noise(workspace_in(tmp_path), "fr", "own", 0.1, spec=LoraSpec(rank=2))
    start = choose("fr", LoraSpec(rank=2))
    assert (start.name, start.sha256) == ("fr/own", stored.manifest.weights.sha256)
    with pytest.raises(XcliptError, match="start 'fr': is a lora of another setting"):
        choose("fr")


def test_a_file_that_is_no_start_is_refused(starts, backbone, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_bytes(b"not a start")
    (tmp_path / "cut.safetensors").write_bytes(WARM_START.read_bytes()[:1000])
    fits = {"fits": json.dumps({"backbone": OTHER, "kind": "nonsense", "setting": {}})}
    save_file({"a": torch.zeros(1)}, tmp_path / "newer.safetensors", fits)
    for name in ("plain", "newer", "empty", "text", "cut", "missing"):
        file = str(tmp_path / f"{name}.safetensors")
        for attempt in (
            lambda file=file: starts.choose(file, LoraSpec(), 1, OTHER),
            lambda file=file: starts.setting(file, 1),
        ):
            with pytest.raises(
                XcliptError, match=rf"start '.*{name}.*': cannot be read as a start"
            ):
                attempt()
    own = (WARM_START_SPEC, 1, backbone.identity.fingerprint)
    assert starts.choose(str(WARM_START), *own).name == WARM_START.name
    for spec, fingerprint in ((LoraSpec(rank=2), own[2]), (own[0], OTHER)):
        with pytest.raises(XcliptError, match="trained for another backbone, kind or setting"):
            starts.choose(str(WARM_START), spec, 1, fingerprint)


def test_an_interrupted_training_keeps_its_start(tmp_path, monkeypatch):
    """What is resumed ends in the bytes of what was not interrupted."""
    workspace = workspace_in(tmp_path)
    store_noise(workspace, "de", "start", 0.1)
    asked = request(
        "fr", shots=6, start="de", epochs=4, batch_size=3, evaluations=4, dtype="float32"
    )
    asked = replace(asked, validation_pictures=10)
    whole = train_delta(workspace, EmojiDataset(), asked)
    loss, calls = loop.losses_of, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(loop, "losses_of", cut)
    named = replace(asked, name="resumed")
    with pytest.raises(KeyboardInterrupt):
        train_delta(workspace, EmojiDataset(), named)
    resumed = train_delta(workspace, EmojiDataset(), named)
    assert len(calls) < 6 + 8
    assert resumed.manifest.weights.sha256 == whole.manifest.weights.sha256
    assert resumed.manifest.validation["step"] > 0, "what was learnt was kept"


def targets_of(backbone, captions, names, pictures):
    return frozen_targets(
        backbone.encode_texts,
        backbone.encode_pictures,
        [*captions.values(), *names.values()],
        pictures,
    )


@pytest.mark.slow
def test_the_script_learns_the_same_twice_and_writes_what_is_read(backbone, tmp_path):
    captions = {
        "de": [
            Parallel("0", ("ein Hund rennt",), ("a dog runs", "a running dog")),
            Parallel("1", ("zwei Kinder spielen",), ("two children play",)),
            Parallel("2", ("eine Frau auf einem Pferd",), ("a woman on a horse",)),
        ]
    }
    names = {"fr": [Parallel("3", ("pomme",), ("apple",)), Parallel("4", ("chat",), ("cat",))]}
    emoji = EmojiDataset()
    drawn = [emoji.picture_path(picture.image) for picture in emoji.captions("en", None)[:2]]
    pictures = dict(zip("01", drawn, strict=True))
    recipe = WarmStartRecipe(steps=6, captions=4, names=2)
    targets = targets_of(backbone, captions, names, pictures)
    learnt = train_start(backbone, captions, names, targets, recipe, 0)
    assert learnt.trained == 184_320
    one = learnt.kept(recipe.kept)
    again = train_start(backbone, captions, names, targets, recipe, 0).kept(recipe.kept)
    assert all(torch.equal(one[name], again[name]) for name in one)
    unseen = targets_of(backbone, captions, names, {})
    blind = train_start(backbone, captions, names, unseen, recipe, 0).kept(recipe.kept)
    assert not all(torch.equal(one[name], blind[name]) for name in one)
    fingerprint = backbone.identity.fingerprint
    write(tmp_path / "start.safetensors", one, WARM_START_SPEC, fingerprint)
    written = read(tmp_path / "start.safetensors", WARM_START_SPEC, fingerprint)
    for name, tensor in one.items():
        torch.testing.assert_close(written.tensors[name], tensor, atol=1e-3, rtol=1e-3)
    partners = backbone.encode_texts(["two children play", "a dog runs"])

    def distance(model) -> float:
        texts = model.encode_texts(["zwei Kinder spielen", "ein Hund rennt"])
        return float((1 - torch.cosine_similarity(texts, partners)).sum())

    delta = AdaptedTower(backbone.text_tower, WARM_START_SPEC)
    delta.load(one)
    assert distance(delta.within(backbone)) < distance(backbone)


def test_choices_of_the_start_change_what_is_learnt():
    backbone = tiny_backbone()
    captions = {
        "fr": [
            Parallel("0", ("un chien court",), ("a dog runs",)),
            Parallel("1", ("un chat dort",), ("a cat sleeps",)),
        ]
    }
    names = {"de": [Parallel("3", ("noir",), ("dog",)), Parallel("4", ("chat",), ("cat",))]}
    targets = targets_of(backbone, captions, names, {})
    targets = replace(targets, images={"0": 0, "1": 1}, pictures=torch.randn(5, 8))
    plain = WarmStartRecipe(LoraSpec(rank=2), steps=4, captions=4, names=2, warmup=0.5)

    def learn(**changes):
        return train_start(backbone, captions, names, targets, replace(plain, **changes), 0)

    one = learn()
    for changes in ({"gallery": False}, {"picture_weight": 0}, {"contrast_weight": 0}):
        other = learn(**changes)
        assert other.trained == one.trained
        assert any(not torch.equal(other.tensors[n], t) for n, t in one.tensors.items())
    for share, expected in ((0, one.identity), (1, one.tensors)):
        for name, tensor in one.kept(share).items():
            if not name.endswith("lora_A"):
                torch.testing.assert_close(tensor, expected[name])


@pytest.mark.slow
def test_the_start_is_trained_on_no_photograph_that_is_evaluated_on(data_root):
    captions = human_captions(data_root, frozenset({"de"}), 6000, 0)
    assert captions.keys() == {"en", "zh", "ar", "fr", "cs"}
    read = {parallel.image for pairs in captions.values() for parallel in pairs}
    seen = photographs(data_root, captions)
    assert seen.keys() < read
    assert len(seen) > 5000 and all(path.is_file() for path in seen.values())
    assert len(captions["zh"]) > 5000
    for name, split in (
        ("flickr8k", "val"),
        ("flickr8k", "unused"),
        ("multi30k", "val"),
        ("multi30k", "test"),
        ("xflickrco", None),
    ):
        assert not read & {p.image for p in open_dataset(name, data_root).captions("en", split)}
