"""These tests need open_clip: ``tests/backbones/test_open_clip.py`` runs each in a process that can
import it. By hand: ``python -m tests.open_clip`` with pytest's arguments."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("open_clip") else ["test_*.py"]
