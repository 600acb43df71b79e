"""open_clip beside a torch without CUDA: in a folder of its own, and for child processes alone.

PyPI has torchvision for CUDA only. Beside a torch for the CPU it fails at import, since its
compiled operators cannot be loaded, and with it every import of transformers fails. open_clip wants
none of these operators, only that their names are defined: ``sitecustomize.py`` does that before
anything else. With a torchvision at hand transformers chooses other picture processors, so the
environment that the other tests run in must not have it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import platformdirs
import pytest
import torch

_MINOR = int(torch.__version__.split(".")[1])
_PACKAGES = (
    *("open-clip-torch>=3,<4", "timm>=1", "ftfy>=6", "wcwidth"),
    f"torchvision==0.{_MINOR + 15}.*",  # the one that is made for this torch
)
_OPERATORS = '''\
"""Defines the names that torchvision registers things for, in the place of its operators."""

from torch import library

for _name in (
    *("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "qroi_align"),
    *("deform_conv2d", "_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward"),
    *("_ps_roi_pool_backward", "_deform_conv2d_backward"),
):
    library.define(f"torchvision::{_name}", "(Tensor given) -> Tensor")
'''
_ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def open_clip_environment() -> dict[str, str]:
    """The environment of a child process that can import open_clip.

    What it needs is installed once, without dependencies, and kept in the user's cache.
    """
    content = "\n".join([*_PACKAGES, _OPERATORS, sys.version])
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    home = Path(platformdirs.user_cache_dir("xclipt-tests"))
    folder = home / f"open_clip-{key}"
    if not folder.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=home))
        _install(aside)
        (aside / "sitecustomize.py").write_text(_OPERATORS, encoding="utf-8")
        try:
            aside.rename(folder)
        except OSError:  # another test has been faster
            shutil.rmtree(aside)
    path = os.pathsep.join([str(folder), str(_ROOT)])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}


def _install(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--target", folder]
    run = subprocess.run([*pip, *_PACKAGES], capture_output=True, text=True, check=False)
    if run.returncode:
        shutil.rmtree(folder)
        if "Retrying (" in run.stderr:  # what pip says when nobody answers, and only then
            pytest.skip(f"open_clip is not tested, PyPI cannot be reached: {_last(run.stderr)}")
        pytest.fail(f"open_clip cannot be installed for its tests: {run.stderr}")


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def run_with_open_clip(arguments: Sequence[str | Path], **changes: str) -> str:
    """What Python prints with these arguments in a process of its own; it must end well."""
    run = subprocess.run(
        [sys.executable, *arguments],
        env=open_clip_environment() | changes,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    return run.stdout
