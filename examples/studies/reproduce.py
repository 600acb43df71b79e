"""Run a grid like the paper's and write one table like the paper's.

    python examples/studies/reproduce.py examples/studies/reproduce_xtd.yaml --data-dir DATA

Every point of the grid is a delta in ``OUT/artifacts``. Stop it at any time and run it again: what
is trained is not trained again, and a training that was cut off is taken up. Of every language's
learning rates and lambdas the best on validation is taken, as in the paper, and only that one is
measured on the test pictures. ``OUT/table.md`` and ``OUT/results.csv`` hold what is known so far
when a row is complete: mean of both directions' R@1 in per cent, the mean over seeds.
"""

import argparse
import csv
import io
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from study import by_column, outcome, read_study, table, trained
from xclipt.alignment.build import AlignmentRequest
from xclipt.alignment.routines import ROUTINES
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.kinds import PartialSpec
from xclipt.errors import XcliptError
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.files import write_text
from xclipt.metrics import disparity
from xclipt.training.recipe import RECIPES, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class Grid:
    """A grid's YAML file. Each list is one axis; ``lambdas`` matter to routines that align."""

    backbone: str
    dataset: str
    languages: list[str]
    deltas: list[dict[str, Any]]
    out: str
    split: str | None = None
    shots: int | None = 50
    validation_pictures: int | None = None
    allow_missing: bool = False
    recipe: str = "paper"
    changes: dict[str, Any] | None = None
    routines: tuple[str, ...] = ("none", "1")
    learning_rates: tuple[float, ...] = (1e-4,)
    lambdas: tuple[float, ...] = (0.03,)
    seeds: tuple[int, ...] = (1,)
    test_split: str | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        wrong = [r for r in self.routines if r not in ROUTINES]
        if wrong or self.recipe not in RECIPES:
            raise XcliptError(f"no routine {wrong} or no recipe {self.recipe}")
        self.specs()

    @classmethod
    def read(cls, path: Path) -> "Grid":
        """Parse a file.

        Raises:
            XcliptError: It cannot be read, or an entry is unknown, missing or out of range.
        """
        return read_study(path, lambda plain: cls(**plain))

    def specs(self) -> dict[str, PartialSpec]:
        """The delta kinds with their settings, by a name that tells them apart."""
        named = {}
        for entry in self.deltas:
            settings = {key: value for key, value in entry.items() if key != "kind"}
            parts = [f"{key[:1]}{value}" for key, value in settings.items()]
            named["-".join([entry["kind"], *parts])] = PartialSpec(entry["kind"], settings)
        return named

    def requests(
        self, spec: PartialSpec, prefix: str, routine: str, language: str, seed: int
    ) -> Iterator[TrainingRequest]:
        """One request for each learning rate and lambda."""
        pairs = AlignmentRequest(
            language,
            self.shots,
            ROUTINES[routine],
            seed=seed,
            split=self.split,
            allow_missing=self.allow_missing,
        )
        lambdas = self.lambdas if pairs.routine is not None else (None,)
        for rate, weight in itertools.product(self.learning_rates, lambdas):
            changes = {"learning_rate": rate, "align_weight": weight, **(self.changes or {})}
            aligned = f"-lambda{weight:g}" if weight is not None else ""
            yield TrainingRequest(
                pairs,
                spec,
                recipe_with(RECIPES[self.recipe].recipe, **changes),
                name=f"{prefix}-routine{routine}-lr{rate:g}{aligned}-seed{seed}",
                validation_pictures=self.validation_pictures,
            )


@dataclass(frozen=True)
class Row:
    """A line of the table: the mean R@1 of each language, and the numbers a delta holds."""

    model: str
    routine: str
    parameters: int
    by_language: Mapping[str, float]


def run(grid: Grid, workspace: Workspace, dataset: Dataset, out: Path) -> list[Row]:
    """Train what is missing, measure, and write the table after every row."""
    rows: list[Row] = []
    zero_shot: dict[str, float] = {}
    for (name, spec), routine in itertools.product(grid.specs().items(), grid.routines):
        tested: dict[str, list[float]] = {}
        parameters = 0
        for language, seed in itertools.product(grid.languages, grid.seeds):
            # English has no other English to be aligned with: it is trained without.
            own = "none" if language == "en" else routine
            deltas = [
                trained(workspace, dataset, request)
                for request in grid.requests(spec, name, own, language, seed)
            ]
            best = max(deltas, key=lambda delta: delta.manifest.validation.get("mean_R@1", 0.0))
            base, figure = measured(workspace, dataset, grid, best)
            zero_shot[language] = base
            tested.setdefault(language, []).append(figure)
            parameters = best.manifest.weights.parameters
        figures = {language: mean(values) for language, values in tested.items()}
        rows.append(Row(name, routine, parameters, figures))
        everything = [Row("zero-shot", "-", 0, zero_shot), *rows]
        write_text(out / "table.md", as_markdown(everything))
        write_text(out / "results.csv", as_csv(everything))
    return [Row("zero-shot", "-", 0, zero_shot), *rows]


def measured(
    workspace: Workspace, dataset: Dataset, grid: Grid, delta: StoredDelta
) -> tuple[float, float]:
    """Mean R@1 of the frozen base and of the delta on the test pictures, per cent."""
    language = delta.manifest.language
    request = EvaluationRequest(
        [language],
        split=grid.test_split,
        deltas={language: [delta]},
        allow_missing=grid.allow_missing,
        limit=grid.test_limit,
    )
    result = evaluate(workspace, dataset, request)
    base, with_delta = result.rows
    return base.mean_r1, with_delta.mean_r1


def as_markdown(rows: list[Row]) -> str:
    """Per language, mean, disparity, parameters."""
    languages = list(rows[0].by_language)
    header = ["model", "routine", "parameters", *languages, "mean", "sd", "range"]
    lines = []
    for row in rows:
        spread = disparity(row.by_language)
        average = f"{mean(row.by_language.values()):.1f}"
        lines.append(
            [
                *(row.model, row.routine, f"{row.parameters:,}"),
                *by_column(row.by_language, languages),
                *(average, f"{spread.sd:.2f}", f"{spread.range:.1f}"),
            ]
        )
    return "\n".join(table(header, lines)) + "\n"


def as_csv(rows: list[Row]) -> str:
    """The same for programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    languages = list(rows[0].by_language)
    writer.writerow(["model", "routine", "parameters", *languages, "mean", "sd", "range"])
    for row in rows:
        figures = [row.by_language[language] for language in languages]
        spread = disparity(row.by_language)
        numbers = [*figures, mean(figures), spread.sd, spread.range]
        writer.writerow(
            [row.model, row.routine, row.parameters, *(f"{number:.4f}" for number in numbers)]
        )
    return text.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="YAML file, such as reproduce_xtd.yaml")
    parser.add_argument("--data-dir", type=Path, help="folder that data sets lie in")
    parser.add_argument("--out", type=Path, help="folder to write to; out of the file without")
    parser.add_argument("--backbone", help="another backbone than the file's")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)

    def tables() -> str:
        grid = Grid.read(given.grid)
        out = given.out or Path(grid.out)
        with Terminal(quiet=False) as terminal:
            dataset = open_dataset(grid.dataset, given.data_dir)
            workspace = open_workspace(
                out / "artifacts",
                terminal,
                backbone=given.backbone or grid.backbone,
                device=given.device,
                create=True,
            )
            return as_markdown(run(grid, workspace, dataset, out))

    return outcome("reproduce", tables)


if __name__ == "__main__":
    sys.exit(main())
