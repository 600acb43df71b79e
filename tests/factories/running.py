"""Running the program within the test's own process, so that torch is loaded once."""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

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


def run_xclipt(*arguments: object) -> Run:
    """Run ``xclipt`` with these arguments; its exit becomes a return."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = int(exit.code or 0)
    return Run(code, out.getvalue(), err.getvalue())
