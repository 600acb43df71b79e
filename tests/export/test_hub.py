"""The folder for a hub: a card that the hub's own library reads, and a delta that comes back."""

from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard

from tests.factories.deltas import store_shaken
from tests.factories.exports import CAPTIONS, features
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.export.formats import export_delta
from xclipt.export.importing import import_delta


def test_the_card_and_the_way_back(backbone, stored, tmp_path):
    ours = features(backbone, stored, CAPTIONS)
    export = export_delta(stored, "hub", tmp_path / "out", lambda: None)
    assert set(export.files) == {
        *("README.md", "manifest.yaml", "SHA256SUMS", stored.manifest.weights.file)
    }
    card = ModelCard.load(export.path / "README.md")
    front = card.data.to_dict()
    assert front["language"] == "fr" and "lora" in front["tags"]
    assert front["base_model"] == "intfloat/multilingual-e5-small"
    assert front["datasets"] == ["emoji"] and front["license"] == "other"
    delta, base = card.data.eval_results
    assert (delta.metric_value, base.metric_value) == (26.5, 20.0)
    for part in ("French", stored.manifest.backbone["fingerprint"], "CC BY-SA 4.0", "import-delta"):
        assert part in card.text
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "other", backbone.identity)
    imported = import_delta(directory, export.path)
    assert not imported.foreign and imported.delta.current
    assert torch.equal(features(backbone, imported.delta, CAPTIONS), ours)


@pytest.mark.parametrize("spec", [LoraSpec(rank=2), AdapterSpec(bottleneck=4)])
def test_a_backbones_folder_is_not_told(small, tmp_path, spec):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    export = export_delta(delta, "hub", tmp_path / "out", lambda: None)
    written = "".join(path.read_text() for path in export.path.glob("*.[my][da]*"))
    assert "backbone-mclip" in written and str(tmp_path) not in written
    front = ModelCard.load(export.path / "README.md").data.to_dict()
    assert "base_model" not in front
    # It fits its backbone all the same.
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "other", backbone.identity)
    imported = import_delta(directory, export.path)
    assert imported.delta.manifest.backbone["id"] == backbone.identity.id


def test_without_validation_it_promises_nothing(stored, tmp_path):
    bare = replace(stored.manifest, validation={"pictures": 0}, name="bare")
    directory = ArtifactDirectory.open(stored.folder.parents[2])
    again = directory.write_delta(*bare.packed(stored.tensors()), make_current=False)
    export = export_delta(again, "hub", tmp_path / "out", lambda: None)
    card = ModelCard.load(export.path / "README.md")
    assert card.data.eval_results is None and "without validation pictures" in card.text
