"""``--image-tower``: text towers that were published by themselves, and the images beside them."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.factories.dual_encoders import write_dual_encoder
from tests.factories.models import write_clip_vision, write_hub_cache, write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.factories.sentence_transformers import write_pair

TRAIN = ("train-delta", "--dataset", "emoji", "--lang", "fr", "--shots", "4", "--epochs", "1")
TRAIN = (*TRAIN, "--delta", "lora", "--rank", "2", "--even-if-worse", "-q")
MEASURE = ("eval", "--dataset", "emoji", "--lang", "fr", "--limit", "8")


@pytest.fixture
def text(tmp_path):
    """sentence-transformers' format as it is published: without pictures."""
    write_pair(tmp_path / "text")
    (tmp_path / "text/image").rename(tmp_path / "pictures")
    return tmp_path / "text"


@pytest.fixture
def pictures(tmp_path, text):
    return tmp_path / "pictures"


@pytest.mark.slow
def test_the_artifact_directory_knows_the_image_tower(tmp_path, text, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("--artifacts", tmp_path / "artifacts")
    refused = run_xclipt(*TRAIN, *common, "--backbone", text)
    assert refused.code == 2 and "--image-tower NAME_OR_FOLDER" in refused.err
    assert not (tmp_path / "artifacts").exists()

    trained = run_xclipt(*TRAIN, *common, "--backbone", "text", "--image-tower", "pictures")
    assert trained.code == 0, trained.err
    known = yaml.safe_load((tmp_path / "artifacts/xclipt.yaml").read_text())["backbone"]
    assert (known["id"], known["image_tower"]) == (str(text), str(pictures))
    (manifest,) = (tmp_path / "artifacts/deltas").glob("fr/*/manifest.yaml")
    assert yaml.safe_load(manifest.read_text())["backbone"] == known

    for arguments in (
        MEASURE,
        (*MEASURE, "--backbone", "text"),
        ("search", "un chat", "--lang", "fr", "--images", _some_pictures(tmp_path)),
        ("verify", "--deep"),
        ("export-delta", "--lang", "fr", "--format", "onnx"),
    ):
        done = run_xclipt(*arguments, *common)
        assert done.code == 0, done.err
    assert f"{text} with the images of {pictures}" in run_xclipt("status", *common).out

    write_clip_vision(tmp_path / "others", seed=7)
    other = run_xclipt(*MEASURE, *common, "--image-tower", "others")
    assert other.code == 2 and other.err.count("\n") == 1
    assert f"not {text} with the images of {tmp_path / 'others'}" in other.err


def test_a_public_export_does_not_tell_where_it_lay(tmp_path, text, pictures):
    common = ("--artifacts", tmp_path / "artifacts")
    named = ("--backbone", text, "--image-tower", pictures)
    assert run_xclipt(*TRAIN, *common, *named).code == 0
    hub = ("export-delta", "--lang", "fr", "--format", "hub", "--out", tmp_path / "hub")
    assert run_xclipt(*hub, *common).code == 0
    described = next((tmp_path / "hub").rglob("manifest.yaml"))
    assert str(tmp_path) not in described.read_text()
    assert yaml.safe_load(described.read_text())["backbone"]["image_tower"] == "pictures"
    again = ("--artifacts", tmp_path / "again", *named)
    back = run_xclipt("import-delta", described.parent, *again)
    assert back.code == 0, back.err
    assert run_xclipt(*MEASURE, "--artifacts", tmp_path / "again").code == 0


def test_mclip_folders_and_hub_ids(tmp_path, monkeypatch):
    from huggingface_hub import constants

    folder = write_mclip_backbone(tmp_path / "model")
    (folder / "image").rename(tmp_path / "vision")
    write_hub_cache(tmp_path / "vision", tmp_path / "cache", "someone/tiny-vision")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = tmp_path / "config.yaml"
    config.write_text(f"backbone: {folder}\nimage_tower: someone/tiny-vision\n")
    common = ("--artifacts", tmp_path / "artifacts")
    trained = run_xclipt(*TRAIN, *common, "--config", config)
    assert trained.code == 0, trained.err
    known = yaml.safe_load((tmp_path / "artifacts/xclipt.yaml").read_text())["backbone"]
    assert known["image_tower"] == "someone/tiny-vision"
    assert known["revision"] == "local+0123456789ab"
    assert run_xclipt(*MEASURE, *common).code == 0


@pytest.mark.parametrize("backbone", ["builtin", "clip"])
def test_whoever_has_images_takes_no_others(tmp_path, backbone, pictures):
    if backbone == "clip":
        write_dual_encoder(tmp_path / "clip", "clip")
        backbone = str(tmp_path / "clip")
    common = ("--artifacts", tmp_path / "artifacts", "--backbone", backbone)
    refused = run_xclipt(*TRAIN, *common, "--image-tower", pictures)
    assert refused.code == 2
    assert refused.err.endswith(f"{backbone} has an image tower of its own; leave it out\n")
    assert refused.err.startswith(f"xclipt: --image-tower {pictures}: ")
    assert not (tmp_path / "artifacts").exists()


def test_what_is_no_image_tower_is_told(tmp_path, text, pictures):
    common = ("--artifacts", tmp_path / "artifacts", "--backbone", text)
    unknown = run_xclipt(*TRAIN, *common, "--image-tower", tmp_path / "none")
    assert unknown.code == 2 and "no folder, and no hub id" in unknown.err
    write_clip_vision(tmp_path / "wider", dim=6)
    wider = run_xclipt(*TRAIN, *common, "--image-tower", tmp_path / "wider")
    assert wider.code == 2
    assert "the text tower has 8 dimensions, the image tower 6" in wider.err
    shutil.rmtree(pictures)
    pictures.mkdir()
    empty = run_xclipt(*TRAIN, *common, "--image-tower", pictures)
    assert empty.code == 2 and f"{pictures}: no weights" in empty.err


def _some_pictures(folder: Path) -> Path:
    from PIL import Image

    (folder / "found").mkdir(exist_ok=True)
    Image.new("RGB", (20, 20), "red").save(folder / "found/red.png")
    return folder / "found"
