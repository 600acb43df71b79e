"""A grid like the paper's, and a table like the paper's; hours, which it estimates as it goes.

    python examples/studies/reproduce.py examples/studies/reproduce_xtd.yaml --data-dir DATA

Every point of the grid is a delta in ``OUT/artifacts``. Stop it at any time and run it again: what
is trained is not trained again, and a training that was cut off is taken up. Of every language's
learning rates and lambdas the best on validation, in the mean over seeds, is taken as in the paper,
and only that one is measured on the test pictures; with ``every_point`` all are. ``OUT/table.md``
and ``OUT/results.csv`` hold what is known so far when a row is complete.

Baseline 2 and routines 2 and 3 need translations. What lacks is found before anything is trained:
the commands that make them are printed, a line each, or run at once with ``--translate``.
``--dry-run`` tells that too, and what would be trained.
"""

import argparse
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from grid import BASELINES, STRATEGIES, Cell, Grid, Label
from needed_translations import Lacking, command, lacking, make
from reproduce_tables import Figures, Row, as_csv, as_markdown
from study import found, outcome, trained
from xclipt import (
    ArtifactDirectory,
    EvaluationRequest,
    TrainingRequest,
    Workspace,
    XcliptError,
    open_dataset,
    open_workspace,
)
from xclipt.alignment.routines import TARGET, TO_EN
from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.registry import blueprint
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.evaluation.queries import Queries, select_queries
from xclipt.files import write_text
from xclipt.metrics import bootstrap_mean_r1, mean_r1, retrieval_ranks

ZERO_SHOT = "zero-shot"


@dataclass
class Countdown:
    """How many trainings are left, and how long they take.

    Attributes:
        left: Trainings that are not there yet.
        seconds: How long each of those took that are known.
    """

    left: int
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        known = ""
        if self.left and self.seconds:
            known = f", about {span(self.left * mean(self.seconds))}"
        return f"{self.left:,} {'training' if self.left == 1 else 'trainings'} to go{known}"


