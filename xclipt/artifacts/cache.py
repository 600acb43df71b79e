"""The user's cache: what can be made again from installed packages, shared by all projects."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """``XCLIPT_CACHE`` if it is set, else the platform's cache directory for xclipt."""
    named = os.environ.get("XCLIPT_CACHE")
    return Path(named).expanduser() if named else user_cache_path("xclipt")
