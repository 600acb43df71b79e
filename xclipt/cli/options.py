"""Options that several commands share, declared once, and how they get into a command."""

import copy
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from xclipt.cli import completion
from xclipt.cli.advice import begin
from xclipt.data.formats.reading import Reading
from xclipt.deltas.kinds import KINDS
from xclipt.documents import read_yaml
from xclipt.errors import UsageError

DATA, METHOD, DELTA, OPTIMISATION, OUTPUT = "Data", "Method", "Delta", "Optimisation", "Output"
ADVANCED = "What the released code of the paper sets otherwise"
"""Panels of ``--help`` beside the first, which holds the options that matter most."""

_COMMON = "Common options"


def _common(*names: str, help: str, **rest: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_COMMON, **rest)


def _take_config(context: typer.Context, path: Path | None) -> Path | None:
    begin(context)  # it comes before all others, given or not
    if path is not None:
        known = {
            name.removeprefix("--").replace("-", "_"): parameter
            for parameter in context.command.params
            for name in parameter.opts
            if name.startswith("--") and name not in ("--config", "--help")
        }
        names = {name: str(parameter.name) for name, parameter in known.items()}
        repeatable = {name for name, parameter in known.items() if parameter.multiple}
        given = read_config(path, names, repeatable)
        context.default_map = {**(context.default_map or {}), **given}
    return path


Languages = Annotated[
    str,
    typer.Option(
        "--lang",
        autocompletion=completion.languages,
        help="Language code or name, several with commas, or all.",
    ),
]
DATASET_HELP = (
    "emoji, multi30k, multi30k-task2, xtd, a folder or file of captions (CSV, JSON, parquet, "
    "Excel, ...), or owner/name on the hub."
)
DatasetName = Annotated[
    str, typer.Option("--dataset", autocompletion=completion.datasets, help=DATASET_HELP)
]
Caption = Annotated[
    int | None,
    typer.Option(
        "--caption",
        help="Take the caption of this number alone of every picture (default: all; of each shot "
        "one that the seed draws).",
        min=1,
        rich_help_panel=DATA,
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="Go on with the pictures that are there.",
        rich_help_panel=DATA,
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch the data set if it is not there.", rich_help_panel=DATA),
]
TranslationsOf = Annotated[
    str | None,
    typer.Option(
        "--translations",
        help="Use this engine's or model's translations (default: the most complete set).",
        rich_help_panel=DATA,
    ),
]
HubBanks = Annotated[
    list[str] | None,
    typer.Option(
        "--hub-bank",
        metavar="[CODE=]FILE",
        help="Rank pictures with hub correction by these texts: 200 or more such as people ask, "
        "one a line, or a file of captions. CODE=FILE for each of several languages.",
    ),
]
TrainingSplit = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Split to take pairs from. full, the default: train where there is one, else "
        "everything; paper: the pictures that the paper's code draws.",
        rich_help_panel=DATA,
    ),
]
SplitSeed = Annotated[
    int,
    typer.Option(
        "--split-seed",
        help="With --split paper: draw other pictures than the paper's.",
        min=0,
        rich_help_panel=DATA,
    ),
]
Floor = Annotated[
    float | None,
    typer.Option(
        "--floor",
        help="Leave out pairs whose texts are less similar than this cosine.",
        rich_help_panel=DATA,
    ),
]


ParallelSources = Annotated[
    list[str] | None,
    typer.Option(
        "--parallel",
        metavar="FILE",
        help="Sentences and their translations, without pictures: TSV, CSV, TMX, JSON lines, "
        "parquet, one of two files of lines (corpus.en beside corpus.te), or owner/name on the "
        "hub. Repeat it for several; de=FILE is for German alone.",
    ),
]


