"""What a delta starts from: the shipped start, another delta, or nothing."""

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.emoji import EmojiDataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import AdapterSpec, LoraSpec
from xclipt.errors import XcliptError
from xclipt.evaluation.metrics import retrieval_ranks, summarise
from xclipt.progress import Silent
from xclipt.training.recipe import PAPER, recipe_with
from xclipt.training.start import (
    AUTO,
    NONE,
    SHIPPED,
    choose_start,
    lora_like_start,
    shipped_start,
    write_start,
)
from xclipt.training.train import TrainingRequest, train_delta
from xclipt.training.train_start import (
    STRUCTURE,
    Parallel,
    Recipe,
    frozen_targets,
    human_captions,
    photographs,
    train_start,
)
from xclipt.workspace import Workspace


@pytest.fixture
def workspace(backbone, tmp_path) -> Workspace:
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return Workspace(directory, backbone, Silent())


def test_the_shipped_start_is_for_the_builtin_backbone_and_its_own_lora(workspace):
    fingerprint = workspace.backbone.identity.fingerprint
    start = shipped_start(STRUCTURE, fingerprint)
    assert start.name == "builtin"
    assert sum(tensor.numel() for tensor in start.tensors.values()) == 184_320
    assert {tensor.dtype for tensor in start.tensors.values()} == {torch.float32}
    assert shipped_start(replace(STRUCTURE, hard_prompt="a photo of"), fingerprint) is not None
    assert shipped_start(LoraSpec(), fingerprint) is None
    assert shipped_start(replace(STRUCTURE, train_layernorm=False), fingerprint) is None
    assert shipped_start(AdapterSpec(), fingerprint) is None
    assert shipped_start(STRUCTURE, "0" * 64) is None
    assert SHIPPED.stat().st_size < 400_000


@pytest.mark.parametrize("language", ["fr", "ja", "tr"])
def test_it_reads_names_better_that_it_was_not_trained_on(backbone, language):
    emoji = EmojiDataset()
    names = emoji.captions(language, "test")[:200]
    pictures = backbone.encode_pictures([emoji.picture_path(name.image) for name in names])

    def mrr() -> float:
        features = backbone.encode_texts([name.captions[0] for name in names])
        ranks = retrieval_ranks(pictures, features, torch.arange(len(names)))
        return summarise(ranks.t2i).mrr + summarise(ranks.i2t).mrr

    base = mrr()
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, backbone.family)
    try:
        delta.load(shipped_start(STRUCTURE, backbone.identity.fingerprint).tensors)
        assert mrr() > base
    finally:
        delta.remove()


def test_auto_leaves_baselines_translated_text_other_kinds_and_the_papers_recipe_alone(workspace):
    directory = workspace.directory
    assert choose_start(directory, AUTO, STRUCTURE, 1) is not None
    assert choose_start(directory, AUTO, STRUCTURE, 3) is None
    assert choose_start(directory, AUTO, STRUCTURE, None) is None
    assert choose_start(directory, AUTO, AdapterSpec(), 1) is None
    assert choose_start(directory, PAPER.start, STRUCTURE, 1) is None


def test_a_lora_whose_setting_nobody_names_is_as_its_start_is(workspace, tmp_path):
    directory = workspace.directory
    assert lora_like_start(directory, "builtin", AUTO, 1) == STRUCTURE
    assert lora_like_start(None, "builtin", AUTO, 2) == STRUCTURE
    assert lora_like_start(None, "builtin", AUTO, None) == LoraSpec()
    assert lora_like_start(None, "mclip-l14", AUTO, 1) == LoraSpec()
    assert lora_like_start(None, "builtin", NONE, 1) == LoraSpec()
    own = LoraSpec(rank=3, train_layernorm=False)
    write_start(tmp_path / "own.safetensors", {"a": torch.zeros(1)}, own, "0" * 64)
    assert lora_like_start(None, "mclip-l14", str(tmp_path / "own.safetensors"), 1) == own
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    with pytest.raises(XcliptError, match="cannot be read as a start"):
        lora_like_start(None, "builtin", str(tmp_path / "broken.safetensors"), 1)
    with pytest.raises(XcliptError, match="--start de: de has no current delta"):
        lora_like_start(directory, "builtin", "de", 1)
    recipe = recipe_with(epochs=1, start="none")
    for language, spec in (("fr", own), ("de", AdapterSpec())):
        train_delta(
            workspace,
            EmojiDataset(),
            TrainingRequest(language, shots=2, recipe=recipe, spec=spec, validation_pictures=0),
        )
    assert lora_like_start(directory, "builtin", "fr", 1) == own
    assert lora_like_start(directory, "builtin", "de", 1) == LoraSpec()
    child = TrainingRequest(
        "es", shots=2, recipe=recipe_with(epochs=1, start="fr"), validation_pictures=0
    )
    assert train_delta(workspace, EmojiDataset(), child).manifest.setting == asdict(own)


