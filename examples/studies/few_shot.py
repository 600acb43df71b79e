"""How much few shots give: recipes side by side on unseen photographs; some five hours.

    python examples/studies/few_shot.py examples/studies/few_shot.yaml --data-dir DATA

Every cell is one delta: a recipe, a number of shots, a seed and a language. What is measured stays
in ``OUT/cells``: stop it at any time and run it again, or run it twice at once with other
``--languages``. ``OUT/few_shot.jsonl.gz``, ``OUT/tables.md`` and the drawing ``OUT/few_shot.svg``
hold what is known so far. ``--raw`` makes tables and drawing of such figures anew.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feature_maps import FeatureMap, map_of
from few_shot_tables import Cell, Measured, as_markdown, draw
from photographs import Parts, unseen_parts
from study import (
    Cells,
    Plain,
    delta_of,
    figures,
    outcome,
    read_study,
    require_rows,
    study_parser,
)
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.pairs import picture_order
from xclipt.data.registry import open_dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kinds import PartialSpec
from xclipt.files import write_text
from xclipt.metrics import retrieval_ranks
from xclipt.training.recipe import DEFAULT, RECIPES, Recipe, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace, open_workspace

Encoder = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Ground:
    """Photographs to learn from and to be measured on.

    Attributes:
        dataset: Name of the data set.
        languages: To train.
        shots: To train with; 0 is all there is.
        test: Split to measure on, less its first ``skip`` pictures. Without it the photographs that
            all languages have are shuffled with the cell's seed: what is not trained on is the
            test.
        skip: So many of the split were used to choose recipes.
        unseen: Take :func:`~photographs.unseen_parts` of these splits of Flickr8k instead.
        pool: So many of those are there to draw shots from.
    """

    dataset: str
    languages: list[str]
    shots: list[int]
    test: str | None = None
    skip: int = 0
    unseen: list[str] | None = None
    pool: int = 0

    def parts(self, data_dir: Path, shots: int, seed: int) -> Parts:
        """What such a cell is trained and measured on: ``train`` and ``test``."""
        whole = open_dataset(self.dataset, data_dir)
        if self.unseen:
            return Parts(whole, unseen_parts(whole, data_dir, self.unseen, self.pool))
        if self.test is None:
            common = set.intersection(
                *({p.image for p in whole.captions(code, None)} for code in self.languages)
            )
            shared = [p for p in whole.captions("en", None) if p.image in common]
            order = [p.image for p in picture_order(shared, seed)]
            return Parts(whole, {"train": order[:shots], "test": order[shots:]})
        test = picture_order(whole.captions("en", self.test), 0)[self.skip :]
        train = [p.image for p in whole.captions("en", "train")]
        return Parts(whole, {"train": train, "test": [p.image for p in test]})


@dataclass(frozen=True)
class Row:
    """A way of training.

    Attributes:
        delta: Kind and settings; without any, a LoRA like what it starts from.
        train: Whether to train a delta at all.
        averaged: Train so many deltas, with seeds of their own, and take the mean of their weights.
        moved: Fitted on the captions' features and those of their English partners afterwards.
        shots: Only with these numbers of shots; ``languages``, ``seeds`` and ``grounds`` likewise.
    """

    recipe: Recipe = DEFAULT
    delta: PartialSpec = field(default_factory=PartialSpec)
    routine: int | None = 1
    train: bool = True
    averaged: int = 1
    moved: FeatureMap | None = None
    shots: list[int] | None = None
    languages: list[str] | None = None
    seeds: list[int] | None = None
    grounds: list[str] | None = None

    @classmethod
    def parse(
        cls,
        base: str = "default",
        recipe: Plain | None = None,
        delta: Plain | None = None,
        feature_map: Plain | None = None,
        **rest: Any,
    ) -> "Row":
        """A row as a study has it; whatever is not named is the default.

        Args:
            base: Name of the recipe that ``recipe`` changes.
            recipe: Fields of it.
            delta: Its kind and settings.
            feature_map: Name of a map and its settings.
        """
        return cls(
            recipe_with(RECIPES[base].recipe, **(recipe or {})),
            delta_of(**delta) if delta else PartialSpec(),
            moved=map_of(**feature_map) if feature_map else None,
            **rest,
        )


@dataclass(frozen=True)
class Study:
    """The YAML file."""

    seeds: list[int]
    grounds: Mapping[str, Ground]
    rows: Mapping[str, Row]

    @classmethod
    def parse(cls, plain: Plain) -> "Study":
        """From its entries."""
        grounds = {name: Ground(**ground) for name, ground in plain["grounds"].items()}
        rows = {name: Row.parse(**(row or {})) for name, row in plain["rows"].items()}
        return cls(plain["seeds"], grounds, rows)

    def cells(self) -> list[Cell]:
        """All of them, the first rows first."""
        return [
            Cell(ground, name, shots, seed, language)
            for name, row in self.rows.items()
            for ground, where in self.grounds.items()
            if row.grounds is None or ground in row.grounds
            for shots in where.shots
            if row.shots is None or shots in row.shots
            for seed in (row.seeds or self.seeds)
            for language in where.languages
            if row.languages is None or language in row.languages
        ]


def measure(workspace: Workspace, data: Parts, cell: Cell, row: Row) -> Measured:
    """Train the cell's delta and measure it."""
    test = data.captions(cell.language, "test")
    own = [p.captions for p in test]
    all_english = {p.image: p.captions for p in data.captions("en", "test")}
    english = [all_english[p.image][: len(p.captions)] for p in test]
    pictures = workspace.encode_pictures([data.picture_path(p.image) for p in test]).features
    base = workspace.encode_texts(_flat(own))
    deltas = _train(workspace, data, cell, row) if row.train else []
    encode = _encoder(workspace, deltas)
    features = encode(_flat(own))
    if row.moved:
        features = row.moved(*_shown(workspace, data, cell, encode), features)
    for stored in deltas:
        workspace.directory.remove(cell.language, stored.manifest.name)
    return Measured(
        cell,
        [p.image for p in test],
        _hits(pictures, base, own),
        _hits(pictures, features, own),
        _hits(pictures, workspace.encode_texts(_flat(english)), english),
        sum(stored.manifest.seconds for stored in deltas),
        deltas[0].manifest.percent if deltas else 0.0,
    )