def refuse_beside_parallel(context: typer.Context, *names: str) -> None:
    """Refuse options that are for captions, where ``--parallel`` was given.

    Args:
        context: The command's.
        names: Their parameters' names.

    Raises:
        UsageError: One of them was given too; it would be ignored.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise UsageError(
                "is for captions, and --parallel names sentences; leave it out", field=name
            )


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes; spliced into a command's signature by :func:`common_options`."""

    artifacts: Annotated[
        Path | None,
        _common(
            "--artifacts",
            help="Artifact directory (default: ./xclipt-artifacts).",
            envvar="XCLIPT_ARTIFACTS",
        ),
    ] = None
    backbone: Annotated[
        str | None,
        _common(
            "--backbone",
            autocompletion=completion.backbones,
            help="builtin, mclip-l14 or another name of xclipt backbones, or a folder or hub id of "
            "such a model (default: the directory's own, else builtin).",
        ),
    ] = None
    image_tower: Annotated[
        str | None,
        _common(
            "--image-tower",
            help="Folder or hub id of the image tower, for a --backbone that is a text tower alone "
            "(sentence-transformers', M-CLIP's).",
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        _common(
            "--data-dir",
            help="Folder that data sets lie in (default: ./data if it is there).",
            envvar="XCLIPT_DATA",
        ),
    ] = None
    device: Annotated[str, _common("--device", help="auto, cpu, cuda or mps.")] = "auto"
    dtype: Annotated[
        str,
        _common(
            "--dtype",
            help="Compute precision: float32, bfloat16 or float16; auto is float32, but bfloat16 "
            "for what train-delta trains, where that is faster.",
        ),
    ] = "auto"
    seed: Annotated[int, _common("--seed", help="Random seed.", min=0)] = 1
    config: Annotated[
        Path | None,
        _common(
            "--config",
            help="YAML file that sets any of these options by name; the command line wins.",
            is_eager=True,
            callback=_take_config,
        ),
    ] = None
    json: Annotated[bool, _common("--json", help="Print one JSON document.")] = False
    quiet: Annotated[bool, _common("--quiet", "-q", help="No progress, no remarks.")] = False
    verbose: Annotated[bool, _common("--verbose", "-v", help="Show where an error arose.")] = False

    @property
    def root(self) -> Path:
        """The artifact directory, named or not."""
        return self.artifacts or Path("xclipt-artifacts")


def common_options(command: Callable[..., None], idle: Collection[str] = ()) -> Callable[..., None]:
    """Give a command ``(common, ...)`` the parameters of :class:`CommonOptions` in its place.

    Args:
        command: The command.
        idle: Those that change nothing in it: accepted, as everywhere, but not shown.
    """
    hints = typing.get_type_hints(CommonOptions, include_extras=True)
    parameters = []
    for entry in fields(CommonOptions):
        hint = hints[entry.name]
        if entry.name in idle:
            kind, declared = typing.get_args(hint)
            declared = copy.copy(declared)
            declared.hidden = True
            hint = Annotated[kind, declared]
        parameters.append(_parameter(entry.name, hint, entry.default))
    return _spliced(command, "common", parameters, lambda given: CommonOptions(**given), last=True)


def common_options_but(*idle: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As :func:`common_options`, for a command in which some of them change nothing."""
    return functools.partial(common_options, idle=idle)


_READING = {
    "caption_lang": "The language of captions in own data that does not name it.",
    "encoding": "Encoding of own text files that are not Unicode, such as cp1252.",
    "columns": "Which column is what, where a table leaves it open: image=NAME,caption=NAME; also "
    "language, split, or a language's code (fr=NAME).",
}


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``(reading, ...)`` options for how own data is read, in its place."""
    parameters = [
        _parameter(
            name,
            Annotated[
                str | None,
                typer.Option(f"--{name.replace('_', '-')}", help=help, rich_help_panel=DATA),
            ],
            None,
        )
        for name, help in _READING.items()
    ]

    def reading(given: dict[str, Any]) -> Reading:
        return Reading(given["caption_lang"], given["encoding"], _columns(given["columns"]))

    return _spliced(command, "reading", parameters, reading, last=True)


def _columns(text: str | None) -> dict[str, str]:
    columns: dict[str, str] = {}
    for part in (text or "").split(",") if text is not None else ():
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not (role and equals and name):
            raise UsageError(f"--columns {text}: write image=NAME,caption=NAME and the like")
        if role in columns or name in columns.values():
            raise UsageError(f"--columns {text}: {part.strip()} again")
        columns[role] = name
    return columns


def delta_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``(settings, ...)`` an option for every setting of every kind of delta.

    The command receives the settings that were named, by their names.
    """
    defaults: dict[str, dict[str, Any]] = {}
    entries: dict[str, Any] = {}
    for kind, spec in KINDS.items():
        for entry in fields(spec):
            if entry.metadata:
                said = {True: "yes", False: "no", "": "none"}.get(entry.default, entry.default)
                defaults.setdefault(entry.name, {})[kind] = said
                entries.setdefault(entry.name, entry)
    parameters = []
    for name, entry in entries.items():
        owners, values = defaults[name], [*dict.fromkeys(defaults[name].values())]
        by_kind = ", ".join(f"{value} for {kind}" for kind, value in owners.items())
        default = values[0] if len(values) == 1 else by_kind
        option = "--" + name.replace("_", "-")
        declared = typer.Option(
            f"{option}/--no-{option.removeprefix('--')}" if entry.type is bool else option,
            help=f"{', '.join(owners)}: {entry.metadata['help']}"
            f"{'' if default is None else f' ({default})'}.",
            rich_help_panel=DELTA,
        )
        parameters.append(_parameter(name, Annotated[entry.type | None, declared], None))

    def named(given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value is not None}

    return _spliced(command, "settings", parameters, named)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _spliced(
    command: Callable[..., None],
    place: str,
    parameters: Sequence[inspect.Parameter],
    build: Callable[[dict[str, Any]], Any],
    *,
    last: bool = False,
) -> Callable[..., None]:
    hints = typing.get_type_hints(command, include_extras=True)
    signature: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name != place:
            annotation = hints.get(name, parameter.annotation)
            signature.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=annotation))
        elif not last:
            signature += parameters
    signature += parameters if last else ()

    @functools.wraps(command)
    def spliced(**given: Any) -> None:
        own = {parameter.name: given.pop(parameter.name) for parameter in parameters}
        command(**{place: build(own)}, **given)

    # Typer reads both, and wraps() has copied the command's own.
    vars(spliced)["__signature__"] = inspect.Signature(signature)
    spliced.__annotations__ = {p.name: p.annotation for p in signature}
    return spliced


def read_config(
    path: Path, known: Mapping[str, str], repeatable: Collection[str] = ()
) -> dict[str, str | list[str]]:
    """Options from a YAML file, by parameter name, as text for the command line to parse.

    Args:
        path: The file; a mapping of option names, written with ``-`` or ``_``, to values. A list
            stands for its items with commas between them, or for an option that is repeated.
        known: Every option's parameter name by its own name with ``_``.
        repeatable: Those of the options that may be repeated.

    Raises:
        XcliptError: The file is not a mapping, or names an option that the command does not have.
    """
    try:
        plain = read_yaml(path, as_text=True)
    except OSError as error:
        raise UsageError(f"--config {path}: cannot read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"--config {path}: not YAML ({error})") from None
    if not plain:
        return {}
    if not isinstance(plain, dict):
        raise UsageError(f"--config {path}: must be a mapping of options to values")
    options: dict[str, str | list[str]] = {}
    for key, value in plain.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UsageError(
                f"--config {path}: unknown option '{key}'; this command has "
                f"{', '.join(sorted(known))}"
            )
        if not all(isinstance(one, str) for one in (value if isinstance(value, list) else [value])):
            raise UsageError(f"--config {path}: '{key}' must be one value or a list")
        text = ",".join(value) if isinstance(value, list) else value
        if text not in ("", "null", "~"):
            several = value if isinstance(value, list) else [value]
            options[known[name]] = several if name in repeatable else text
    return options
