"""What is promised of the project as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "ruff", "check"],
        [sys.executable, "-m", "ruff", "format", "--check"],
        # Forty seconds where nothing is remembered of an earlier run, as in a new checkout.
        pytest.param([sys.executable, "-m", "mypy"], marks=pytest.mark.slow),
    ],
    ids=["lint", "format", "types"],
)
def test_the_code_is_clean(command):
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_continuous_integration_runs_the_readmes_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    commands = [line.strip() for line in readme.splitlines() if line.strip().endswith("pytest")]
    assert len(commands) == 1, "README has one command that runs the tests"
    assert commands[0] in script.splitlines()
