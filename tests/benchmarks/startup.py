"""How long commands take to start, and how much memory they take.

``search`` is warm: its pictures are indexed. It is held against the time that Python takes to
import torch and transformers and to load the text tower with its tokenizer, below which no search
can be.
"""

import subprocess
import sys
from functools import partial

from PIL import Image

from tests.benchmarks.measuring import Figure, Measured, Row, Setting, at_most, interleaved

_LOADING = """
import torch
from transformers import BertModel, PreTrainedTokenizerFast
from xclipt.files import cache_dir
folder = next(cache_dir().glob("multilingual-e5-small-*"))
BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
"""
_PEAK = """
import resource, subprocess, sys
nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run(sys.argv[1:], check=True, **nowhere)
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""
_SECONDS = {"--help": 0.3, "status": 0.6, "use": 0.6, "verify": 0.6}
_SEARCH, _TOWER = "search, warm", "imports and tower"


def starting(setting: Setting) -> Measured:
    """Commands in processes of their own, in a directory with a small French delta."""
    pictures, artifacts = setting.folder / "pictures", setting.folder / "started"
    pictures.mkdir()
    for i in range(setting.size(100, least=5)):
        Image.new("RGB", (64, 48), (i, 255 - i, 2 * i)).save(pictures / f"{i}.png")
    xclipt = [sys.executable, "-m", "xclipt"]
    at = ["--artifacts", str(artifacts)]
    train = ["train-delta", "--lang", "fr", "--shots", "10", "--validate-on", "20"]
    _run([*xclipt, *train, "--epochs", "5", "--even-if-worse", "--name", "ten", *at])
    commands = {
        "--help": [*xclipt, "--help"],
        "status": [*xclipt, "status", *at],
        "use": [*xclipt, "use", "fr", "ten", *at],
        "verify": [*xclipt, "verify", *at],
        _SEARCH: [*xclipt, "search", "un chien", "--lang", "fr", "--images", str(pictures), *at],
        _TOWER: [sys.executable, "-c", _LOADING],
    }
    megabytes = {name: _megabytes(command) for name, command in commands.items()}
    taken = interleaved(
        {name: partial(_run, command) for name, command in commands.items()}, setting, warm=False
    )
    told = ", ".join(f"{name} {used:.0f}" for name, used in megabytes.items())
    return Measured(
        (
            *(
                Figure(name, "", taken.median(name), unit="s", target=at_most(most))
                for name, most in _SECONDS.items()
            ),
            taken.times_as_long(_SEARCH, _TOWER, at_most(1.3), f"peak MB: {told}"),
        )
    )


def _run(command: list[str]) -> None:
    """Run a command, which must succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _megabytes(command: list[str]) -> float:
    """Peak memory of a command, children included."""
    # Between them a process of its own: a child begins with the peak of what started it.
    asked = [sys.executable, "-c", _PEAK, *command]
    peak = int(subprocess.run(asked, check=True, stdout=subprocess.PIPE).stdout)
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


ROWS = (Row("start", "commands in processes of their own", starting),)
