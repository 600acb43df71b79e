"""A caption's language reaches a tower that is told it: in training, validation and measuring."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.factories.datasets import Given
from tests.factories.noting import Noting
from tests.factories.open_clip_towers import nllb_backbone, own_transformer_backbone
from tests.factories.tiny import workspace_in
from xclipt.alignment.align import align
from xclipt.alignment.build import AlignmentRequest
from xclipt.errors import FallbackWarning
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.files import text_key
from xclipt.model import Model
from xclipt.search.answer import Query, search
from xclipt.search.index import PictureIndex
from xclipt.training.prepare import prepare
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.translation.store import Translation, TranslationStore, Translator

ENGLISH, FRENCH = 0, 4
"""The languages' tokens in :func:`nllb_backbone`."""

DATA = {
    "en": {f"{i}.png": (text,) for i, text in enumerate(("a cat", "a dog runs", "cat sleeps"))},
    "fr": {f"{i}.png": (text,) for i, text in enumerate(("un chat", "un chien", "chat dort"))},
}


class Photographs(Given):
    """The pictures are files of their own."""

    splits = ("train", "val")

    def __init__(self, folder: Path, captions=DATA) -> None:
        super().__init__(captions)
        self.folder = folder
        for image in DATA["en"]:
            (folder / image).write_bytes(image.encode())

    def picture_path(self, image: str) -> Path:
        return self.folder / image


@pytest.fixture
def workspace(tmp_path):
    return workspace_in(tmp_path, nllb_backbone())


@pytest.fixture
def dataset(tmp_path):
    return Photographs(tmp_path)


def translate(workspace, source, target):
    store = TranslationStore(workspace.directory, Translator("file", "m", "0"), source, target)
    texts = [text for (text,) in DATA[source].values()]
    store.add([Translation(t, f"grand {t}") for t in texts])


def first_tokens(rows):
    return {row[0] for row in rows}


@pytest.mark.parametrize(
    ("routine", "text", "partner"),
    [(1, FRENCH, ENGLISH), (2, FRENCH, FRENCH), (3, ENGLISH, ENGLISH), (None, FRENCH, None)],
)
def test_training_and_validation(workspace, dataset, routine, text, partner):
    for source, target in (("en", "fr"), ("fr", "en")):
        translate(workspace, source, target)
    request = TrainingRequest(
        AlignmentRequest("fr", shots=2, routine=routine),
        recipe=recipe_with(teacher="live"),
        validation_pictures=1,
    )
    prepared = prepare(workspace, dataset, request)
    (pairs,), (validation,) = prepared.pairs, prepared.validation
    assert first_tokens(pairs.tokens) == first_tokens(validation.tokens) == {text}
    if partner is not None:
        assert first_tokens(pairs.partner_tokens) == {partner}


def test_a_frozen_teacher_reads_english(workspace, dataset):
    request = TrainingRequest(AlignmentRequest("fr", shots=3), recipe=recipe_with(teacher="frozen"))
    (pairs,) = prepare(workspace, dataset, request).pairs
    english = workspace.backbone.encode_texts([t for (t,) in DATA["en"].values()], language="en")
    for row in pairs.partner_features:
        assert (english - row).abs().amax(1).min() < 1e-5


def test_eval_and_align(workspace, dataset):
    evaluate(workspace, dataset, EvaluationRequest(("en", "fr"), split="train"))
    tokens, kept = workspace.backbone.tokenizer, workspace.directory.features("texts", 8)
    keys = {
        code: [text_key(tokens.identified(text, code)) for (text,) in DATA[code].values()]
        for code in DATA
    }
    assert all(key in kept for code in DATA for key in keys[code])
    expected = workspace.backbone.encode_texts(["un chat"], language="fr")
    torch.testing.assert_close(kept.get(keys["fr"][:1]), expected)
    assert text_key("un chat") not in kept, "never without its language"
    align(workspace, dataset, [AlignmentRequest("fr", shots=2, with_pictures=False)])
    assert text_key("un chat") not in workspace.directory.features("texts", 8)


@pytest.fixture
def breton(tmp_path):
    """Breton is none of FLORES-200's languages."""
    return Photographs(tmp_path, {**DATA, "br": DATA["fr"]})


REMARK = r"'br' (Breton): tiny is told the language of a text and has no token for this one"


def test_a_language_without_a_token_is_remarked_on_once(tmp_path, breton):
    def remarks(act):
        noting = Noting()
        act(replace(workspace_in(tmp_path / act.__name__, nllb_backbone()), progress=noting))
        return [note for note in noting.notes if note.startswith(REMARK)]

    def train(workspace):
        request = TrainingRequest(
            AlignmentRequest("br", shots=2),
            recipe=recipe_with(epochs=1),
            validation_pictures=1,
            even_if_worse=True,
        )
        train_delta(workspace, breton, request)

    def measure(workspace):
        evaluate(workspace, breton, EvaluationRequest(("fr", "br"), split="train"))

    def ask(workspace):
        index = PictureIndex(tmp_path, ("0.png",), torch.ones(1, 8), 0, 0, ())
        search(Model(workspace), index, [Query("ur c'hazh", "br")] * 2, 1)

    for act in (train, measure, ask):
        assert len(remarks(act)) == 1, act
    model = Model(workspace_in(tmp_path, nllb_backbone()))
    with pytest.warns(FallbackWarning) as caught:
        features = [model.encode_text("un chat", code, fallback="base") for code in ("br", "br")]
    assert len([each for each in caught if str(each.message).startswith(REMARK)]) == 1
    assert (features[0] == model.encode_text("un chat", "en")).all()


def test_other_languages_and_towers_that_are_not_told_are_not_remarked_on(workspace):
    assert workspace.language_remark("fr") is None
    assert workspace.language_remark(None) is None
    plain = own_transformer_backbone(fixed_length=False)
    assert replace(workspace, backbone=plain).language_remark("br") is None
