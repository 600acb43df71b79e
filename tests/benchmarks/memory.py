"""Peak memory of trainings, each in a process of its own.

    python -m tests.benchmarks.memory KIND ARGUMENT

prints, as JSON, the resident bytes of this process before it began, once what it works on was
built, and at its peak.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from tests.benchmarks.measuring import Figure, Measured, Row, Setting, at_most
from tests.factories.full_size import write_mclip_large
from tests.factories.models import write_mclip_backbone
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent
from xclipt.training.loop import TrainingState, fit
from xclipt.training.pairs import TrainingPairs
from xclipt.training.recipe import DEFAULT, recipe_with

_CAPTION = "un homme en chemise bleue est debout sur une échelle pour nettoyer une fenêtre"
_STEPS = 10


def training(setting: Setting) -> Measured:
    """The default recipe's steps on the builtin tower and on one of M-CLIP-large's shape."""
    builtin = measured_apart("builtin", "")
    large = setting.folder / "mclip-large"
    if setting.scale == 1:
        large.mkdir()
        write_mclip_large(large)
        remark = "mclip-l14's shape with random weights"
    else:
        write_mclip_backbone(large)
        remark = "mclip-l14 at full scale alone: here a tower of a few weights in its format"
    other = measured_apart("folder", large)
    return Measured(
        (
            Figure(
                "builtin, beside weights",
                "",
                (builtin["peak"] - builtin["weights"]) / 1e6,
                unit="MB",
                target=at_most(600),
                remark="Python, torch and the image tower are in it",
            ),
            Figure(
                "M-CLIP-large, LoRA",
                "",
                other["peak"] / 1e9,
                unit="GB",
                target=at_most(4),
                remark=remark,
            ),
        )
    )


def measured_apart(kind: str, argument: object) -> dict[str, float]:
    """What this module's own ``main`` finds in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", kind, str(argument)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _train(backbone: Backbone) -> None:
    size = DEFAULT.batch_size
    rows = backbone.tokenizer([_CAPTION] * size)
    random = torch.randn(size, backbone.dim)
    pairs = TrainingPairs(random, rows, rows, partner_features=random)
    fit(
        backbone,
        AdaptedTower(backbone.text_tower, LoraSpec()),
        [pairs],
        recipe_with(epochs=_STEPS, evaluations=1),
        1,
        [],
        TrainingState(),
        lambda state: None,
        Silent().start("", _STEPS),
    )


def _resident(name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def main(kind: str, argument: str) -> None:
    """Measure one, and print what was found."""
    before, weights = _resident("VmRSS"), 0.0
    if kind == "search":
        from tests.benchmarks.searching import index_of, search_all

        index = index_of(int(argument))
        loaded = _resident("VmRSS")
        search_all(index)
    else:
        device = torch.device("cpu")
        if kind == "builtin":
            backbone = load_builtin(device)
        else:
            backbone = load_backbone(argument, device, torch.float32, Silent())
        weights = 4.0 * backbone.text_parameters
        loaded = _resident("VmRSS")
        _train(backbone)
    found = {"before": before, "built": loaded, "peak": _resident("VmHWM"), "weights": weights}
    sys.stdout.write(json.dumps(found))


ROWS = (Row("memory", "peak memory of training, the whole process", training),)

if __name__ == "__main__":
    main(*sys.argv[1:])
