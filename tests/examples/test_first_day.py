"""The recorded first day: commands that there are, on the screen that it speaks of."""

import re
import shlex
from pathlib import Path

import typer
from rich.cells import cell_len

from xclipt.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "examples" / "FIRST_DAY.md"
SCREENS = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.S)
COMMANDS = typer.main.get_command(app).commands


def typed() -> list[list[str]]:
    lines = [line for screen in SCREENS for line in screen.splitlines()]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ xclipt ")]


def test_every_command_is_one_of_today():
    names = [words[1] for words in typed()]
    for name in ("data", "train-delta", "eval", "search", "export-delta"):
        assert name in names
    for _, name, *words in typed():
        options = {opt for parameter in COMMANDS[name].params for opt in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_the_screens_are_80_columns_wide_and_of_no_machine():
    for screen in SCREENS:
        lines = [line for line in screen.splitlines() if not line.startswith("$ ")]
        assert max(map(cell_len, lines), default=0) <= 80
        assert not re.search(r"/(tmp|work|root|home)/", screen)
