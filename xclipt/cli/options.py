"""Options that every command has, declared once."""

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from xclipt.cli.config import read_config

_PANEL = "Common options"


def _option(*names: str, help: str, **rest: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL, **rest)


def _take_config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        known = {
            name.removeprefix("--").replace("-", "_"): str(parameter.name)
            for parameter in context.command.params
            for name in parameter.opts
            if name.startswith("--") and name not in ("--config", "--help")
        }
        context.default_map = {**(context.default_map or {}), **read_config(path, known)}
    return path


Languages = Annotated[str, typer.Option("--lang", help="Language code, a comma list, or all.")]
DatasetName = Annotated[
    str, typer.Option("--dataset", help="emoji, multi30k, xtd, a folder, CSV/TSV, owner/name.")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Go on with the pictures that are there.")
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the data set if it is not there.")
]
TranslationsOf = Annotated[
    str | None,
    typer.Option(
        "--translations",
        help="Engine or model whose translations to take; those of who has most of them.",
    ),
]
TrainingSplit = Annotated[
    str,
    typer.Option(
        "--split",
        help="Split to train on. full, the default: train where there is one, else everything; "
        "paper: the paper's choice of pictures.",
    ),
]
Floor = Annotated[
    float | None,
    typer.Option(
        "--floor", help="Leave out pairs whose texts have a lower cosine in the frozen tower."
    ),
]


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes; spliced into a command's signature by :func:`common_options`."""

    artifacts: Annotated[
        Path,
        _option("--artifacts", help="Artifact directory.", envvar="XCLIPT_ARTIFACTS"),
    ] = Path("xclipt-artifacts")
    backbone: Annotated[
        str | None,
        _option(
            "--backbone",
            help="builtin, mclip-l14, mclip-b32, mclip-b16plus, mclip-labse-l14, or a folder or "
            "hub id in M-CLIP's or CLIP's format; by default the directory's own, else builtin.",
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        _option(
            "--data-dir",
            help="Folder that data sets lie in; ./data where there is one.",
            envvar="XCLIPT_DATA",
        ),
    ] = None
    device: Annotated[str, _option("--device", help="auto, cpu, cuda or mps.")] = "auto"
    dtype: Annotated[
        str, _option("--dtype", help="Of matrix products: float32, bfloat16 or float16.")
    ] = "float32"
    seed: Annotated[int, _option("--seed", help="Of every random choice.", min=0)] = 1
    config: Annotated[
        Path | None,
        _option(
            "--config",
            help="YAML file with any of these options by name; the command line wins.",
            is_eager=True,
            callback=_take_config,
        ),
    ] = None
    json: Annotated[bool, _option("--json", help="Print one JSON document.")] = False
    quiet: Annotated[bool, _option("--quiet", "-q", help="No progress, no remarks.")] = False
    verbose: Annotated[bool, _option("--verbose", "-v", help="Show where an error arose.")] = False


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``(common, ...)`` the parameters of :class:`CommonOptions` in its place."""
    hints = typing.get_type_hints(command, include_extras=True)
    common_hints = typing.get_type_hints(CommonOptions, include_extras=True)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "common"
    ] + [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=common_hints[field.name],
        )
        for field in fields(CommonOptions)
    ]

    @functools.wraps(command)
    def spliced(**given: Any) -> None:
        shared = {field.name: given.pop(field.name) for field in fields(CommonOptions)}
        command(common=CommonOptions(**shared), **given)

    # Typer reads both, and wraps() has copied the command's own.
    vars(spliced)["__signature__"] = inspect.Signature(parameters)
    spliced.__annotations__ = {p.name: p.annotation for p in parameters}
    return spliced
