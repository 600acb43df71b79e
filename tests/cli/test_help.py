"""``--help`` in a terminal of 80 columns."""

import re
from itertools import pairwise

import pytest
import typer

from tests.factories.running import run_in_terminal
from xclipt.cli.app import app

COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_terminal_alone_breaks_lines(command):
    """No line ends before its room does, but at the end of a paragraph."""
    run = run_in_terminal(80, command, "--help")
    assert run.code == 0 and "…" not in run.out
    said = run.out[: run.out.index("╭")].splitlines()
    assert max(map(len, run.out.splitlines())) <= 80
    for line, following in pairwise(line.strip() for line in said):
        if line and following and not line.startswith("Usage:"):
            assert len(f" {line} {following.split()[0]}") >= 79, line


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_taken_for_markup(command):
    """`xclipt[serve]` would lose its brackets."""
    asked = typer.main.get_command(app).commands[command]
    for text in (asked.help, *(getattr(one, "help", "") for one in asked.params)):
        assert not re.search(r"(?<!\\)\[[a-z]", text or ""), text


def test_every_command_stands_in_a_panel():
    out = run_in_terminal(80, "--help").out
    panels = re.findall(r"╭─ ([^─]+) ─", out)
    assert panels == ["Options", "Teach a language", "Use what was taught", "Keep it in order"]
    assert sorted(re.findall(r"^│ ([a-z][a-z-]+) ", out, re.M)) == COMMANDS