def test_a_delta_starts_from_another_languages(workspace):
    def train(language, seed=1, **changes):
        recipe = recipe_with(epochs=1, batch_size=4, learning_rate=1e-3, **changes)
        request = TrainingRequest(
            language, shots=4, seed=seed, recipe=recipe, validation_pictures=20
        )
        return train_delta(workspace, EmojiDataset(), request)

    alone = train("fr", start="none")
    assert alone.manifest.start is None
    assert [entry["step"] for entry in alone.manifest.validation["history"]] == [0, 1]
    shipped = train("de")
    assert shipped.manifest.start["name"] == "builtin"
    assert [entry["step"] for entry in shipped.manifest.validation["history"]] == [0, 0, 1]
    german = workspace.directory.delta("de", shipped.manifest.name)
    child = train("es", seed=2, start=f"de/{german.manifest.name}")
    assert child.manifest.start == {
        "name": f"de/{german.manifest.name}",
        "sha256": german.manifest.weights.sha256,
    }
    # What its start has seen is no more unseen for the child.
    assert set(german.manifest.data.pictures) < set(child.manifest.data.pictures)


def test_who_misses_the_shipped_start_by_a_setting_is_told(workspace, monkeypatch):
    notes = []
    monkeypatch.setattr(Silent, "note", lambda self, message: notes.append(message))

    def train(spec, start):
        recipe = recipe_with(epochs=1, start=start)
        request = TrainingRequest("fr", 2, recipe=recipe, spec=spec, validation_pictures=0)
        return train_delta(workspace, EmojiDataset(), request).manifest.start

    assert train(LoraSpec(), NONE) is train(AdapterSpec(), AUTO) is None
    assert train(STRUCTURE, AUTO)["name"] == "builtin"
    assert not notes
    assert train(LoraSpec(), AUTO) is None
    assert len(notes) == 1 and "fr: starts from the identity; leave out --rank" in notes[0]


def test_a_start_that_cannot_be_is_refused(workspace):
    directory = workspace.directory
    with pytest.raises(XcliptError, match="--start de: de has no current delta"):
        choose_start(directory, "de", LoraSpec(), 1)
    with pytest.raises(XcliptError, match="no delta 'x' for 'de'"):
        choose_start(directory, "de/x", LoraSpec(), 1)
    with pytest.raises(XcliptError, match="ja has no current delta"):
        choose_start(directory, "jp", LoraSpec(), 1)
    for outside in ("../elsewhere", "..", "de/../../x"):
        with pytest.raises(XcliptError, match="--start "):
            choose_start(directory, outside, LoraSpec(), 1)
    request = TrainingRequest(
        "fr",
        shots=2,
        recipe=recipe_with(epochs=1, start="none"),
        spec=LoraSpec(rank=2),
        validation_pictures=0,
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert choose_start(directory, "fr", LoraSpec(rank=2), 1).name.startswith("fr/lora")
    with pytest.raises(XcliptError, match="--start fr: is a lora of another setting"):
        choose_start(directory, f"fr/{stored.manifest.name}"[:2], LoraSpec(), 1)


def test_a_file_that_is_no_start_is_refused(workspace, tmp_path):
    directory = workspace.directory
    for content in (b"", b"not a start", SHIPPED.read_bytes()[:1000]):
        file = tmp_path / "own.safetensors"
        file.write_bytes(content)
        with pytest.raises(XcliptError, match=r"own\.safetensors: cannot be read as a start"):
            choose_start(directory, str(file), LoraSpec(), 1)
    with pytest.raises(XcliptError, match="cannot be read as a start"):
        choose_start(directory, str(tmp_path / "missing.safetensors"), LoraSpec(), 1)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(XcliptError, match="cannot be read as a start"):
        choose_start(directory, str(tmp_path / "plain.safetensors"), LoraSpec(), 1)
    start = choose_start(directory, str(SHIPPED), STRUCTURE, 1)
    assert start.name == SHIPPED.name
    with pytest.raises(XcliptError, match="trained for another backbone, kind or setting"):
        choose_start(directory, str(SHIPPED), LoraSpec(rank=2), 1)


def test_an_interrupted_training_keeps_its_start(workspace, monkeypatch):
    """What is resumed ends in the bytes of what was not interrupted."""
    from xclipt.training import trainer

    recipe = recipe_with(epochs=4, batch_size=4, learning_rate=1e-4, evaluations=4)
    request = TrainingRequest("fr", shots=8, recipe=recipe, validation_pictures=20)
    whole = train_delta(workspace, EmojiDataset(), request)
    loss, calls = trainer._loss, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(trainer, "_loss", cut)
    named = replace(request, name="resumed")
    with pytest.raises(KeyboardInterrupt):
        train_delta(workspace, EmojiDataset(), named)
    resumed = train_delta(workspace, EmojiDataset(), named)
    assert len(calls) < 6 + 8
    assert resumed.manifest.weights.sha256 == whole.manifest.weights.sha256


def targets_of(backbone, captions, names, pictures):
    return frozen_targets(
        backbone.encode_texts,
        backbone.encode_pictures,
        [*captions.values(), *names.values()],
        pictures,
    )


def test_the_script_learns_the_same_twice_and_writes_what_is_read(backbone, tmp_path, monkeypatch):
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
    recipe = Recipe(steps=6, captions=4, names=2)
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
    write_start(tmp_path / "start.safetensors", one, STRUCTURE, fingerprint)
    monkeypatch.setattr("xclipt.training.start.SHIPPED", tmp_path / "start.safetensors")
    read = shipped_start(STRUCTURE, fingerprint)
    for name, tensor in one.items():
        torch.testing.assert_close(read.tensors[name], tensor, atol=1e-3, rtol=1e-3)

    def distance() -> float:
        texts = backbone.encode_texts(["zwei Kinder spielen", "ein Hund rennt"])
        english = torch.tensor(partner)
        return float((1 - torch.cosine_similarity(texts, english)).sum())

    partner = backbone.encode_texts(["two children play", "a dog runs"]).tolist()
    base = distance()
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, backbone.family)
    try:
        delta.load(one)
        assert distance() < base
    finally:
        delta.remove()


