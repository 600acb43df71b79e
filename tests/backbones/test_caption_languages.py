"""A caption's language reaches a tower that is told it: in training, validation and measuring."""

from pathlib import Path

import pytest
import torch

from tests.factories.datasets import Given
from tests.factories.open_clip_towers import nllb_backbone
from tests.factories.tiny import workspace_in
from xclipt.alignment.align import align
from xclipt.alignment.build import AlignmentRequest
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.files import text_key
from xclipt.training.prepare import prepare
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
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

    def __init__(self, folder: Path) -> None:
        super().__init__(DATA)
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
