"""``python -m tests.open_clip``: pytest on this folder, where open_clip can be imported."""

import subprocess
import sys
from pathlib import Path

from tests.factories.open_clip import open_clip_environment

arguments = sys.argv[1:] or [str(Path(__file__).parent)]
command = [sys.executable, "-m", "pytest", "-n0", "-m", "", *arguments]
sys.exit(subprocess.run(command, env=open_clip_environment(), check=False).returncode)
