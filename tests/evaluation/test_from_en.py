"""Queries that are the English captions translated into the language, on a data set in memory."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.factories.datasets import make_folder
from tests.factories.deltas import made_manifest, store, store_noise
from tests.factories.noting import Noting
from tests.factories.tiny import workspace_in
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import UsageError, XcliptError
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.hubness import HubBank
from xclipt.translation.store import Translation, TranslationStore, Translator

HAND = Translator("file", "by-hand", "1")
CAPTIONS = {
    "en": {
        "0.jpg": ("a cat runs", "a cat"),
        "1.jpg": ("a dog sleeps",),
        "2.jpg": ("a dog runs", "dog", "a dog"),
    },
    "fr": {
        "0.jpg": ("chat court",),
        "1.jpg": ("chien dort", "chien"),
        "2.jpg": ("chien court",),
        "3.jpg": ("rouge",),
    },
}
FROM_EN = {
    "a cat runs": "un chat court",
    "a cat": "un chat",
    "a dog sleeps": "un chien dort",
    "a dog runs": "un chien court",
    "dog": "chien",
    "a dog": "un chien",
}


def remarks(workspace):
    """What was said but for what is about to be done."""
    return [note for note in workspace.progress.notes if ", deltas: " not in note]


@pytest.fixture
def workspace(tmp_path):
    return workspace_in(tmp_path, progress=Noting())


@pytest.fixture
def dataset(tmp_path):
    return make_folder(tmp_path / "given", CAPTIONS)


def translate(workspace, **dropped: str) -> None:
    TranslationStore(workspace.directory, HAND, "en", "fr").add(
        [
            Translation(english, french, ("copied",) * (english in dropped), english in dropped)
            for english, french in FROM_EN.items()
        ]
    )


def measured(workspace, dataset, **more):
    return evaluate(workspace, dataset, EvaluationRequest(["fr"], text="from-en", **more))


def by_hand(workspace, dataset, texts, delta=None) -> tuple[float, float]:
    """R@1 of ``(text, picture)``, caption to picture and picture to best caption."""
    backbone = workspace.backbone
    paths = [dataset.picture_path(f"{i}.jpg") for i in range(3)]
    pictures = F.normalize(backbone.encode_pictures(paths), dim=-1)
    tower = delta.within(backbone) if delta else backbone
    cosines = F.normalize(tower.encode_texts([text for text, _ in texts]), dim=-1) @ pictures.T
    of = torch.tensor([picture for _, picture in texts])
    found = of[cosines.argmax(0)] == torch.arange(3)
    return 100 * (cosines.argmax(1) == of).float().mean().item(), 100 * found.float().mean().item()


def test_base_and_delta_are_measured_on_the_translations_of_every_english_caption(
    workspace, dataset
):
    translate(workspace)
    delta = store_noise(workspace, "fr", "noise", 0.5)
    result = measured(workspace, dataset, deltas={"fr": (delta,)}, prompts=["grand"])
    systems = [row.system for row in result.rows]
    assert systems == [
        *("base", 'base "grand"', "base from-en", 'base from-en "grand"'),
        *("noise", 'noise "grand"', "noise from-en", 'noise from-en "grand"'),
    ]
    human = [("chat court", 0), ("chien dort", 1), ("chien", 1), ("chien court", 2)]
    machine = [(FROM_EN[caption], i) for i in range(3) for caption in CAPTIONS["en"][f"{i}.jpg"]]
    for row in result.rows:
        texts = machine if row.text == "from-en" else human
        texts = [(f"{row.prompt} {text}".strip(), picture) for text, picture in texts]
        expected = by_hand(workspace, dataset, texts, delta if row.delta else None)
        assert (row.t2i.r1, row.i2t.r1) == pytest.approx(expected)
        assert (row.n, row.captions) == (3, len(texts))
        assert row.translator == (HAND.name if row.text == "from-en" else None)
    assert len({(row.t2i.r1, row.i2t.r1) for row in result.rows}) > 2
    pairs = [(pair.delta, pair.against) for pair in result.pairs]
    assert pairs == [
        ("noise from-en", "base from-en"),
        ('base from-en "grand"', "base from-en"),
        ('noise "grand"', "noise"),
        ('noise from-en "grand"', "noise from-en"),
    ]
    plain = result.as_json()
    assert [row["system"] for row in plain["base_from_en"]] == systems[2:4]
    assert [row["system"] for row in plain["rows"]] == systems[:2] + systems[4:]
    # What is told of the delta is told of it on the text that it is searched with.
    assert result.with_deltas("fr") == result.rows[4].figures()
    assert plain["mean_gain"]["mean_R@1"] == pytest.approx(result.rows[4].gain.mean_r1)


def test_pictures_without_an_english_caption_are_left_out_and_counted(workspace, dataset):
    translate(workspace)
    result = measured(workspace, dataset)
    assert {row.n for row in result.rows} == {3}
    assert remarks(workspace) == ["given: 1 of 4 pictures have no English caption and are left out"]
    assert evaluate(workspace, dataset, EvaluationRequest(["fr"])).rows[0].n == 4


def test_a_dropped_translation_leaves_the_caption_as_it_is(workspace, dataset):
    translate(workspace, dog="dropped")
    result = measured(workspace, dataset)
    assert remarks(workspace)[-1] == (
        "given: 1 of 6 English captions have no usable translation into 'fr' and are searched "
        "with as they are"
    )
    texts = [
        (caption if caption == "dog" else FROM_EN[caption], i)
        for i in range(3)
        for caption in CAPTIONS["en"][f"{i}.jpg"]
    ]
    row = result.rows[1]
    assert (row.t2i.r1, row.i2t.r1) == pytest.approx(by_hand(workspace, dataset, texts))


def test_what_was_never_or_never_usably_translated_is_refused(workspace, dataset):
    with pytest.raises(XcliptError) as caught:
        measured(workspace, dataset)
    assert str(caught.value) == (
        "given: 6 of 6 English captions have no translation from 'en' into 'fr'; run `xclipt "
        "translate --lang fr --direction from-en --dataset given --artifacts "
        f"{workspace.directory.root}` first"
    )
    translate(workspace, **dict.fromkeys(FROM_EN, "dropped"))
    with pytest.raises(XcliptError, match=r"all 6 translations .* dropped; .* --on-bad keep"):
        measured(workspace, dataset)


def test_without_english_captions_there_is_nothing_to_translate(workspace, tmp_path):
    alone = make_folder(tmp_path / "alone", {"fr": CAPTIONS["fr"]})
    with pytest.raises(XcliptError, match="text 'from-en': alone has no English captions"):
        measured(workspace, alone)


def test_a_delta_for_english_text_is_not_measured_on_it(workspace, dataset):
    translate(workspace)
    into_english = TranslationStore(workspace.directory, HAND, "fr", "en")
    french = [caption for captions in CAPTIONS["fr"].values() for caption in captions]
    into_english.add([Translation(caption, "a cat") for caption in french])
    manifest = made_manifest(workspace.backbone.identity, LoraSpec(), "fr", "english")
    manifest = replace(manifest, text="to-en", translator=asdict(HAND))
    tensors = AdaptedTower(workspace.backbone.text_tower, LoraSpec()).tensors()
    delta = store(workspace.directory, manifest, tensors)
    result = measured(workspace, dataset, deltas={"fr": (delta,)})
    assert [row.system for row in result.rows] == ["base", "base to-en", "base from-en", "english"]
    assert remarks(workspace)[-1] == (
        "'fr': english wants text in English and is not measured on `text=from-en`"
    )


def test_a_hub_bank_is_for_text_in_its_language_and_holds_no_translated_query(workspace, dataset):
    translate(workspace)
    bank = HubBank(Path("bank.txt"), "fr", ("un chien blanc", "petit chat", "chien rouge court"))
    rows = measured(workspace, dataset, hub_banks={"fr": bank}).rows
    assert [row.text for row in rows if row.hub_corrected] == ["target", "from-en"]
    shared = replace(bank, texts=(*bank.texts, "Un chien dort!"))
    with pytest.raises(UsageError, match=r"1 text of it is among .* 'un chien dort'"):
        measured(workspace, dataset, hub_banks={"fr": shared})
    sources = [caption for captions in CAPTIONS["fr"].values() for caption in captions]
    TranslationStore(workspace.directory, HAND, "fr", "en").add(
        [Translation(source, "a cat", (), False) for source in sources]
    )
    request = EvaluationRequest(["fr"], text="to-en", hub_banks={"fr": bank})
    rows = evaluate(workspace, dataset, request).rows
    assert [(row.system, bool(row.hub_corrected)) for row in rows] == [
        ("base", True),
        ("base to-en", False),
    ]
    (note,) = (note for note in workspace.progress.notes if "hub_bank" in note)
    assert "'fr' is no correction for queries that were translated into English" in note
    with pytest.raises(XcliptError, match="hub_bank: 'fr' is not evaluated"):
        EvaluationRequest(["de"], hub_banks={"fr": bank})
