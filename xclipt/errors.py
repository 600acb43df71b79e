"""What xclipt raises for anything a user can put right, and what it warns of."""

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager


class XcliptError(Exception):
    """One line that names the file or setting at fault and what to do about it.

    The library speaks of its own fields; the command line puts its options in their place
    (:mod:`xclipt.cli.wording`). Within ``message`` a setting stands in backquotes as it would in
    Python: ``\\`allow_missing=True\\` goes on with the others``.

    Args:
        message: What is wrong, and the remedy.
        field: The setting at fault, as the request or function calls it; it opens the line.
        value: What it was set to.
    """

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def __str__(self) -> str:
        if self.field is None:
            return self.message
        value = "" if self.value is None else f" {str(self.value)!r}"
        return f"{self.field}{value}: {self.message}"


class UsageError(XcliptError):
    """What was asked for is wrong: settings that contradict each other, or a thing that is named
    and is not there, or is not what it is taken for."""


def recommended(command: str, *values: str, **options: object) -> str:
    """A command line to run, for a message: :func:`recommended("use", "fr", "new")
    <recommended>` is ```xclipt use fr new``` in backquotes.

    The command line adds what its own invocation was given (:mod:`xclipt.cli.advice`).

    Args:
        command: Its name.
        values: What stands in it by itself.
        options: What it sets; ``None`` is left out, and ``True`` has no value.
    """
    words = [command, *values]
    for name, value in options.items():
        option = [] if value is None else [f"--{name.replace('_', '-')}"]
        words += option if value is True or value is None else [*option, str(value)]
    return f"`xclipt {shlex.join(words)}`"


@contextmanager
def blaming_what_was_named() -> Iterator[None]:
    """Put whatever goes wrong within down to the path or name that was asked for."""
    try:
        yield
    except FailedError:
        raise
    except XcliptError as error:
        raise UsageError(error.message, field=error.field, value=error.value) from error


def require_finite(settings: object) -> None:
    """Refuse a dataclass one of whose fields is infinite or no number.

    Raises:
        XcliptError: Names the field.
    """
    for field, value in vars(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise XcliptError("must be a finite number", field=field, value=value)


class FailedError(XcliptError):
    """Something went wrong in what a setting names, such as a program: the setting is not wrong."""


class FallbackWarning(UserWarning):
    """A language has no delta, and its texts are encoded with the frozen base instead; or the text
    tower, which is told of languages, has no token for it and takes its texts for English."""
