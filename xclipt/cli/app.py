"""The ``xclipt`` program: its commands, and how errors reach the user."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import TyperException

from xclipt import __version__
from xclipt.cli.align import align_command
from xclipt.cli.backbones import backbones_command
from xclipt.cli.data import data_command
from xclipt.cli.embed import embed_command
from xclipt.cli.eval import eval_command
from xclipt.cli.export_delta import export_delta_command
from xclipt.cli.import_delta import import_delta_command
from xclipt.cli.index import index_command
from xclipt.cli.manage import remove_command, use_command, verify_command
from xclipt.cli.search import search_command
from xclipt.cli.serve import serve_command
from xclipt.cli.status import status_command
from xclipt.cli.train_delta import train_delta_command
from xclipt.cli.translate import translate_command
from xclipt.cli.wording import worded_error
from xclipt.errors import FailedError, UsageError, XcliptError
from xclipt.interruption import Stopped, stopping
from xclipt.printable import visible, visible_lines

app = typer.Typer(
    name="xclipt",
    help="Teach one frozen image-text model a new language with a tiny delta.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Teach a language": {
        "data": data_command,
        "translate": translate_command,
        "align": align_command,
        "train-delta": train_delta_command,
        "eval": eval_command,
    },
    "Use what was taught": {
        "search": search_command,
        "serve": serve_command,
        "embed": embed_command,
        "index": index_command,
        "export-delta": export_delta_command,
        "import-delta": import_delta_command,
    },
    "Keep it in order": {
        "status": status_command,
        "backbones": backbones_command,
        "verify": verify_command,
        "use": use_command,
        "remove": remove_command,
    },
}


def _flowing(docstring: str | None) -> str:
    # A paragraph is one line, so that it is the terminal that breaks it.
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, help=_flowing(_command.__doc__), rich_help_panel=_panel)(_command)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"xclipt {__version__}\n")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.

    Whatever goes wrong is one line on stderr; ``-v`` adds where it arose.
    """
    given = sys.argv[1:] if arguments is None else arguments
    _quiet_libraries()
    try:
        with stopping():
            code = app(given, prog_name="xclipt", standalone_mode=False)
    except Stopped as stopped:
        code = _fail("interrupted; run the same command to go on", stopped.exit_code, None, given)
    except XcliptError as error:
        code = _fail(worded_error(error), _exit_code(error), error, given)
    except TyperException as error:
        code = _fail(error.format_message(), error.exit_code, error, given)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted; run the same command to go on", 130, None, given)
    except BrokenPipeError:
        # The reader has gone, as with `xclipt ... | head`. Python would complain on closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except Exception as error:  # a bug, but the user gets one line all the same
        code = _fail(f"unexpected {type(error).__name__}: {error}; -v shows where", 1, error, given)
    sys.exit(code)


def _exit_code(error: XcliptError) -> int:
    # Whatever names a setting is about what the user gave, on the command line or in the file.
    named = error.field is not None and not isinstance(error, FailedError)
    return 2 if named or isinstance(error, UsageError) else 1


def _fail(message: str, code: int, error: BaseException | None, given: list[str]) -> int:
    if error is not None and {"-v", "--verbose"} & set(given):
        sys.stderr.write(visible_lines("".join(traceback.format_exception(error))))
    sys.stderr.write(f"xclipt: {visible(' '.join(message.split()))}\n")
    return code


def _quiet_libraries() -> None:
    # Their own bars and remarks would run into ours. They read this when they are imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
