"""What only looks does not wait for torch; figures are in tests/benchmarks (`--only start`)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent

_REPORT = """
import sys
from xclipt.cli.app import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "transformers", "datasets", "pandas", "opendelta", "matplotlib", "PIL"}
    heavy |= {"numpy", "langcodes", "fastapi", "uvicorn", "prometheus_client"}
    sys.stderr.write("heavy: " + " ".join(sorted(heavy & sys.modules.keys())))
"""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    """A delta, features and an index, all of which verify has looked at once."""
    root = tmp_path_factory.mktemp("startup")
    folder = write_mclip_backbone(root / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), name="new")
    directory = ArtifactDirectory.open(root / "artifacts")
    directory.features("images", 8).add([b"k" * 32], torch.ones(1, 8))
    assert run_xclipt("verify", "--artifacts", root / "artifacts").code == 0
    return root / "artifacts"


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["train-delta", "--help"],
        ["status"],
        ["use", "fr", "new"],
        ["verify"],
        ["remove", "fr", "none", "--yes"],
    ],
    ids=" ".join,
)
def test_what_only_looks_does_not_wait_for_torch(artifacts, command):
    arguments = command if "--help" in command else [*command, "--artifacts", str(artifacts)]
    run = subprocess.run(
        [sys.executable, "-c", _REPORT, *arguments], capture_output=True, text=True, timeout=60
    )
    assert "unexpected" not in run.stderr
    reads = command[0] in ("use", "verify")  # weights files
    assert run.stderr.endswith("heavy: numpy" if reads else "heavy: "), run.stderr
    assert run.returncode == (2 if "remove" in command else 0), run.stderr
