"""Running the program within the test's own process, so that torch is loaded once."""

import contextlib
import io
import json
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from xclipt.cli.app import main


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """stdout, which must be one JSON document and nothing else."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def run_xclipt(*arguments: object, stdout: io.StringIO | None = None) -> Run:
    """Run ``xclipt`` with these arguments; its exit becomes a return."""
    out, err = stdout or io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = int(exit.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


_CONTROLS = re.compile(r"\x1b\[[\d;]*m|\x1b\]8;[^\x1b]*\x1b\\")
"""Colours, and where links begin and end."""


def run_in_terminal(columns: int, *arguments: object) -> Run:
    """As :func:`run_xclipt`, for a terminal of so many columns; colours and links are taken out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        run = run_xclipt(*arguments, stdout=_Screen())
    return replace(run, out=_CONTROLS.sub("", run.out))
