"""What the library calls a setting is an option of some command."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import xclipt
from xclipt.cli.app import app
from xclipt.cli.wording import option, worded
from xclipt.deltas.kinds import KINDS
from xclipt.training.recipe import CHOICES

SOURCES = sorted(Path(xclipt.__file__).parent.rglob("*.py"))
ERRORS = {"XcliptError", "UsageError", "FailedError"}
TELLING = {*ERRORS, "note", "warn"}
_SETTING = re.compile(r"`([a-z][a-z0-9_]*)(?:=[^`]*)?`")

IN_PYTHON_ALONE = {
    "check": "of xclipt.export_delta: the command line makes one of its options",
}


def options() -> set[str]:
    """Every option of every command."""
    program = typer.main.get_command(app)
    return {
        name
        for command in program.commands.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def calls(path: Path, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield node


def settings() -> dict[str, str]:
    """Names of settings in the library's messages, and where."""
    found = {}
    for path in SOURCES:
        if path.parent.name == "cli":
            continue
        for call in calls(path, TELLING):
            for keyword in call.keywords:
                if keyword.arg == "field" and isinstance(keyword.value, ast.Constant):
                    found[str(keyword.value.value)] = f"{path.name}:{call.lineno}"
            for node in ast.walk(call):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    for match in _SETTING.finditer(node.value):
                        found.setdefault(match[1], f"{path.name}:{call.lineno}")
    return found


def test_every_field_in_a_message_is_an_option():
    known, found = options(), settings()
    assert len(found) > 50 and {"on_bad", "image_tower", "shots"} <= found.keys()
    wrong = {name: at for name, at in found.items() if option(name) not in known}
    assert wrong.keys() == IN_PYTHON_ALONE.keys(), wrong


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_setting_of_a_kind_is_an_option(kind):
    """Also where the message names whichever it was."""
    names = [entry.name for entry in fields(kind)]
    assert [name for name in names if option(name) not in options()] == []


def test_every_choice_of_a_recipe_is_an_option_or_of_the_library_alone():
    recipe = {name for name in CHOICES if option(name) not in options()}
    assert recipe == {"optimiser", "schedule", "choose_by"}


def test_a_message_speaks_of_options():
    said = worded("`allow_missing=True` goes on; `tune_head` is")
    assert said == "--allow-missing goes on; --tune is"
