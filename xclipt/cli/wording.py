"""The library's words put into those of the command line: fields become options."""

import re

from xclipt.cli.advice import completed
from xclipt.errors import XcliptError

_OPTIONS = {
    "kind": "--delta",
    "language": "--lang",
    "sources": "--parallel",
    "translator": "--translations",
    "tune_head": "--tune",
    "validation_pictures": "--validate-on",
}
"""Fields that the command line calls something else than their own name with dashes."""

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)=([^`]*)`")
_NAME = re.compile(r"`([a-z][a-z0-9_]*)`")


def option(field: str) -> str:
    """The option that sets a field: ``--allow-missing`` for ``allow_missing``."""
    return _OPTIONS.get(field, "--" + field.replace("_", "-"))


def worded(text: str) -> str:
    """A message of the library with options where it speaks of fields in backquotes, and with
    the commands that it recommends as they work here."""

    def setting(match: re.Match[str]) -> str:
        name, value = option(match[1]), match[2].strip("'\"")
        return name if value == "True" else f"{name} {value}"

    text = completed(text)
    return _NAME.sub(lambda match: option(match[1]), _SETTING.sub(setting, text))


def worded_error(error: XcliptError) -> str:
    """An error as the command line says it: the option at fault, its value, and the remedy."""
    if error.field is None:
        return worded(error.message)
    value = "" if error.value is None else f" {error.value}"
    return f"{option(error.field)}{value}: {worded(error.message)}"
