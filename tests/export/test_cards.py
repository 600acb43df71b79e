"""Cards are followed to the letter: their code is run as it stands, in a process of its own."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from tests.factories.deltas import store_shaken
from tests.factories.exports import SHORT, features
from tests.factories.foreign import Around, features_around
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.export.formats import export_delta
from xclipt.files import check_sums

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def run_card(export):
    """The encoder that the card's only block of Python makes, its folder's place put in."""
    (code,) = re.findall(r"```python\n(.*?)```", (export.path / "README.md").read_text(), re.S)
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
    encoder = run_card(export)
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(features_around(backbone, encoder), ours, atol=1e-5, rtol=1e-5)


def test_other_towers_have_one_shape(small, tmp_path, spec):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    export = export_delta(delta, "peft", tmp_path / "out", lambda: backbone)
    assert "getattr" not in (export.path / "README.md").read_text()
    encoder = run_card(export)
    ours = features(backbone, delta, SHORT)
    torch.testing.assert_close(features_around(backbone, encoder), ours, atol=1e-5, rtol=1e-5)


def test_the_card_says_which_versions_it_was_checked_with(stored, tmp_path):
    export = export_delta(stored, "peft", tmp_path / "out", lambda: None)
    card = (export.path / "README.md").read_text()
    assert "Checked with PEFT 0.18 and 0.21, each on transformers 4.57 and 5.24" in card


def follow(export, place):
    """Run a card's code and commands where its folder lies, beside photographs; what they print."""
    card = (export.path / "README.md").read_text()
    assert "None" not in card and "THIS_FOLDER" not in card and "TEXT_TOWER" not in card
    blocks = re.findall(r"```(python|console)\n(.*?)```", card, re.S)
    assert blocks
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    said = []
    for kind, text in blocks:
        lines = [line.removeprefix("$ ") for line in text.splitlines()]
        for command in (
            [[sys.executable, "-c", text]]
            if kind == "python"
            else [[sys.executable, "-m", *shlex.split(line)] for line in lines]
        ):
            run = subprocess.run(
                command, cwd=place, env=environment, capture_output=True, text=True, timeout=300
            )
            assert run.returncode == 0, run.stderr
            assert "LOAD REPORT" not in run.stderr and "MISSING" not in run.stderr, run.stderr
            said.append(run.stdout)
    return said


def cosines(backbone, delta, photos):
    texts = delta.within(backbone).encode_texts(["..."])
    pictures = backbone.encode_pictures(photos)
    return torch.nn.functional.normalize(texts) @ torch.nn.functional.normalize(pictures).T


CASES = [
    ("mclip", "peft", LoraSpec(rank=2)),
    ("clip", "merged", LoraSpec(rank=2)),
    ("mclip", "peft", SoftPromptSpec(tokens=2, pool_prompt=False)),
    ("clip", "peft", LoraSpec(rank=2)),
    ("mclip", "opendelta", LoraSpec(rank=2)),
    ("mclip", "opendelta", SoftPromptSpec(tokens=2)),
    ("clip", "opendelta", LoraSpec(rank=2)),
    *[("mclip", format, LoraSpec(rank=2)) for format in ("merged", "hub", "onnx", "onnx-shared")],
    *[("builtin", format, LoraSpec()) for format in ("peft", "opendelta", "merged", "hub", "onnx")],
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "format", "spec"),
    CASES,
    ids=lambda value: getattr(value, "kind", value),
)
def test_a_card_followed_to_the_letter(small, backbone, tmp_path, make_picture, on, format, spec):
    own = backbone if on == "builtin" else small(on)
    delta = store_shaken(tmp_path / "artifacts", own, spec, noise=0.2)
    export = export_delta(delta, format, tmp_path / "out", lambda: own)
    place = export.path.parent
    photos = [make_picture(place / "photos" / f"{i}.jpg", c) for i, c in enumerate(("red", "blue"))]
    if format == "hub" and on != "builtin":
        (place / "backbone-mclip").symlink_to(tmp_path / "backbone-mclip")
    *_, said = follow(export, place)
    found = torch.tensor([float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", said)])
    torch.testing.assert_close(found, cosines(own, delta, photos)[0], atol=2e-3, rtol=0)


def test_two_formats_in_one_place_are_two_folders(stored, backbone, tmp_path):
    first = export_delta(stored, "peft", tmp_path, lambda: backbone)
    second = export_delta(stored, "opendelta", tmp_path, lambda: backbone)
    third = export_delta(stored, "native", tmp_path, lambda: backbone)
    names = [export.path.name for export in (first, second, third)]
    assert names == ["shaken", "shaken-opendelta", "shaken-native"]
    assert [check_sums(export.path) for export in (first, second, third)] == ["", "", ""]
    assert "shaken-opendelta" in (second.path / "README.md").read_text()
    again = export_delta(stored, "peft", tmp_path, lambda: backbone)
    assert again.path == first.path, "the same format is written anew"
    again = export_delta(stored, "opendelta", tmp_path, lambda: backbone)
    assert again.path == second.path
