"""Training on the builtin backbone: what it leaves alone, kills, and several at once."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.registry import open_dataset
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace


@pytest.fixture
def workspace(backbone, tmp_path) -> Workspace:
    return workspace_in(tmp_path, backbone)


def test_the_backbone_is_the_same_before_and_after(workspace, backbone):
    before = backbone.measure_fingerprint()
    request = TrainingRequest(
        AlignmentRequest("fr", shots=6), recipe=recipe_with(epochs=3), validation_pictures=10
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert backbone.measure_fingerprint() == before == stored.manifest.backbone["fingerprint"]
    lora = 12 * 2 * (4 * (384 + 384) + 2 * (384 + 1536))
    assert stored.manifest.weights.parameters == lora + 12 * 2 * 768 == 184_320
    assert stored.manifest.steps == 3
    assert stored.manifest.validation["history"][0]["step"] == 0


def test_routine_none_is_told_apart(workspace):
    request = TrainingRequest(
        AlignmentRequest("de", shots=4, routine=None),
        recipe=recipe_with(epochs=1),
        validation_pictures=0,
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert stored.manifest.name == "lora-4shot-unaligned-seed1"
    assert stored.manifest.routine is None
    assert stored.manifest.validation == {"pictures": 0}


def test_a_ruined_delta_is_shown_as_worse_and_not_made_current(workspace):
    """A learning rate far too high ruins the language: validation and eval must say so."""
    request = TrainingRequest(
        AlignmentRequest("fr", shots=10, routine=None),
        recipe=recipe_with(epochs=4, learning_rate=0.3),
        name="ruined",
        validation_pictures=20,
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert stored.manifest.validation["MRR"] < stored.manifest.validation["base_MRR"]
    assert not stored.current and workspace.directory.current("fr") is None
    assert workspace.directory.delta("fr", "ruined"), "it is stored all the same"
    asked = EvaluationRequest(["fr"], deltas={"fr": (stored,)}, limit=80)
    _, row = evaluate(workspace, EmojiDataset(), asked).rows
    assert row.gain.mean_r1 < 0 and row.gain.significant
    again = train_delta(workspace, EmojiDataset(), replace(request, even_if_worse=True))
    assert again.current and again.manifest.weights == stored.manifest.weights


def command(artifacts: Path, language: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "xclipt", "train-delta", "--lang", language, "--shots", "8"),
        *("--epochs", "12", "--validate-on", "20", "--even-if-worse", "-q"),
        *("--artifacts", str(artifacts), *more),
    ]


def weights(artifacts: Path, language: str) -> bytes:
    delta = ArtifactDirectory.open(artifacts).current(language)
    assert delta is not None
    return (delta.folder / delta.manifest.weights.file).read_bytes()


DYING = """
import os, signal, sys
from importlib import import_module
from xclipt.cli.app import main

owner, name, left = import_module(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original = getattr(owner, name)

def dying(*arguments, **settings):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **settings)

setattr(owner, name, dying)
main(sys.argv[4:])
"""
"""A program that is killed when it calls a function for the so-manieth time."""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    subprocess.run(command(tmp_path / "whole", "fr"), check=True)
    artifacts = tmp_path / "killed"
    for moment in (
        ("xclipt.files", "_flush", 1),  # while the directory is made
        ("xclipt.training.loop", "losses_of", 3),
        ("xclipt.training.checkpoint", "write_with", 2),
        ("xclipt.files", "_flush", 1),  # while a checkpoint is written
        ("xclipt.artifacts.directory", "write_text", 1),  # the weights are there, no manifest
        ("xclipt.artifacts.directory", "write_text", 2),  # nor what is current
    ):
        started = [sys.executable, "-c", DYING, *map(str, moment), *command(artifacts, "fr")[3:]]
        assert subprocess.run(started, check=False).returncode == -signal.SIGKILL, moment
        if ArtifactDirectory.is_at(artifacts):
            ArtifactDirectory.open(artifacts).deltas()
    subprocess.run(command(artifacts, "fr"), check=True)
    assert weights(artifacts, "fr") == weights(tmp_path / "whole", "fr")
    left = [path.name for path in (artifacts / "deltas/fr/lora-8shot-seed1").iterdir()]
    assert sorted(name for name in left if not name.startswith(".")) == [
        ArtifactDirectory.open(artifacts).current("fr").manifest.weights.file,
        "manifest.yaml",
    ]


@pytest.mark.slow
def test_two_languages_train_at_once(tmp_path):
    subprocess.run(command(tmp_path / "alone", "de"), check=True)
    both = [subprocess.Popen(command(tmp_path / "both", code)) for code in ("fr", "de")]
    assert [process.wait() for process in both] == [0, 0]
    directory = ArtifactDirectory.open(tmp_path / "both")
    assert directory.languages() == ["de", "fr"]
    assert weights(tmp_path / "both", "de") == weights(tmp_path / "alone", "de")


@pytest.mark.slow
def test_ten_photographs_lift_languages_above_the_base(workspace, data_root):
    """Seven languages' human captions of photographs: the mean gain excludes zero.

    Of ten, since sixty leave five of the languages 27 photographs to be measured on.
    """
    dataset = open_dataset("xflickrco", data_root)
    languages = ["de", "es", "id", "ja", "ru", "tr", "zh"]
    for language in languages:
        train_delta(workspace, dataset, TrainingRequest(AlignmentRequest(language, shots=10)))
    result = evaluate(workspace, dataset, EvaluationRequest(languages))
    assert result.mean_gain.gain.mean_r1 > 0
    assert result.mean_gain.gain.ci95[0] > 0


def test_shots_beyond_the_pairs_are_refused(workspace):
    with pytest.raises(XcliptError, match="shots '853': emoji has 852"):
        train_delta(workspace, EmojiDataset(), TrainingRequest(AlignmentRequest("fr", shots=853)))
