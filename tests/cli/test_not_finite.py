"""Damaged backbones and trainings that diverge end in one line, and nothing of them is kept."""

import pytest
from safetensors.torch import load_file, save_file

from tests.factories.datasets import make_folder
from tests.factories.models import load, write_clip
from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory

COLOURS = ("red", "green", "blue", "white", "black", "orange")
TEXTS = {"en": ("a cat", "a dog", "cat runs", "dog runs", "cat sleeps", "dog sleeps")} | {
    "fr": ("un chat", "un chien", "chat court", "chien court", "chat dort", "chien dort")
}


@pytest.fixture
def folder(tmp_path, make_picture):
    """A data set in one piece: there are no pictures to validate on."""
    captions = {
        language: {f"{i}.png": (text,) for i, text in enumerate(texts)}
        for language, texts in TEXTS.items()
    }
    dataset = make_folder(tmp_path / "mine", captions)
    for i, colour in enumerate(COLOURS):
        make_picture(dataset.picture_path(f"{i}.png"), colour)
    return tmp_path / "mine"


def artifacts_of(backbone, root):
    ArtifactDirectory.open_or_create(root, load(backbone).identity)
    return root


@pytest.mark.parametrize("side", ["text", "vision"])
@pytest.mark.parametrize("command", ["eval", "train-delta", "search"])
def test_a_backbone_whose_features_are_no_numbers(tmp_path, folder, side, command):
    write_clip(tmp_path / "clip")
    weights = load_file(tmp_path / "clip/model.safetensors")
    weights[f"{'text' if side == 'text' else 'visual'}_projection.weight"][0] = 3e38
    save_file(weights, tmp_path / "clip/model.safetensors", {"format": "pt"})
    options = {
        "eval": ("--dataset", folder, "--lang", "fr"),
        "train-delta": ("--dataset", folder, "--lang", "fr", "--shots", "4"),
        "search": ("un chat", "--images", folder / "images"),
    }
    artifacts = artifacts_of(tmp_path / "clip", tmp_path / "artifacts")
    run = run_xclipt(command, *options[command], "--artifacts", artifacts)
    assert run.code == 1 and run.out == ""
    (line,) = [line for line in run.err.splitlines() if line.startswith("xclipt: ")]
    named = ".png" if side == "vision" else "'"
    assert line.startswith(f"xclipt: backbone {tmp_path / 'clip'}: its features of ")
    assert named in line and "are not finite" in line
    assert not (artifacts / "deltas").exists()
    for shard in (artifacts / "features").rglob("*.safetensors"):
        assert load_file(shard)["features"].isfinite().all()


@pytest.mark.parametrize(
    ("option", "rate", "parts"),
    [
        ("--learning-rate", "inf", ["--learning-rate inf: must be a finite number"]),
        ("--align-weight", "nan", ["--align-weight nan: must be a finite number"]),
        ("--learning-rate", "1e30", ["step ", "pairs ", "a lower --learning-rate than 1e+30"]),
    ],
)
def test_a_training_that_cannot_go_well_stores_nothing(tmp_path, folder, option, rate, parts):
    write_clip(tmp_path / "clip")
    artifacts = artifacts_of(tmp_path / "clip", tmp_path / "artifacts")
    run = run_xclipt(
        *("train-delta", "--dataset", folder, "--lang", "fr", "--shots", "4"),
        *(option, rate, "--artifacts", artifacts),
    )
    assert run.code != 0 and run.out == ""
    (line,) = [line for line in run.err.splitlines() if line.startswith("xclipt: ")]
    for part in parts:
        assert part in line
    assert not list(artifacts.rglob("*manifest*")) and not list(artifacts.rglob("current*"))


def test_pictures_that_are_copies_and_texts_that_are_cut_are_counted(tmp_path, folder):
    write_clip(tmp_path / "clip")  # 20 tokens
    artifacts = artifacts_of(tmp_path / "clip", tmp_path / "artifacts")
    evaluation = ("eval", "--dataset", folder, "--lang", "fr,en", "--artifacts", artifacts)
    run = run_xclipt(*evaluation)
    assert run.code == 0, run.err
    assert "copies" not in run.err and "cut" not in run.err
    for copy in (1, 4):
        copied = (folder / "images/0.png").read_bytes()
        (folder / f"images/{copy}.png").write_bytes(copied)
    captions = folder / "captions.fr.jsonl"
    captions.write_text(
        captions.read_text("utf-8").replace("chat dort", "chat dort " * 12), "utf-8"
    )
    run = run_xclipt(*evaluation)
    assert run.code == 0, run.err
    assert run.err.count("mine: 2 of these 6 pictures are copies of others, byte for byte") == 1
    assert run.err.count("mine: 1 of 12 texts do not fit the text tower's 20 tokens") == 1
    found = run_xclipt(
        *("search", "chat " * 30, "un chat", "chien " * 40),
        *("--images", folder / "images", "--artifacts", artifacts),
    )
    assert found.code == 0, found.err
    assert found.err.count("queries: 2 of 3 texts do not fit the text tower's 20 tokens") == 1
