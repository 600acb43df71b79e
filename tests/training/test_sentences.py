"""A delta from sentence pairs alone, beside captions, and for several languages."""

from dataclasses import replace

import pytest
import torch

from tests.factories.datasets import make_folder
from tests.factories.noting import Noting
from tests.factories.tiny import WORDS, tiny_backbone, workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.feature_rows import CHUNK, FeatureRows
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kinds import PartialSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.training.losses import contrastive, contrastive_to_partner
from xclipt.training.pairs import Joined, TrainingPairs, rows_by_size
from xclipt.training.recipe import recipe_with
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.training.steps import Part, losses_of
from xclipt.training.train import train_delta
from xclipt.verify import verify

FRENCH = ("un", "chat", "chien", "court", "dort", "noir", "blanc", "grand")
ENGLISH = ("a", "cat", "dog", "runs", "sleeps")


@pytest.fixture
def progress():
    return Noting()


@pytest.fixture
def workspace(tmp_path, progress):
    return workspace_in(tmp_path, progress=progress)


def sentences(path, count, language="fr"):
    """A file of so many pairs: each French word has its English one."""
    rows = []
    for i in range(count):
        picks = [(i * 7 + k * k * (1 + i // 5)) % 5 for k in range(4)]
        english = " ".join(ENGLISH[pick] for pick in picks) + f" {i}"
        rows.append(f"{english}\t{' '.join(FRENCH[pick] for pick in picks)} {i}")
    path.write_text(f"en\t{language}\n" + "\n".join(rows) + "\n")
    return path


def request(*sources, language="fr", pairs=None, shots=0, **changes):
    recipe = changes.pop("recipe", {})
    return TrainingRequest(
        AlignmentRequest(language, shots=shots),
        delta=changes.pop("delta", LoraSpec(rank=2)),
        recipe=recipe_with(**{"batch_size": 4, "max_steps": 12, "start": "none"} | recipe),
        parallel=Parallel(tuple(map(str, sources)), pairs, **changes.pop("parallel", {})),
        **changes,
    )


def test_text_alone_teaches_and_says_what_it_was(workspace, tmp_path):
    file = sentences(tmp_path / "en-fr.tsv", 300)
    asked = request(file, recipe={"learning_rate": 3e-2, "max_steps": 60})
    manifest = train_delta(workspace, None, asked).manifest
    assert manifest.name == "lora-allpairs-en-fr-seed1"
    found, data = manifest.validation, manifest.data
    assert found["pairs"] == 30 and found["pictures"] == 0
    assert found["cosine"] > found["base_cosine"] and found["loss"] < found["base_loss"]
    assert found["MRR"] >= found["base_MRR"]
    assert data.pictures == () and data.pairs == 0 and data.all_pairs == 270
    assert data.sentences and data.sentences.source == "en-fr.tsv"
    assert data.what == "270 sentence pairs of `en-fr.tsv`"
    assert data.validated_on == "30 held out pairs of `en-fr.tsv`"
    folder = workspace.directory.delta("fr", manifest.name).folder
    assert DeltaManifest.read(folder / "manifest.yaml") == manifest
    problems = {one.path: one.problem for one in verify(workspace.directory) if one.problem}
    assert not problems
    chunk, *_ = sorted((workspace.directory.root / "features").glob("pairs-*/*.npy"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"!")
    place = str(chunk.relative_to(workspace.directory.root))
    assert {one.path: one.problem for one in verify(workspace.directory)}[place].startswith(
        "is not what was written"
    )


def test_few_are_not_judged_by_many(workspace, tmp_path):
    file = sentences(tmp_path / "many.tsv", 1300)
    held = [
        train_delta(
            workspace, None, request(file, pairs=pairs, name=f"of-{pairs}", recipe={"max_steps": 1})
        )
        for pairs in (10, 110)
    ]
    assert [one.manifest.data.sentences.held_out for one in held] == [100, 110]


def test_ten_pairs_and_no_start_are_remarked_on(workspace, progress, tmp_path):
    few, many = sentences(tmp_path / "few.tsv", 10), sentences(tmp_path / "many.tsv", 260)
    for file, pairs, name in ((few, None, "few"), (many, 10, "ten"), (many, None, "many")):
        asked = request(file, pairs=pairs, name=name, recipe={"max_steps": 1})
        train_delta(workspace, None, asked)
    remark = (
        "fr: 10 pairs and no start: so few have made search worse, even where held-out pairs said "
        "otherwise; give 100 or more, or begin from a delta of other languages with "
        "`start=LANG/NAME`"
    )
    assert [note for note in progress.notes if "no start" in note] == [remark] * 2
    progress.notes.clear()
    train_delta(
        workspace, None, request(few, name="on", recipe={"start": "fr/many", "max_steps": 1})
    )
    assert not any("no start" in note for note in progress.notes)


def test_thousands_of_pairs_have_room_for_a_larger_delta(workspace, progress, tmp_path):
    file = sentences(tmp_path / "many.tsv", 5600)  # of which 500 are held out
    for name, given in (("own", {}), ("named", {"rank": 4}), ("few", {})):
        pairs = 4900 if name == "few" else None
        asked = request(
            file, name=name, delta=PartialSpec("lora", given), pairs=pairs, recipe={"max_steps": 1}
        )
        train_delta(workspace, None, asked)
    assert [note for note in progress.notes if "larger" in note] == [
        "fr: so many pairs teach a larger delta more: `modules=all-linear` `rank=16` `alpha=32` "
        "make it some 1 % of the text tower"
    ]


def test_shots_are_the_first_of_all_and_none_of_them_is_held_out(workspace, tmp_path):
    file = sentences(tmp_path / "en-fr.tsv", 300)
    few = train_delta(workspace, None, request(file, pairs=20))
    assert few.manifest.name == "lora-20pairs-en-fr-seed1"
    assert few.manifest.data.sentences.pairs == {"fr": 20}
    assert few.manifest.data.sentences.held_out == 30
    most = train_delta(workspace, None, request(file, pairs=290))
    assert most.manifest.data.sentences.held_out == 10
    none = train_delta(workspace, None, request(sentences(tmp_path / "ten.tsv", 10)))
    assert none.manifest.data.sentences.held_out == 0 and "MRR" not in none.manifest.validation
    assert none.current
    with pytest.raises(XcliptError, match=r"en-fr.tsv has 300 usable pairs in 'fr'; give at most"):
        train_delta(workspace, None, request(file, pairs=301))
    with pytest.raises(XcliptError, match="300 usable pairs in 'fr' beside 200 that are held out"):
        train_delta(workspace, None, request(file, pairs=101, parallel={"held_out": 200}))


def test_the_same_bytes_after_a_kill_and_whatever_was_computed_before(workspace, tmp_path):
    file = sentences(tmp_path / "en-fr.tsv", 120)
    asked = replace(request(file, recipe={"evaluations": 4}), even_if_worse=True)
    whole = train_delta(workspace, None, asked).tensors()

    class KilledError(Exception):
        pass

    class Killing(Noting):
        def start(self, description, total):
            task = super().start(description, total)
            if not description.startswith("Training"):
                return task

            class Counting:
                done = 0

                def advance(self, steps=1, detail=""):
                    self.done += steps
                    if self.done == 8:
                        raise KilledError

                def finish(self):
                    pass

            return Counting()

    other = workspace_in(tmp_path / "other")
    with pytest.raises(KilledError):
        train_delta(replace(other, progress=Killing()), None, asked)
    resumed = train_delta(other, None, asked).tensors()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    # Features that are there already, and a file elsewhere, change nothing either.
    again = train_delta(workspace, None, replace(asked, force=True)).tensors()
    moved = file.rename(tmp_path / "moved.tsv")
    elsewhere = replace(request(moved, recipe={"evaluations": 4}), even_if_worse=True)
    third = train_delta(workspace, None, replace(elsewhere, name="third")).tensors()
    assert all(torch.equal(whole[n], again[n]) and torch.equal(whole[n], third[n]) for n in whole)


def test_a_live_teacher_and_every_alignment_loss_but_the_pictures(workspace, tmp_path):
    file = sentences(tmp_path / "en-fr.tsv", 40)
    for loss in ("mse", "contrastive"):
        for teacher in ("live", "frozen"):
            recipe = {"align_loss": loss, "teacher": teacher}
            asked = request(file, recipe=recipe, name=f"{loss}-{teacher}")
            assert train_delta(workspace, None, asked).manifest.steps == 12
    with pytest.raises(XcliptError, match="is of pictures, which sentence pairs lack"):
        request(file, recipe={"align_loss": "image", "teacher": "live"})
    with pytest.raises(XcliptError, match="routine 1"):
        TrainingRequest(AlignmentRequest("fr", routine=2, shots=0), parallel=Parallel(("a.tsv",)))


def test_captions_and_sentences_together(workspace, tmp_path):
    pictures = {f"{i}.jpg": (f"un {word}",) for i, word in enumerate(FRENCH[:6])}
    english = {f"{i}.jpg": (f"a {word}",) for i, word in enumerate(ENGLISH)} | {"5.jpg": ("a",)}
    cats = make_folder(tmp_path / "cats", {"en": english, "fr": pictures})
    file = sentences(tmp_path / "en-fr.tsv", 300)
    asked = request(file, shots=4, validation_pictures=2, even_if_worse=True)
    both = train_delta(workspace, cats, asked).manifest
    assert both.name == "lora-4shot-cats-allpairs-en-fr-seed1"
    assert both.data.pairs == 4 and both.data.sentences.pairs == {"fr": 300}
    assert both.validation["pictures"] == 2 and "cosine" not in both.validation
    assert both.data.sentences.held_out == 0, "pictures judge"
    weighed = replace(asked, recipe=replace(asked.recipe, sentence_weight=5.0), name="weighed")
    assert train_delta(workspace, cats, weighed).manifest.weights != both.weights
    judged = train_delta(workspace, cats, request(file, validation_pictures=2, even_if_worse=True))
    assert judged.manifest.data.pairs == 0 and judged.manifest.validation["pictures"] == 2


def test_several_languages_are_drawn_by_size_and_temperature():
    def share(temperature):
        stream = rows_by_size((1000, 10), 100, temperature, seed=1)
        rows = [row for _ in range(50) for row in next(stream)]
        return sum(row >= 1000 for row in rows) / len(rows)

    assert share(1) == pytest.approx(10 / 1010, abs=0.005)
    assert share(2) == pytest.approx(10**0.5 / (10**0.5 + 1000**0.5), abs=0.03)
    assert share(1e9) == pytest.approx(0.5, abs=0.03)
    stream = rows_by_size((3, 2), 5, 1, seed=1)
    drawn = [row for _ in range(12) for row in next(stream)]
    own = [row for row in drawn if row < 3]
    assert own[:3] == [0, 1, 2] and all({*own[i : i + 3]} == {0, 1, 2} for i in (0, 3, 6))


def test_joined_pairs_keep_the_order_that_is_asked():
    backbone = tiny_backbone()
    one, two = (
        TrainingPairs(
            images=torch.zeros(3, 8),
            tokens=backbone.tokenizer(words),
            partner_tokens=backbone.tokenizer(words),
            partner_features=torch.arange(3.0).unsqueeze(1) + start,
        )
        for words, start in ((WORDS[:3], 0), (WORDS[3:6], 10))
    )
    batch = Joined([one, two]).batch([4, 0, 5, 2])
    assert batch.partner_features.flatten().tolist() == [11, 0, 12, 2]
    assert [*batch.tokens] == backbone.tokenizer([WORDS[4], WORDS[0], WORDS[5], WORDS[2]])
    assert batch.images is None and [*batch.partner_tokens] == [*batch.tokens]


def test_a_joint_delta_from_text_is_every_languages_and_a_start(workspace, tmp_path):
    sources = [
        f"fr={sentences(tmp_path / 'one.tsv', 60)}",
        f"es={sentences(tmp_path / 'two.tsv', 30, 'es')}",
    ]
    asked = request(*sources, joint=("fr", "es"), even_if_worse=True)
    joint = train_delta(workspace, None, asked)
    assert joint.manifest.reference == "mul/lora-fr-es-allpairs-one-two-seed1"
    assert joint.manifest.data.sentences.pairs == {"fr": 60, "es": 30}
    assert workspace.directory.current("es").manifest.reference == joint.manifest.reference
    own = request(
        sentences(tmp_path / "it.tsv", 30, "it"),
        language="it",
        recipe={"start": "mul/" + joint.manifest.name},
    )
    assert train_delta(workspace, None, own).manifest.start["name"] == joint.manifest.reference


def test_the_same_sentence_twice_is_no_negative_of_itself():
    partner = torch.eye(4)[[0, 1, 1, 2]]
    text = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    alike = contrastive_to_partner(text, partner, 10.0)
    assert alike < contrastive(text, partner, 10.0)
    apart = torch.eye(4)
    torch.testing.assert_close(
        contrastive_to_partner(text, apart, 10.0), contrastive(text, apart, 10.0)
    )


def test_without_a_picture_the_partner_stands_in_for_it():
    backbone = tiny_backbone()
    adapted = AdaptedTower(backbone.text_tower, LoraSpec(rank=2), 1).within(backbone)
    texts, english = ["un chat", "un chien dort"], ["a cat", "a dog sleeps"]
    tokens = backbone.tokenizer(texts)
    partner = backbone.encode_texts(english)
    pairs = TrainingPairs(torch.zeros(2, 8), tokens, backbone.tokenizer(english), partner)
    recipe = recipe_with(align_weight=3.0).on(backbone.text_tower.similarity)
    loss = losses_of(adapted, [Part(Joined([pairs]), [0, 1], 1.0)], recipe).total
    text = adapted.encode_tokens(tokens)
    cosine = torch.nn.functional.cosine_similarity(text, partner)
    expected = contrastive(partner, text, recipe.logit_scale) + 3 * (1 - cosine).mean()
    torch.testing.assert_close(loss, expected)


def test_best_takes_what_is_nearest_and_says_why(workspace, progress, tmp_path):
    file = sentences(tmp_path / "en-fr.tsv", 200)
    good = request(file, recipe={"learning_rate": 3e-2, "max_steps": 60}, name="good")
    bad = request(file, recipe={"learning_rate": 1e-9, "max_steps": 1}, name="bad")
    for one in (good, bad):
        train_delta(workspace, None, replace(one, even_if_worse=True))
    asked = request(
        sentences(tmp_path / "it.tsv", 100, "it"),
        language="it",
        recipe={"start": "best"},
        delta=PartialSpec(),
    )
    made = train_delta(workspace, None, asked)
    assert made.manifest.start["name"] == "fr/good"
    assert made.manifest.recipe["start"] == "fr/good", "the choice is part of the request"
    (said,) = [note for note in progress.notes if "starts from" in note]
    assert said.startswith("it: starts from fr/good, mean cosine 0.")
    assert "of 100 pairs (others: fr/bad 0." in said and "none 0." in said
    # The same again finds the same, and not itself.
    assert train_delta(workspace, None, asked).manifest == made.manifest
    other = replace(asked, delta=LoraSpec(rank=3), name="another")
    assert train_delta(workspace, None, other).manifest.start is None


def test_rows_of_features_are_computed_once_and_mended(tmp_path):
    asked = []

    def compute(rows):
        asked.append(rows)
        return torch.tensor([[float(row), 1.0] for row in rows])

    def rows():
        return FeatureRows(tmp_path / "rows", 2 * CHUNK + 5, 2, compute, Silent())

    first = rows()
    assert first[[CHUNK + 1, 3]].tolist() == [[CHUNK + 1, 1], [3, 1]]
    assert asked == [range(CHUNK, 2 * CHUNK), range(CHUNK)]
    assert rows()[[2 * CHUNK + 4, 0]].tolist() == [[2 * CHUNK + 4, 1], [0, 1]]
    assert asked[2:] == [range(2 * CHUNK, 2 * CHUNK + 5)]
    (damaged,) = (tmp_path / "rows").glob("000000-*.npy")
    damaged.write_bytes(damaged.read_bytes()[:-8] + b"\0" * 8)
    assert rows()[[CHUNK - 1]].tolist() == [[CHUNK - 1, 1]]
    assert asked[3:] == [range(CHUNK)]
    damaged.write_bytes(b"")
    assert rows()[[1]].tolist() == [[1, 1]] and len(asked) == 5


def test_features_that_cannot_be_kept_are_used_all_the_same(tmp_path):
    progress = Noting()
    (tmp_path / "rows").write_text("a file where the folder would be")
    rows = FeatureRows(
        tmp_path / "rows", 4, 1, lambda r: torch.tensor([[float(i)] for i in r]), progress
    )
    assert rows[[2]].tolist() == [[2]]
    assert len(progress.notes) == 1 and "are not kept" in progress.notes[0]
