"""Run a grid like the paper's and write one table like the paper's.

    python examples/reproduce.py examples/reproduce_xtd.yaml --data-dir DATA

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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from xclipt.alignment.routines import ROUTINES
from xclipt.artifacts.atomic import write_text
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.spec import DeltaSpec, LoraSpec, spec_for
from xclipt.errors import XcliptError
from xclipt.evaluation.disparity import disparity
from xclipt.evaluation.evaluate import evaluate
from xclipt.progress import Progress
from xclipt.training.recipe import RECIPES, recipe_with
from xclipt.training.train import TrainingRequest, train_delta
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

    @classmethod
    def read(cls, path: Path) -> "Grid":
        """Parse a file.

        Raises:
            XcliptError: It cannot be read, or an entry is unknown or missing.
        """
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8"))
            unknown = plain.keys() - {field.name for field in fields(cls)}
            if unknown:
                raise XcliptError(f"{path}: unknown entries {', '.join(sorted(unknown))}")
            grid = cls(**plain)
        except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
            raise XcliptError(f"{path}: {str(error).splitlines()[0]}") from None
        wrong = [r for r in grid.routines if r not in ROUTINES]
        if wrong or grid.recipe not in RECIPES:
            raise XcliptError(f"{path}: no routine {wrong} or no recipe {grid.recipe}")
        return grid

    def specs(self) -> dict[str, DeltaSpec | None]:
        """The delta kinds with their settings, by a name that tells them apart.

        ``None`` is a LoRA without any setting: it is like what it starts from.
        """
        named: dict[str, DeltaSpec | None] = {}
        for entry in self.deltas:
            settings = {key: value for key, value in entry.items() if key != "kind"}
            parts = [f"{key[:1]}{value}" for key, value in settings.items()]
            bare = entry == {"kind": LoraSpec.kind}
            spec = None if bare else spec_for(entry["kind"], **settings)
            named["-".join([entry["kind"], *parts])] = spec
        return named

    def requests(
        self, spec: DeltaSpec | None, prefix: str, routine: str, language: str, seed: int
    ) -> Iterator[TrainingRequest]:
        """One request for each learning rate and lambda."""
        lambdas = self.lambdas if ROUTINES[routine] is not None else (None,)
        for rate, weight in itertools.product(self.learning_rates, lambdas):
            changes = {"learning_rate": rate, "align_weight": weight, **(self.changes or {})}
            aligned = f"-lambda{weight:g}" if weight is not None else ""
            yield TrainingRequest(
                language=language,
                shots=self.shots,
                routine=ROUTINES[routine],
                seed=seed,
                spec=spec,
                recipe=recipe_with(RECIPES[self.recipe], **changes),
                name=f"{prefix}-routine{routine}-lr{rate:g}{aligned}-seed{seed}",
                split=self.split,
                validation_pictures=self.validation_pictures,
                allow_missing=self.allow_missing,
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


def trained(workspace: Workspace, dataset: Dataset, request: TrainingRequest) -> StoredDelta:
    """The delta of a request: from the directory if it is there and was made so, else trained."""
    directory: ArtifactDirectory = workspace.directory
    name = request.delta_name()
    if (directory.delta_folder(request.language, name) / "manifest.yaml").is_file():
        stored = directory.delta(request.language, name)
        known = stored.manifest
        spec = request.delta_spec(directory, workspace.backbone.identity.id)
        if known.recipe == asdict(request.recipe) and known.setting == asdict(spec):
            return stored
    workspace.progress.note(f"{request.language}: {name}")
    return train_delta(workspace, dataset, request)


def measured(
    workspace: Workspace, dataset: Dataset, grid: Grid, delta: StoredDelta
) -> tuple[float, float]:
    """Mean R@1 of the frozen base and of the delta on the test pictures, per cent."""
    language = delta.manifest.language
    result = evaluate(
        workspace,
        dataset,
        [language],
        split=grid.test_split,
        deltas={language: [delta]},
        allow_missing=grid.allow_missing,
        limit=grid.test_limit,
    )
    base, with_delta = result.rows
    return base.mean_r1, with_delta.mean_r1


def as_markdown(rows: list[Row]) -> str:
    """Per language, mean, disparity, parameters."""
    languages = list(rows[0].by_language)
    lines = [
        "| model | routine | parameters | " + " | ".join(languages) + " | mean | sd | range |",
        "|" + "---|" * (len(languages) + 6),
    ]
    for row in rows:
        figures = [row.by_language[language] for language in languages]
        spread = disparity(row.by_language)
        cells = [f"{figure:.1f}" for figure in [*figures, mean(figures)]]
        cells += [f"{spread.sd:.2f}", f"{spread.range:.1f}"]
        lines.append(f"| {row.model} | {row.routine} | {row.parameters:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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


def main(arguments: list[str] | None = None, progress: Progress | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="YAML file, such as examples/reproduce_xtd.yaml")
    parser.add_argument("--data-dir", type=Path, help="folder that data sets lie in")
    parser.add_argument("--out", type=Path, help="folder to write to; out of the file without")
    parser.add_argument("--backbone", help="another backbone than the file's")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    try:
        grid = Grid.read(given.grid)
        out = given.out or Path(grid.out)
        with Terminal(quiet=False) as terminal:
            dataset = open_dataset(grid.dataset, given.data_dir)
            workspace = open_workspace(
                out / "artifacts",
                progress or terminal,
                backbone=given.backbone or grid.backbone,
                device=given.device,
                create=True,
            )
            rows = run(grid, workspace, dataset, out)
    except XcliptError as error:
        sys.stderr.write(f"reproduce: {error}\n")
        return 1
    sys.stdout.write(as_markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