def test_every_choice_of_the_start_changes_what_is_learnt(backbone):
    captions = {
        "de": [
            Parallel(str(i), (text,), (english,))
            for i, (text, english) in enumerate(
                [("ein Hund rennt", "a dog runs"), ("zwei Kinder spielen", "two children play")]
            )
        ]
    }
    names = {"fr": [Parallel("3", ("pomme",), ("apple",)), Parallel("4", ("chat",), ("cat",))]}
    emoji = EmojiDataset()
    drawn = [emoji.picture_path(picture.image) for picture in emoji.captions("en", None)[:5]]
    targets = targets_of(backbone, captions, names, dict(zip("01567", drawn, strict=True)))
    plain = Recipe(steps=4, captions=4, names=2, warmup=0.5)

    def learn(**changes):
        recipe = replace(plain, **changes)
        return train_start(backbone, captions, names, targets, recipe, 0)

    one = learn()
    for changes in (
        {"gallery": False},
        {"picture_weight": 0},
        {"token_dropout": 0.5},
        {"averaged_from": 0.5},
    ):
        other = learn(**changes)
        assert other.trained == one.trained
        assert any(not torch.equal(other.tensors[n], t) for n, t in one.tensors.items())
    upper = learn(blocks=(6, 11))
    moved = {n for n, t in upper.tensors.items() if not torch.equal(t, upper.identity[n])}
    assert moved and all(int(name.split(".layer.")[1].split(".")[0]) >= 6 for name in moved)
    assert upper.trained == one.trained // 2
    for share, expected in ((0, one.identity), (1, one.tensors)):
        for name, tensor in one.kept(share).items():
            if not name.endswith("lora_A"):
                torch.testing.assert_close(tensor, expected[name])


def test_the_mean_of_the_weights_is_of_the_steps_that_it_says(backbone):
    captions = {"de": [Parallel("0", ("ein Hund rennt",), ("a dog runs",))]}
    names = {"fr": [Parallel("1", ("chat",), ("cat",))]}
    targets = targets_of(backbone, captions, names, {})
    kept = {}
    for steps in (1, 2):
        # Without a warm-up the first step is at the peak rate in both.
        recipe = Recipe(steps=steps, captions=1, names=1, warmup=0)
        kept[steps] = train_start(backbone, captions, names, targets, recipe, 0).tensors
    whole = Recipe(steps=2, captions=1, names=1, warmup=0, averaged_from=0)
    mean = train_start(backbone, captions, names, targets, whole, 0).tensors
    for name, tensor in mean.items():
        expected = (kept[1][name] + kept[2][name]) / 2
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-4)


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
