"""What the studies share: a YAML file in, cells on disk that are measured once, tables out."""

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.text_tower import Similarity
from xclipt.data.dataset import Dataset
from xclipt.deltas.kinds import PartialSpec
from xclipt.errors import XcliptError
from xclipt.files import write_bytes
from xclipt.training.recipe import stored_recipe
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.training.warm_start import WarmStarts
from xclipt.workspace import Workspace

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Plain = dict[str, Any]
"""An entry of a YAML file, or a line of raw figures."""

T = TypeVar("T")
M = TypeVar("M", bound="DataclassInstance")

_DRAWS = 2000


def study_parser(script: str | None, study: str, out: str | None) -> argparse.ArgumentParser:
    """The arguments of every study.

    Args:
        script: The script's docstring, whose first line describes it.
        study: Name of its YAML file.
        out: Where it writes unless told otherwise; ``None`` is where the YAML file says.
    """
    parser = argparse.ArgumentParser(description=(script or "").splitlines()[0])
    parser.add_argument("study", type=Path, help=f"examples/studies/{study}")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data-dir", type=Path, help="folder that data sets lie in")
    source.add_argument(
        "--raw", type=Path, help="raw figures to make the tables of; nothing is measured"
    )
    where = "out of the file" if out is None else "%(default)s"
    parser.add_argument(
        "--out", type=Path, default=out and Path(out), help=f"folder to write to, default: {where}"
    )
    return parser


def outcome(script: str, tables: Callable[[], str]) -> int:
    """Print the tables, or in one line why there are none; returns the script's exit code."""
    try:
        sys.stdout.write(tables())
    except XcliptError as error:
        sys.stderr.write(f"{script}: {error}\n")
        return 1
    return 0


def read_study(path: Path, parse: Callable[[Plain], T]) -> T:
    """What ``parse`` makes of a YAML file.

    Raises:
        XcliptError: It cannot be read, or an entry is unknown, missing or out of range.
    """
    try:
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError, XcliptError) as error:
        raise XcliptError(f"{path}: {str(error).splitlines()[0]}") from None


def require_rows(study: Path, wanted: Collection[str] | None, rows: Collection[str]) -> None:
    """Refuse names in ``--rows`` that the study does not have.

    Raises:
        XcliptError: Names one of them.
    """
    if unknown := set(wanted or ()).difference(rows):
        raise XcliptError(f"--rows: {study} has no row '{min(unknown)}'")


@dataclass(frozen=True)
class Cells(Generic[M]):
    """What was measured, a file a cell: a run that was stopped goes on, and two share the work.

    Attributes:
        folder: Where the files are.
        parse: A line of raw figures -> what it was written from.
    """

    folder: Path
    parse: Callable[[Plain], M]

    def has(self, cell: str) -> bool:
        """Whether the cell of that name was measured."""
        return self._file(cell).is_file()

    def write(self, cell: str, measured: Sequence[M]) -> None:
        """Keep what a cell gave."""
        write_figures(self._file(cell), map(asdict, measured))

    def read(self, cells: Iterable[str]) -> list[M]:
        """What is known of these cells, in their order."""
        known = (self._file(cell) for cell in cells if self.has(cell))
        return [measured for file in known for measured in read_figures(file, self.parse)]

    def _file(self, cell: str) -> Path:
        return self.folder / f"{cell}.jsonl"


def plain_name(row: str) -> str:
    """A row's name as a file's or a delta's may be."""
    return "".join(c if c.isalnum() else "-" for c in row)


def write_figures(path: Path, lines: Iterable[Plain]) -> None:
    """Write raw figures as JSON lines, compressed where the name ends in ``.gz``."""
    data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_figures(path: Path, parse: Callable[[Plain], T]) -> list[T]:
    """Raw figures as they were written.

    Raises:
        XcliptError: The file cannot be read, or its lines are of something else.
    """
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        return [parse(json.loads(line)) for line in text.splitlines()]
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise XcliptError(f"{path}: no raw figures of this study ({error})") from None


def figures(
    raw: Path | None, parse: Callable[[Plain], M], measure: Callable[[], list[M]], kept: Path
) -> list[M]:
    """Raw figures as they were written, where a file of them is given; else measured, and kept.

    Raises:
        XcliptError: As :func:`read_figures`, or the measuring does.
    """
    if raw:
        return read_figures(raw, parse)
    measured = measure()
    write_figures(kept, map(asdict, measured))
    return measured


def delta_of(kind: str, **settings: Any) -> PartialSpec:
    """What an entry ``{kind: lora, rank: 8}`` means.

    Raises:
        XcliptError: No such kind, settings that it does not have, or a value out of range.
    """
    return PartialSpec(kind, settings)


def found(
    directory: ArtifactDirectory, shipped: Path | None, dataset: str, request: TrainingRequest
) -> StoredDelta | None:
    """The delta of a request, if it is in the directory and was made so.

    Args:
        directory: Where it would be.
        shipped: The warm start that comes with the backbone, if one does.
        dataset: Name of the data set that it would be trained on.
        request: What it would be.
    """
    language, name = request.language, request.delta_name(dataset)
    if not (directory.delta_folder(language, name) / MANIFEST).is_file():
        return None
    stored = directory.delta(language, name)
    data, pairs = stored.manifest.data, request.alignment
    recipe = stored_recipe(stored.manifest.recipe)
    made = (recipe, stored.spec, data.dataset, data.shots)
    spec = request.delta_spec(WarmStarts(directory, shipped))
    # Where the request leaves the scale of the loss to the backbone, it is what that had.
    own = Similarity(recipe["logit_scale"], recipe["logit_bias"])
    alike = made == (asdict(request.recipe.on(own)), spec, dataset, pairs.shots)
    return stored if alike and pairs.split in (None, data.split) else None


def trained(workspace: Workspace, dataset: Dataset, request: TrainingRequest) -> StoredDelta:
    """The delta of a request: from the directory if it is there and was made so, else trained."""
    shipped = workspace.backbone.warm_start
    if stored := found(workspace.directory, shipped, dataset.name, request):
        return stored
    workspace.progress.note(f"{request.language}: {request.delta_name(dataset.name)}")
    return train_delta(workspace, dataset, replace(request, force=True))


def resamples(photographs: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each photograph is drawn in each bootstrap sample: ``(draws, photographs)``."""
    even = np.full(photographs, 1 / photographs)
    return np.random.default_rng(seed).multinomial(photographs, even, _DRAWS)


def with_interval(
    value: float, interval: tuple[float, float], form: str = "+.1f", unit: str = ""
) -> str:
    """``+2.3 [+0.4, +4.1]``; ``form`` is how its numbers are formatted."""
    low, high = interval
    return f"{value:{form}}{unit} [{low:{form}}, {high:{form}}]"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: names on the left, figures on the right of their columns."""
    return [_line(header), f"|---|{'--:|' * (len(header) - 1)}", *map(_line, rows)]


def by_column(values: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    """Figures of one decimal; a column without a value stays empty."""
    return [f"{values[name]:.1f}" if name in values else "" for name in columns]


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
