"""A delta is never replaced without a word, and one that is its start unchanged says so."""

from dataclasses import replace

import pytest

from tests.factories.datasets import make_folder
from tests.factories.noting import Noting
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta

TURKISH = {f"{i}.jpg": (f"kedi {i}",) for i in range(8)}
ENGLISH = {f"{i}.jpg": (f"cat {i}",) for i in range(8)}
REQUEST = TrainingRequest(
    AlignmentRequest("tr", shots=3), delta=LoraSpec(rank=2), recipe=recipe_with(epochs=1)
)


@pytest.fixture
def progress():
    return Noting()


@pytest.fixture
def workspace(tmp_path, progress):
    return workspace_in(tmp_path, progress=progress)


@pytest.fixture
def cats(tmp_path):
    return make_folder(tmp_path / "cats", {"en": ENGLISH, "tr": TURKISH})


@pytest.fixture
def others(tmp_path):
    more = {image: (f"{texts[0]} again",) for image, texts in TURKISH.items()}
    return make_folder(tmp_path / "others", {"en": ENGLISH, "tr": more})


def files(stored):
    return {path.name: path.read_bytes() for path in stored.folder.iterdir()}


def test_the_same_request_gives_the_same_delta_and_says_so(workspace, cats, progress):
    first = train_delta(workspace, cats, REQUEST)
    before = files(first)
    assert not [note for note in progress.notes if "there already" in note]
    again = train_delta(workspace, cats, REQUEST)
    assert files(again) == before and again.current
    assert "tr: lora-3shot-cats-seed1 is there already, from the same request" in progress.notes


def test_it_is_made_current_again_as_training_would(workspace, cats):
    train_delta(workspace, cats, REQUEST)
    train_delta(workspace, cats, replace(REQUEST, name="second"))
    assert workspace.directory.current_name("tr") == "second"
    assert train_delta(workspace, cats, REQUEST).current
    assert workspace.directory.current_name("tr") == "lora-3shot-cats-seed1"


def test_a_damaged_one_is_trained_again(workspace, cats):
    stored = train_delta(workspace, cats, REQUEST)
    weights = stored.folder / stored.manifest.weights.file
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    assert train_delta(workspace, cats, REQUEST).tensors()
    assert weights.read_bytes() == whole


def test_automatic_names_tell_data_sets_apart(workspace, cats, others):
    one, two = (train_delta(workspace, data, REQUEST) for data in (cats, others))
    assert [one.manifest.name, two.manifest.name] == [
        "lora-3shot-cats-seed1",
        "lora-3shot-others-seed1",
    ]
    assert REQUEST.delta_name("emoji") == "lora-3shot-seed1"
    assert REQUEST.delta_name("owner/Some set") == "lora-3shot-owner-Some-set-seed1"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"recipe": recipe_with(epochs=2)}, "recipe.epochs 2 and 1"),
        ({"delta": LoraSpec(rank=4)}, "setting.rank 4 and 2"),
        ({"alignment": AlignmentRequest("tr", shots=3, seed=2)}, "seed 2 and 1"),
        ({"validation_pictures": 2}, "data.validation_pictures 2 and 0"),
    ],
)
def test_another_request_under_the_same_name_is_refused(workspace, cats, change, part):
    named = replace(REQUEST, name="mine")
    stored = train_delta(workspace, cats, named)
    before = files(stored)
    with pytest.raises(XcliptError, match="'mine' is there already") as error:
        train_delta(workspace, cats, replace(named, **change))
    assert part in str(error.value) and "`force=True`" in str(error.value)
    assert files(stored) == before
    replaced = train_delta(workspace, cats, replace(named, **change, force=True))
    assert files(replaced) != before


def test_other_captions_under_the_same_name_are_refused(workspace, cats, others):
    named = replace(REQUEST, name="mine")
    train_delta(workspace, cats, named)
    with pytest.raises(XcliptError, match=r"data\.dataset others and cats"):
        train_delta(workspace, others, named)


def test_a_delta_that_is_its_start_unchanged_says_so(workspace, cats, others, progress):
    first = train_delta(workspace, cats, REQUEST)
    recipe = recipe_with(epochs=1, learning_rate=1e-12, start="tr")
    kept = train_delta(
        workspace,
        others,
        replace(REQUEST, recipe=recipe, validation_pictures=3, even_if_worse=True),
    )
    assert kept.manifest.validation["step"] == 0 and kept.manifest.kept_start
    assert not first.manifest.kept_start
    assert "tr: your captions did not improve on the start: kept the start" in progress.notes
    tensors = kept.tensors()
    for name, tensor in first.tensors().items():
        assert (tensors[name] - tensor).abs().max() < 1e-6


def test_epochs_that_the_recipe_cuts_short_are_told(workspace, cats, progress):
    short = replace(REQUEST, recipe=recipe_with(epochs=10, max_steps=4))
    assert train_delta(workspace, cats, short).manifest.steps == 4
    assert "tr: the recipe ends at 4 steps; 10 epochs are 10" in progress.notes
