"""Asked to stop, a training stops between two steps, and goes on from there to the same bytes."""

import os
import shutil
import signal

import pytest

from tests.factories.running import run_xclipt
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import INTERRUPTED
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.interruption import Stopped, stopping
from xclipt.training.recipe import recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta


@pytest.fixture
def train(backbone, tmp_path):
    """Trains four steps in a fresh directory, and does something after every step."""

    def run(name, do=lambda step: None):
        workspace = workspace_in(tmp_path / name, backbone)
        recipe = recipe_with(batch_size=4, epochs=2, dtype="float32")
        request = TrainingRequest(
            AlignmentRequest("fr", shots=12), recipe=recipe, validation_pictures=4, name="x"
        )
        return train_delta(workspace, EmojiDataset(), request, lambda record: do(record.step))

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_saves_stops_and_goes_on_to_the_same_bytes(train, tmp_path, number, code):
    steps = []

    def send(step):
        steps.append(step)
        if len(steps) == 2:
            os.kill(os.getpid(), number)

    with stopping(), pytest.raises(Stopped) as caught:
        train("cut", send)
    assert caught.value.exit_code == code and steps == [1, 2, 3]
    folder = tmp_path / "cut/artifacts/deltas/fr/x"
    assert [path.name for path in folder.iterdir()] == [INTERRUPTED]
    stored = train("cut", steps.append)
    assert steps == [1, 2, 3, 4] and not (folder / INTERRUPTED).exists()
    whole = train("whole")
    assert stored.manifest.weights == whole.manifest.weights


def test_a_directory_deleted_meanwhile_is_not_made_again(train, tmp_path):
    root = tmp_path / "gone/artifacts"
    with pytest.raises(XcliptError, match="has been deleted or moved meanwhile") as caught:
        train("gone", lambda step: shutil.rmtree(root, ignore_errors=True))
    assert str(root) in str(caught.value) and not root.exists()


def test_the_program_says_how_to_go_on(monkeypatch):
    def interrupted(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("xclipt.cli.backbones.print_json", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    run = run_xclipt("backbones", "--json")
    assert (run.code, run.out) == (143, "")
    assert run.err == "xclipt: interrupted; run the same command to go on\n"
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(
        "xclipt.cli.backbones.print_json", lambda *a, **m: os.kill(os.getpid(), signal.SIGINT)
    )
    assert run_xclipt("backbones", "--json").code == 130


def test_a_saved_state_with_one_bit_turned_is_not_gone_on_from(train, tmp_path):
    def stop(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with stopping(), pytest.raises(Stopped):
        train("cut", stop)
    path = tmp_path / "cut/artifacts/deltas/fr/x" / INTERRUPTED
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    steps = []
    stored = train("cut", steps.append)
    assert steps[0] == 1, "it begins anew"
    assert stored.manifest.weights == train("whole").manifest.weights