def _train(workspace: Workspace, data: Parts, cell: Cell, row: Row) -> list[StoredDelta]:
    pairs = AlignmentRequest(
        cell.language, cell.shots or None, row.routine, seed=cell.seed, split="train"
    )
    request = TrainingRequest(pairs, row.delta, row.recipe, name=cell.name, validation_pictures=0)
    more = [
        replace(
            request,
            alignment=replace(pairs, seed=100 * cell.seed + i),
            name=f"{cell.name}-{i}",
        )
        for i in range(1, row.averaged)
    ]
    return [train_delta(workspace, data, each) for each in (request, *more)]


def _encoder(workspace: Workspace, deltas: Sequence[StoredDelta]) -> Encoder:
    # The features of a single delta go through the cache; of several the weights are averaged.
    if len(deltas) < 2:
        return lambda captions: workspace.encode_texts(captions, *deltas)
    adapted = AdaptedTower(workspace.backbone.text_tower, deltas[0].spec)
    weights = [stored.tensors() for stored in deltas]
    adapted.load({name: torch.stack([of[name] for of in weights]).mean(0) for name in weights[0]})
    return adapted.within(workspace.backbone).encode_texts


def _shown(workspace: Workspace, data: Parts, cell: Cell, encode: Encoder) -> tuple[Tensor, Tensor]:
    # What a map is fitted on: the shots' captions and their partners.
    shown = picture_order(data.captions(cell.language, "train"), cell.seed)[: cell.shots or None]
    english = {p.image: p.captions for p in data.captions("en", "train")}
    groups = [english[p.image] for p in shown]
    of_groups = torch.split(workspace.encode_texts(_flat(groups)), [len(group) for group in groups])
    partners = torch.stack([of_one.mean(0) for of_one in of_groups])
    return encode([p.captions[0] for p in shown]), partners


def _flat(groups: Sequence[Sequence[str]]) -> list[str]:
    return [caption for group in groups for caption in group]


def _hits(pictures: Tensor, captions: Tensor, groups: Sequence[Sequence[str]]) -> list[float]:
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    ranks = retrieval_ranks(pictures, captions, torch.from_numpy(owner))
    counts = np.bincount(owner)
    t2i = np.bincount(owner, weights=ranks.t2i == 1) / counts
    hits = [round(float(hit), 2) for hit in 50 * t2i + 50 * (ranks.i2t == 1)]
    return [int(hit) if hit.is_integer() else hit for hit in hits]


def run(given: Namespace) -> str:
    """Measure what is missing, and write figures, tables and drawing of all that is known.

    Raises:
        XcliptError: The study or its data cannot be used.
    """
    study = read_study(given.study, Study.parse)
    require_rows(given.study, given.rows, study.rows)
    kept = given.out / "few_shot.jsonl.gz"
    results = figures(given.raw, Measured.parse, lambda: _measured(study, given), kept)
    tables = as_markdown(results, list(study.rows))
    write_text(given.out / "tables.md", tables)
    if results:
        draw(given.out / "few_shot.svg", results, list(study.rows))
    return tables


def _measured(study: Study, given: Namespace) -> list[Measured]:
    known = Cells(given.out / "cells", Measured.parse)
    cells = study.cells()
    codes = given.languages.split(",") if given.languages else None
    missing = [
        cell
        for cell in cells
        if (not given.rows or cell.row in given.rows)
        and (codes is None or cell.language in codes)
        and not known.has(cell.name)
    ]
    if missing:
        with Terminal(quiet=False) as terminal:
            workspace = open_workspace(given.out / "artifacts", terminal, create=True)
            for cell in missing:
                terminal.note(cell.name)
                data = study.grounds[cell.ground].parts(given.data_dir, cell.shots, cell.seed)
                measured = measure(workspace, data, cell, study.rows[cell.row])
                known.write(cell.name, [measured])
    return known.read(cell.name for cell in cells)


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = study_parser(__doc__, "few_shot.yaml", "few-shot")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these, by name")
    parser.add_argument("--languages", help="only these, with commas between")
    given = parser.parse_args(arguments)
    return outcome("few_shot", lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