def span(seconds: float) -> str:
    """A length of time as a person says it: ``45 s``, ``20 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@dataclass(frozen=True)
class Run:
    """A grid where it is trained and measured."""

    grid: Grid
    requests: dict[Cell, TrainingRequest]
    workspace: Workspace
    dataset: Dataset
    countdown: Countdown
    out: Path

    def rows(self) -> list[Row]:
        """Train what is missing, measure, and write the table after every row."""
        rows: list[Row] = []
        bases: dict[str, Row] = {}
        for label, cells in self.grid.rows().items():
            of: dict[str, Figures] = {}
            base: dict[str, dict[str, Figures]] = {TARGET: {}, STRATEGIES[label.strategy].text: {}}
            parameters = 0
            for language in self.grid.languages:
                chosen, deltas = self.best([c for c in cells if c.language == language])
                parameters = deltas[0].manifest.weights.parameters
                queries = self._queries(language, deltas)
                measured = self._figures(queries, deltas)
                of[language] = replace(measured, chosen=chosen, validation=_validation(deltas))
                for text, figures in base.items():
                    figures[language] = self._figures(queries, [None], text)
            for text, figures in base.items():
                label_of_base = Label(ZERO_SHOT, BASELINES[text])
                bases.setdefault(text, Row(label_of_base, 0, figures, base[TARGET]))
            rows.append(Row(label, parameters, of, base[TARGET]))
            everything = [*bases.values(), *rows]
            write_text(self.out / "table.md", as_markdown(everything))
            write_text(self.out / "results.csv", as_csv(everything))
        return everything

    def best(self, cells: Sequence[Cell]) -> tuple[Label, list[StoredDelta]]:
        """The best point on validation in the mean over seeds, with its deltas, a seed each."""
        by_point: dict[Label, list[StoredDelta]] = {}
        for cell in cells:
            by_point.setdefault(cell.point, []).append(self._trained(self.requests[cell]))
        best = max(by_point, key=lambda point: _validation(by_point[point]) or 0.0)
        return best, by_point[best]

    def _trained(self, request: TrainingRequest) -> StoredDelta:
        shipped = self.workspace.backbone.warm_start
        if stored := found(self.workspace.directory, shipped, self.dataset.name, request):
            return stored
        started = time.monotonic()
        stored = trained(self.workspace, self.dataset, request)
        self.countdown.seconds.append(time.monotonic() - started)
        self.countdown.left -= 1
        self.workspace.progress.note(str(self.countdown))
        return stored

    def _queries(self, language: str, deltas: Sequence[StoredDelta]) -> Queries:
        grid = self.grid
        request = EvaluationRequest(
            [language],
            split=grid.measured_split,
            shots=grid.shots or 0,
            deltas={language: deltas},
            allow_missing=grid.allow_missing,
            limit=grid.test_limit,
        )
        return select_queries(self.workspace, self.dataset, request)

    def _figures(
        self,
        queries: Queries,
        deltas: Sequence[StoredDelta | None],
        text: str = TARGET,
    ) -> Figures:
        (of,) = queries.languages
        # Languages with the same pictures are drawn together, and others on their own.
        seed = zlib.crc32("\n".join(of.images).encode())
        by_seed, draws = [], []
        for delta in deltas:
            queries_of = of.texts(delta)
            if text == TO_EN and of.translated:  # of English there is no translation
                queries_of = of.translated[0]
            features = self.workspace.encode_texts(queries_of.captions, delta)
            ranks = retrieval_ranks(of.targets, features, queries_of.picture_index)
            by_seed.append(mean_r1(ranks))
            draws.append(bootstrap_mean_r1(ranks, seed=seed))
        return Figures(tuple(by_seed), np.mean(draws, axis=0), seed, queries.mode)


def _validation(deltas: Sequence[StoredDelta]) -> float | None:
    figures = [delta.manifest.validation for delta in deltas]
    if not all("mean_R@1" in figure for figure in figures):
        return None
    return mean(float(figure["mean_R@1"]) for figure in figures)


@dataclass(frozen=True)
class Start:
    """A grid before its backbone is loaded: what is there, and what lacks."""

    grid: Grid
    requests: dict[Cell, TrainingRequest]
    dataset: Dataset
    data_dir: Path | None
    artifacts: Path
    directory: ArtifactDirectory | None

    @classmethod
    def of(cls, grid: Grid, data_dir: Path | None, artifacts: Path) -> "Start":
        """Open what is on disk.

        Raises:
            XcliptError: The grid does not go with it.
        """
        requests = grid.trainings()
        dataset = open_dataset(grid.dataset, data_dir)
        if lost := [code for code in grid.languages if code not in dataset.languages]:
            raise XcliptError(
                f"{dataset.name} has {', '.join(dataset.languages)}",
                field="languages",
                value=", ".join(lost),
            )
        there = ArtifactDirectory.is_at(artifacts)
        directory = ArtifactDirectory.open(artifacts) if there else None
        return cls(grid, requests, dataset, data_dir, artifacts, directory)

    def untrained(self, shipped: Path | None) -> tuple[list[Cell], Countdown]:
        """What is left to train, and how long that takes going by what is there.

        Args:
            shipped: The warm start that comes with the backbone, if one does.
        """
        left, seconds = [], []
        for cell, request in self.requests.items():
            stored = self.directory and found(self.directory, shipped, self.dataset.name, request)
            if stored:
                seconds.append(stored.manifest.seconds)
            else:
                left.append(cell)
        return left, Countdown(len(left), seconds)

    def lacking(self) -> list[Lacking]:
        """Translations that are not there."""
        return list(lacking(self.grid, self.dataset, self.directory))

    def commands(self, lacks: Sequence[Lacking]) -> str:
        """The commands that make them, a line each."""
        every = [command(self.grid, one, self.data_dir, self.artifacts) for one in lacks]
        return "".join(f"{line}\n" for line in every)


def dry_run(start: Start) -> str:
    """What would be trained, and what would have to be translated before."""
    left, countdown = start.untrained(blueprint(start.grid.backbone).warm_start)
    lacks = start.lacking()
    lines = [
        f"{len(start.grid.cells()):,} points, {len(start.requests):,} trainings that differ; "
        f"{countdown}:",
        *(f"  {cell.language}/{cell.name}" for cell in left),
        f"translations missing: {len(lacks) or 'none'}",
        *(f"  {one}" for one in lacks),
    ]
    return "\n".join(lines) + "\n" + start.commands(lacks)


def reproduce(start: Start, out: Path, device: str, *, translate: bool) -> str:
    """Translate if that is asked for, train, measure; the table.

    Raises:
        XcliptError: Translations lack, or something cannot be used.
    """
    lacks = start.lacking()
    if lacks and not translate:
        sys.stdout.write(start.commands(lacks))
        raise XcliptError(
            f"nothing is trained yet: translations are missing ({'; '.join(map(str, lacks[:3]))}"
            f"{'; ...' if lacks[3:] else ''}); run the commands on stdout first, or add --translate"
        )
    with Terminal(quiet=False) as terminal:
        workspace = open_workspace(
            start.artifacts, terminal, backbone=start.grid.backbone, device=device, create=True
        )
        for one in lacks:
            make(start.grid, one, start.dataset, workspace.directory, device, terminal)
        start = replace(start, directory=workspace.directory)
        if still := start.lacking():
            raise XcliptError(
                f"still not translated: {'; '.join(map(str, still))}; name another engine or model"
            )
        _, countdown = start.untrained(workspace.backbone.warm_start)
        terminal.note(f"{len(start.requests):,} trainings; {countdown}")
        rows = Run(start.grid, start.requests, workspace, start.dataset, countdown, out).rows()
    return as_markdown(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grid", type=Path, help="YAML file, such as reproduce_xtd.yaml")
    parser.add_argument("--data-dir", type=Path, help="folder that data sets lie in")
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--artifacts", type=Path, help="artifact directory")
    parser.add_argument("--dataset", help="xtd, multi30k, or what else xclipt takes")
    parser.add_argument("--backbone")
    parser.add_argument("--languages", type=_listed, help="codes with commas between")
    parser.add_argument("--seeds", type=_numbers, help="numbers with commas between")
    parser.add_argument("--engine", help="what translates, as xclipt translate takes it")
    parser.add_argument("--model", help="the translating model, likewise")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--translate", action="store_true", help="make the translations that lack, then train"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be translated and trained"
    )
    given = parser.parse_args(arguments)
    # Each of these is in the file too.
    own = ("dataset", "backbone", "languages", "seeds", "engine", "model")
    changes: dict[str, Any] = {name: getattr(given, name) for name in own if getattr(given, name)}

    def text() -> str:
        grid = replace(Grid.read(given.grid), **changes)
        out = given.out or Path(grid.out)
        # A folder of one's own does not write into what the file's grids share.
        shared = Path(grid.artifacts) if grid.artifacts and not given.out else out / "artifacts"
        start = Start.of(grid, given.data_dir, given.artifacts or shared)
        if given.dry_run:
            return dry_run(start)
        return reproduce(start, out, given.device, translate=given.translate)

    return outcome("reproduce", text)


def _listed(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
