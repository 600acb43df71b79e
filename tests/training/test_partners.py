"""A frozen teacher's partners: one caption, or the mean of all that a picture has."""

import pytest
import torch

from tests.data.test_pairs import Given
from tests.tiny import tiny_backbone
from xclipt.alignment.alignment_set import AlignmentRequest, build_alignment
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.progress import Silent
from xclipt.training.partners import frozen_partners
from xclipt.training.recipe import recipe_with
from xclipt.translation.store import Translation, TranslationStore, Translator
from xclipt.workspace import Workspace

CAPTIONS = {"a.jpg": ("a cat", "a cat sleeps"), "b.jpg": ("a dog runs",)}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    backbone = tiny_backbone()
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return Workspace(directory, backbone, Silent())


@pytest.fixture
def dataset():
    return Given({"en": CAPTIONS, "fr": {"a.jpg": ("un chat",), "b.jpg": ("un chien",)}})


def aligned(workspace, dataset, routine=1):
    request = AlignmentRequest("fr", shots=2, routine=routine)
    return build_alignment(workspace, dataset, request, pictures=False)


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
    store = TranslationStore(workspace.directory, Translator("file", "m", "0"), "en", "fr")
    store.add([Translation(c, "un " + c) for group in CAPTIONS.values() for c in group])
    alignment = aligned(workspace, dataset, routine=2)
    features = frozen_partners(workspace, dataset, alignment, recipe_with(partner_captions="all"))
    own = workspace.backbone.encode_texts([pair.partner for pair in alignment.pairs])
    torch.testing.assert_close(features, own)
