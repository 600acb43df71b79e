"""One delta for several languages: trained together, used by each of them."""

from dataclasses import replace

import pytest
import torch

from tests.factories.datasets import make_folder
from tests.factories.models import write_mclip_backbone
from tests.factories.tiny import tiny_backbone, workspace_in
from xclipt.alignment.build import AlignmentRequest, build_joint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.evaluation.deltas import choose_deltas
from xclipt.export.formats import export_delta
from xclipt.export.importing import import_delta
from xclipt.model import Model
from xclipt.training.losses import contrastive
from xclipt.training.pairs import TrainingPairs
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.steps import Part, losses_of
from xclipt.training.train import train_delta
from xclipt.verify import verify
from xclipt.workspace import open_workspace

SPEC = LoraSpec(rank=2)
WORDS = {"en": "cat", "fr": "chat", "tr": "kedi"}


@pytest.fixture
def backbone(tmp_path):
    return str(write_mclip_backbone(tmp_path / "backbone"))


@pytest.fixture
def workspace(tmp_path, backbone):
    return open_workspace(tmp_path / "artifacts", backbone=backbone, create=True)


@pytest.fixture
def cats(tmp_path, make_picture):
    captions = {
        code: {f"{i}.jpg": tuple(f"{word} {i} {j}" for j in range(count)) for i in range(9)}
        for (code, word), count in zip(WORDS.items(), (3, 2, 3), strict=True)
    }
    del captions["tr"]["0.jpg"], captions["fr"]["8.jpg"]
    dataset = make_folder(tmp_path / "cats", captions)
    for i in range(9):
        make_picture(dataset.picture_path(f"{i}.jpg"), size=(8 + i, 8))
    return dataset


def request(**changes):
    joint = changes.pop("joint", ("fr", "tr"))
    recipe = recipe_with(epochs=1, **changes.pop("recipe", {}))
    alignment = AlignmentRequest("fr", **{"shots": 3} | changes.pop("alignment", {}))
    return TrainingRequest(alignment, delta=SPEC, recipe=recipe, joint=joint, **changes)


def test_every_language_takes_the_same_pictures(workspace, cats):
    one, other = build_joint(workspace, cats, AlignmentRequest("fr", shots=3), ("fr", "tr"))
    assert [pair.image for pair in one.pairs] == [pair.image for pair in other.pairs]
    assert len({pair.image for pair in one.pairs}) == 3
    assert {pair.text.split()[0] for pair in one.pairs} == {"chat"}
    one, other = build_joint(workspace, cats, AlignmentRequest("fr", shots=None), ("fr", "tr"))
    images = [pair.image for pair in one.pairs]
    assert images == [pair.image for pair in other.pairs]
    # Both have the seven pictures between, and French two captions of each.
    assert sorted(images) == sorted([f"{i}.jpg" for i in range(1, 8)] * 2)


def test_what_one_language_cannot_use_the_other_does_not_take(tmp_path):
    workspace = workspace_in(tmp_path)
    double = {f"{i}.jpg": (f"chat {i // 2}",) for i in range(8)}
    english = {f"{i}.jpg": (f"cat {i // 2}",) for i in range(8)}
    turkish = {f"{i}.jpg": (f"kedi {i}",) for i in range(8)}
    dataset = make_folder(tmp_path / "double", {"en": english, "fr": double, "tr": turkish})
    one, other = build_joint(workspace, dataset, AlignmentRequest("fr", shots=4), ("fr", "tr"))
    assert [pair.image for pair in one.pairs] == [pair.image for pair in other.pairs]
    assert len({pair.text for pair in one.pairs}) == 4


def test_the_loss_is_the_mean_of_the_languages_or_as_the_slip_has_it():
    backbone = tiny_backbone()
    adapted = AdaptedTower(backbone.text_tower, SPEC, 1).within(backbone)
    images = torch.randn(3, 8)
    texts = [["un chat", "un chien", "dort"], ["a cat", "a dog", "sleeps"], ["noir", "vert", "a"]]
    pairs = [TrainingPairs(images, backbone.tokenizer(text)) for text in texts]
    each = [contrastive(images, adapted.encode_texts(text)) for text in texts]
    similarity = backbone.text_tower.similarity

    def loss(recipe):
        weights = recipe.language_weights(3)
        parts = [Part(one, [0, 1, 2], own) for one, own in zip(pairs, weights, strict=True)]
        return losses_of(adapted, parts, recipe).total

    even = loss(recipe_with().on(similarity))
    torch.testing.assert_close(even, sum(each) / 3)
    halving = recipe_with(languages_weigh="halving").on(similarity)
    slip = loss(halving)
    running = torch.zeros(())
    for one in each:  # the halving sits inside the loop
        running = (running / 2) + one
    torch.testing.assert_close(slip, running / 3)
    with pytest.raises(XcliptError, match="languages_weigh 'much': choose equal, halving"):
        recipe_with(languages_weigh="much")


