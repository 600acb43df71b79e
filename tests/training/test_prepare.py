"""What a training depends on: a frozen teacher's partners, and pictures to validate on."""

from dataclasses import replace

import pytest
import torch

from tests.factories.datasets import Given, many
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest, build_alignment
from xclipt.errors import XcliptError
from xclipt.training.captions import frozen_partners, hold_out
from xclipt.training.prepare import prepare
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.translation.store import Translation, TranslationStore, Translator
from xclipt.workspace import Workspace

CAPTIONS = {"a.jpg": ("a cat", "a cat sleeps"), "b.jpg": ("a dog runs",)}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture
def dataset():
    return Given({"en": CAPTIONS, "fr": {"a.jpg": ("un chat",), "b.jpg": ("un chien",)}})


def aligned(workspace, dataset, routine=1):
    request = AlignmentRequest("fr", shots=2, routine=routine, with_pictures=False)
    return build_alignment(workspace, dataset, request)


def translate(workspace, texts, source, target) -> Translator:
    store = TranslationStore(workspace.directory, Translator("file", "m", "0"), source, target)
    store.add([Translation(text, f"{target} {text}") for text in texts])
    return store.translator


def test_one_is_the_pairs_own_and_all_is_the_pictures_mean(workspace, dataset):
    alignment = aligned(workspace, dataset)
    one = frozen_partners(workspace, dataset, alignment, recipe_with(partner_captions="one"))
    every = frozen_partners(workspace, dataset, alignment, recipe_with(partner_captions="all"))
    for row, pair in enumerate(alignment.pairs):
        own = workspace.backbone.encode_texts([pair.partner])[0]
        mean = workspace.backbone.encode_texts(CAPTIONS[pair.image]).mean(0)
        torch.testing.assert_close(one[row], own)
        torch.testing.assert_close(every[row], mean)
    cat = [pair.image for pair in alignment.pairs].index("a.jpg")
    assert not torch.allclose(one[cat], every[cat])


def test_routine_2_keeps_its_translations(workspace, dataset):
    translate(workspace, [c for group in CAPTIONS.values() for c in group], "en", "fr")
    alignment = aligned(workspace, dataset, routine=2)
    features = frozen_partners(workspace, dataset, alignment, recipe_with(partner_captions="all"))
    own = workspace.backbone.encode_texts([pair.partner for pair in alignment.pairs])
    torch.testing.assert_close(features, own)


class InOnePiece(Given):
    splits = ()


def held(workspace, dataset, wanted, **request):
    request = AlignmentRequest("tr", shots=4, **request)
    alignment = build_alignment(workspace, dataset, request)
    return alignment, hold_out(workspace.directory, dataset, alignment, wanted)


def test_of_a_set_in_one_piece_pictures_are_held_out_where_that_is_asked(workspace):
    dataset = InOnePiece(many(10)._captions)
    alignment, none = held(workspace, dataset, None)
    assert (none.split, none.images, none.captions) == (None, (), ())
    _, three = held(workspace, dataset, 3)
    assert len(three.images) == 3 and three.picture_index == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert not {pair.image for pair in alignment.pairs} & set(three.images)
    with pytest.raises(XcliptError, match="validation_pictures '7': only 6 pictures of given"):
        held(workspace, dataset, 7)


def test_of_a_set_with_a_validation_split_at_most_so_many_are_taken(workspace):
    class Split(Given):
        splits = ("train", "val")

    dataset = Split(many(10)._captions)
    assert held(workspace, dataset, 3)[1].split == "val"
    assert [len(held(workspace, dataset, n)[1].images) for n in (None, 3, 0)] == [10, 3, 0]
    alignment, whole = held(workspace, dataset, 3)
    first = hold_out(workspace.directory, dataset, alignment, 3, one_caption=True)
    assert first.images == whole.images and first.captions == whole.captions[::3]
    # What is trained on the split itself has nothing left to validate on.
    assert held(workspace, dataset, None, split="val")[1].images == ()


def test_a_delta_for_translated_text_is_validated_on_translations(workspace):
    dataset = InOnePiece(many(10)._captions)
    translate(workspace, [f"tr {k} {j}" for k in range(10) for j in range(3)], "tr", "en")
    _, target = held(workspace, dataset, 2)
    _, to_en = held(workspace, dataset, 2, routine=3)
    assert to_en.captions == tuple(f"en {caption}" for caption in target.captions)


def test_the_key_is_of_everything_that_the_result_depends_on(workspace):
    dataset = InOnePiece(many(10)._captions)
    request = TrainingRequest(AlignmentRequest("tr", shots=4), validation_pictures=2)

    def key(asked=request, data=dataset, space=workspace) -> str:
        return prepare(space, data, asked).key

    captions = {code: dict(pictures) for code, pictures in dataset._captions.items()}
    captions["tr"] = {image: (f"{texts[0]} more",) for image, texts in captions["tr"].items()}
    half = replace(workspace, backbone=replace(workspace.backbone, dtype=torch.bfloat16))
    keys = [
        key(),
        key(replace(request, recipe=recipe_with(epochs=3))),
        key(replace(request, alignment=replace(request.alignment, seed=2))),
        key(replace(request, validation_pictures=3)),
        key(data=InOnePiece(captions)),
        key(space=half),
        key(replace(request, recipe=recipe_with(dtype="float16"))),
    ]
    assert len(set(keys)) == len(keys)
    assert key(replace(request, even_if_worse=True)) == key() == keys[0]
