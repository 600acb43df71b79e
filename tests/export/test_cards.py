"""The code of a card is run as it stands, on both shapes that transformers gives CLIP."""

import re

import pytest
import torch
import transformers

from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features
from tests.factories.foreign import Around, features_around
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.export.formats import export_delta


def run_card(export, text_tower):
    """The card's only block of Python, with its two names put in; the encoder that it makes."""
    (code,) = re.findall(r"```python\n(.*?)```", (export.path / "README.md").read_text(), re.S)
    code = code.replace("TEXT_TOWER", repr(str(text_tower)))
    made = {}
    exec(code.replace('"shaken"', repr(str(export.path))), made)
    return made["encoder"].eval()


@pytest.fixture(params=[False, True], ids=["alone", "norms"])
def spec(request):
    return LoraSpec(rank=2, train_layernorm=request.param)


@pytest.mark.parametrize("format", ["peft", "opendelta"])
@pytest.mark.parametrize("major", [4, 5])
def test_clips_card_loads_under_both_majors(small, tmp_path, monkeypatch, spec, format, major):
    import_opendelta()
    backbone = small("clip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    if major == 4:
        load = transformers.CLIPTextModel.from_pretrained
        monkeypatch.setattr(
            transformers.CLIPTextModel,
            "from_pretrained",
            lambda folder: Around("text_model", load(folder)),
        )
    encoder = run_card(export, tmp_path / "backbone-clip")
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(features_around(backbone, encoder), ours, atol=1e-5, rtol=1e-5)


def test_other_towers_have_one_shape(small, tmp_path, spec):
    backbone = small("mclip")
    backbone.text_tower.encoder.save_pretrained(tmp_path / "encoder")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    export = export_delta(delta, "peft", tmp_path / "out", lambda: backbone)
    assert "getattr" not in (export.path / "README.md").read_text()
    encoder = run_card(export, tmp_path / "encoder")
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(features_around(backbone, encoder), ours, atol=1e-5, rtol=1e-5)


def test_the_card_says_which_versions_it_was_checked_with(stored, tmp_path):
    export = export_delta(stored, "peft", tmp_path / "out", lambda: None)
    card = (export.path / "README.md").read_text()
    assert "Checked with PEFT 0.18 and 0.21, each on transformers 4.57 and 5.24" in card
