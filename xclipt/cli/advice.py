"""Commands that messages recommend, completed so that they work as they are printed.

The library names a command and what belongs to the matter: ```xclipt translate --lang fr
--direction from-en --dataset flickr```. Only the command line knows where the artifact directory
and the data lie and how the data is read, since this invocation was told: what it was told of these
and the recommended command takes too is added.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer

_CARRIED = (
    *("dataset", "data_dir", "caption_lang", "encoding", "columns", "caption"),
    *("translations", "artifacts", "backbone", "device", "dtype"),
)
"""Parameters that mean the same in every command that has them, and say where and on what."""

_COMMAND = re.compile(r"`xclipt ([^`]+)`")
_SAID = ("COMMANDLINE", "DEFAULT_MAP")  # typed, or from --config; the environment stays as it is

_begun: list[typer.Context] = []


def begin(context: typer.Context) -> None:
    """Remember the invocation whose messages follow: the one that has just begun."""
    _begun[:] = [context]


def completed(text: str) -> str:
    """A message in which every ```xclipt ...``` in backquotes is a whole command."""
    return _COMMAND.sub(lambda match: f"`xclipt {_complete(match[1])}`", text) if _begun else text


def _complete(command: str) -> str:
    context = _begun[0]
    words = shlex.split(command)
    known: Any = context.find_root().command
    recommended = known.commands.get(words[0]) if hasattr(known, "commands") else None
    if recommended is None:
        return command
    options = [p for p in recommended.params if p.opts[0].startswith("--")]
    takes = {parameter.name: parameter.opts[0] for parameter in options}
    shown = {parameter.name for parameter in options if not getattr(parameter, "hidden", False)}
    for name, value in _said(context):
        option = takes.get(name)
        if option in words:
            # The library knows a data set by its name, the invocation by where it lies.
            words[words.index(option) + 1] = value
        elif option and name in shown:
            words += [option, value]
    return shlex.join(words)


def _said(context: typer.Context) -> Iterator[tuple[str, str]]:
    for name in _CARRIED:
        source, value = context.get_parameter_source(name), context.params.get(name)
        if value is not None and source is not None and source.name in _SAID:
            yield name, str(value)
