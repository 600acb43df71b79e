"""Training on the builtin backbone: what it leaves alone, kills, and several at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.evaluation.evaluate import evaluate
from xclipt.progress import Silent
from xclipt.training.recipe import recipe_with
from xclipt.training.train import TrainingRequest, train_delta
from xclipt.workspace import Workspace


@pytest.fixture
def workspace(backbone, tmp_path) -> Workspace:
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return Workspace(directory, backbone, Silent())


def test_the_backbone_is_the_same_before_and_after(workspace, backbone):
    before = backbone.measure_fingerprint()
    request = TrainingRequest(
        "fr", shots=6, recipe=recipe_with(epochs=3), validation_pictures=10, routine=1
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert backbone.measure_fingerprint() == before == stored.manifest.backbone["fingerprint"]
    lora = 12 * 2 * (4 * (384 + 384) + 2 * (384 + 1536))
    assert stored.manifest.weights.parameters == lora + 12 * 2 * 768 == 184_320
    assert stored.manifest.steps == 3
    assert stored.manifest.validation["history"][0]["step"] == 0


def test_routine_none_is_told_apart(workspace):
    request = TrainingRequest(
        "de", shots=4, recipe=recipe_with(epochs=1), validation_pictures=0, routine=None
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert stored.manifest.name == "lora-4shot-unaligned-seed1"
    assert stored.manifest.routine is None
    assert stored.manifest.validation == {"pictures": 0}


def test_a_delta_that_is_worse_is_shown_as_worse(workspace):
    """A learning rate far too high ruins the language, and eval must say so."""
    request = TrainingRequest(
        "fr",
        shots=10,
        recipe=recipe_with(epochs=6, learning_rate=0.3),
        validation_pictures=0,
        routine=None,
    )
    train_delta(workspace, EmojiDataset(), request)
    _, row = evaluate(workspace, EmojiDataset(), ["fr"], limit=150).rows
    assert row.gain.mean_r1 < 0 and row.gain.significant


@pytest.mark.parametrize("even_if_worse", [False, True])
def test_what_validation_says_is_worse_is_not_made_current(workspace, even_if_worse):
    request = TrainingRequest(
        "fr",
        shots=10,
        recipe=recipe_with(epochs=4, learning_rate=0.3),
        validation_pictures=40,
        routine=None,
        even_if_worse=even_if_worse,
    )
    stored = train_delta(workspace, EmojiDataset(), request)
    assert stored.manifest.validation["MRR"] < stored.manifest.validation["base_MRR"]
    assert stored.current is even_if_worse
    assert (workspace.directory.current("fr") is not None) is even_if_worse
    assert workspace.directory.delta("fr", stored.manifest.name), "it is stored all the same"


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


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    started = time.monotonic()
    subprocess.run(command(tmp_path / "whole", "fr"), check=True)
    whole_seconds = time.monotonic() - started
    artifacts = tmp_path / "killed"
    interrupted = 0
    # What is taken up has less left to do: late kills alone would come after its end.
    for share in (0.4, 0.5, 0.6, 0.75):
        process = subprocess.Popen(command(artifacts, "fr"))
        time.sleep(whole_seconds * share)
        if process.poll() is None:
            interrupted += 1
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if (artifacts / "xclipt.yaml").exists():
            ArtifactDirectory.open(artifacts).deltas("fr")
    assert interrupted >= 2
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
    from xclipt.data.registry import open_dataset

    dataset = open_dataset("xflickrco", data_root)
    languages = ["de", "es", "id", "ja", "ru", "tr", "zh"]
    for language in languages:
        train_delta(workspace, dataset, TrainingRequest(language, shots=10, seed=1))
    result = evaluate(workspace, dataset, languages)
    assert result.mean_gain.gain.mean_r1 > 0
    assert result.mean_gain.gain.ci95[0] > 0


def test_shots_beyond_the_pairs_are_refused(workspace):
    with pytest.raises(XcliptError, match="--shots 853: emoji has 852"):
        train_delta(workspace, EmojiDataset(), TrainingRequest("fr", shots=853))