def test_one_delta_is_stored_once_and_current_for_each(workspace, backbone, cats, tmp_path):
    directory = workspace.directory
    stored = train_delta(workspace, cats, request(even_if_worse=True))
    manifest = stored.manifest
    assert (manifest.language, manifest.languages) == ("mul", ("fr", "tr"))
    assert manifest.name == "lora-fr-tr-3shot-cats-seed1" and manifest.data.pairs == 6
    assert stored.folder == directory.root / "deltas/mul" / manifest.name
    reference = f"mul/{manifest.name}"
    assert directory.languages() == ["fr", "tr"]
    for language in ("fr", "tr"):
        assert directory.current_name(language) == reference
        assert directory.current(language).folder == stored.folder
        assert directory.names(language) == [reference]
    assert [delta.current for delta in directory.deltas()] == [True]
    assert [(finding.path, finding.problem) for finding in verify(directory)] == [
        (f"deltas/mul/{manifest.name}", "")
    ]
    again = train_delta(workspace, cats, request(even_if_worse=True))
    assert again.manifest == manifest
    with pytest.raises(XcliptError, match="is another delta of mul"):
        train_delta(workspace, cats, request(joint=("tr", "fr"), name=manifest.name))
    # Served, measured and started from by its languages.
    model = Model(workspace)
    assert model.languages == ["fr", "tr"]
    texts = ["chat 1", "kedi 1"]
    ours = model.encode_text(texts, ["fr", "tr"])
    theirs = torch.nn.functional.normalize(workspace.encode_texts(texts, stored), dim=-1).numpy()
    assert abs(ours - theirs).max() < 1e-5
    chosen = choose_deltas(directory, ["fr", "tr"])
    assert {k: d[0].manifest.reference for k, d in chosen.items()} == dict.fromkeys(
        ("fr", "tr"), reference
    )
    for start in ("fr", f"mul/{manifest.name}"):
        recipe = recipe_with(epochs=1, start=start)
        own = replace(request(name=f"own-{len(start)}"), joint=(), recipe=recipe)
        assert train_delta(workspace, cats, own).manifest.start["name"] == reference
    # Given away and taken in.
    export = export_delta(stored, "hub", tmp_path / "out")
    card = (export.path / "README.md").read_text()
    assert "French and Turkish" in card and "- fr\n- tr" in card
    other = open_workspace(tmp_path / "other", backbone=backbone, create=True).directory
    imported = import_delta(other, export.path).delta
    assert imported.manifest.languages == ("fr", "tr") and imported.current
    assert other.current_name("tr") == reference


def test_choosing_and_removing(workspace, cats):
    directory = workspace.directory
    joint = train_delta(workspace, cats, request(even_if_worse=True)).manifest
    own = train_delta(workspace, cats, replace(request(even_if_worse=True), joint=())).manifest
    assert directory.current_name("fr") == own.name
    assert directory.names("fr") == [own.name, joint.reference]
    directory.set_current("fr", joint.reference)
    with pytest.raises(XcliptError, match=f"current delta of fr; .* `xclipt use fr {own.name}`"):
        directory.removal("mul", joint.name)
    with pytest.raises(XcliptError, match=r"no delta 'mul/.*' for 'de'"):
        directory.set_current("de", joint.reference)
    directory.set_current("fr", own.name)
    # Turkish has no other.
    directory.remove("mul", joint.name)
    assert directory.current_name("tr") is None and directory.languages() == ["fr"]
    assert not (directory.root / "deltas/mul").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint": ("fr", "de")}, "no captions in 'de'"),
        ({"alignment": {"shots": 8}}, "shots '8': cats has 7 pictures"),
    ],
)
def test_what_cannot_be_trained_together(workspace, cats, changes, message):
    with pytest.raises(XcliptError, match=message):
        train_delta(workspace, cats, request(**changes))


def test_translated_text_is_of_one_language():
    with pytest.raises(XcliptError, match="joint: texts that are translated"):
        request(alignment={"routine": 3})
