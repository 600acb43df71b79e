"""What sentence pairs alone teach, against few captions, on photographs kept aside; hours.

    python examples/studies/text_alone.py examples/studies/text_alone.yaml --data-dir DATA

Multi30K's 29,000 lines are translations by people; 1,000 of the training photographs that are at
hand are kept aside with all their lines, and measure. All other lines are sentence pairs, with and
without photographs. A cell is one delta: a row of the study, a language, a number of pairs and a
seed; a run that was stopped goes on. All of it takes hours on two cores: ``--rows`` and
``--languages`` take a part. ``OUT/text_alone.jsonl.gz`` and ``OUT/tables.md`` hold what is known so
far; ``--raw`` makes the tables of such figures anew.
"""

import hashlib
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from photographs import Parts, at_hand, first_captions
from study import (
    Cells,
    Plain,
    delta_of,
    figures,
    outcome,
    plain_name,
    read_study,
    require_rows,
    resamples,
    study_parser,
    table,
    with_interval,
)
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.kinds import PartialSpec
from xclipt.files import write_text
from xclipt.languages import names as language_names
from xclipt.metrics import interval95, retrieval_ranks
from xclipt.training.recipe import SENTENCES, Recipe, recipe_with
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace, open_workspace

HELD_OUT = 100
"""Sentence pairs beside those that are trained on, to choose the step by: a tenth of all would cost
more than the few that some rows train on."""
BASE, ENGLISH = "base", "English originals"
JOINT = "joint start"
"""The row of the joint deltas by themselves, whose recipe they are trained by."""


@dataclass(frozen=True)
class Row:
    """A way of training.

    Attributes:
        pairs: With so many sentence pairs, a cell each; ``None`` is all there are.
        shots: And so many photographs with captions.
        joint: Begin from a joint delta of the study's other languages, of so many pairs of each,
            which has read nothing in the language; with 0 of ``pairs`` that one itself is measured.
        languages: Only these; empty is all of the study's.
        seeds: Likewise.
    """

    pairs: list[int | None] = field(default_factory=list)
    shots: int = 0
    joint: int | None = None
    recipe: Recipe = SENTENCES
    delta: PartialSpec = field(default_factory=PartialSpec)
    languages: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    @classmethod
    def parse(cls, plain: Plain) -> "Row":
        """An entry of the study's ``rows``."""
        given: dict[str, Any] = dict(plain)
        if "recipe" in given:
            given["recipe"] = recipe_with(SENTENCES, **given["recipe"])
        if "delta" in given:
            given["delta"] = delta_of(**given["delta"])
        return cls(**given)


@dataclass(frozen=True)
class Study:
    """The file: what is kept aside, and what is trained."""

    dataset: str
    aside: int
    languages: list[str]
    seeds: list[int]
    rows: Mapping[str, Row]

    @classmethod
    def parse(cls, plain: Plain) -> "Study":
        """The whole of the YAML file."""
        rows = {name: Row.parse(entry) for name, entry in plain["rows"].items()}
        return cls(**{**plain, "rows": rows})


@dataclass(frozen=True)
class Measured:
    """One cell on the photographs kept aside.

    Attributes:
        hits: Of each photograph (:func:`hits`).
    """

    row: str
    language: str
    pairs: int | None
    seed: int
    parameters: int
    seconds: float
    hits: list[int]


@dataclass(frozen=True)
class Cell:
    """One delta to train."""

    row: str
    language: str
    pairs: int | None
    seed: int

    @property
    def name(self) -> str:
        """As a file's name."""
        amount = "all" if self.pairs is None else self.pairs
        return f"{plain_name(self.row)}-{self.language}-{amount}-{self.seed}"


def cells_of(study: Study, rows: Sequence[str], languages: Sequence[str]) -> Iterator[Cell]:
    """What there is to train, the cheap before the dear."""
    every = [
        Cell(name, language, pairs, seed)
        for name, row in study.rows.items()
        for language in row.languages or study.languages
        for pairs in row.pairs or [0]
        for seed in row.seeds or study.seeds
        if name in rows and language in languages
    ]
    yield from sorted(every, key=lambda cell: (cell.pairs is None, cell.pairs, cell.seed))


def kept_aside(whole: Dataset, count: int) -> list[str]:
    """Names of so many training photographs, by a hash of their names."""
    there = [p.image for p in at_hand(whole, whole.captions("en", "train"))]
    ordered = sorted(there, key=lambda name: hashlib.sha256(f"aside {name}".encode()).digest())
    return sorted(ordered[:count])


def write_sentences(whole: Dataset, language: str, without: Sequence[str], folder: Path) -> Path:
    """All lines of the training split but those of photographs kept aside, as a file of pairs."""
    path = folder / f"en-{language}.tsv"
    left = frozenset(without)
    english = first_captions(whole, "en", "train")
    lines = [
        f"{english[image]}\t{caption}\n"
        for image, caption in first_captions(whole, language, "train").items()
        if image in english and image not in left
    ]
    write_text(path, "".join(lines))
    return path


def hits(
    workspace: Workspace,
    pictures: Sequence[Path],
    captions: Sequence[str],
    language: str,
    delta: StoredDelta | None = None,
) -> list[int]:
    """For each picture, how many of text to image and image to text came first: 0 to 2.

    Args:
        workspace: The towers.
        pictures: Files.
        captions: One of each.
        language: Of the captions.
        delta: ``None`` is the frozen base.
    """
    images = workspace.encode_pictures(pictures).features
    texts = workspace.encode_texts(captions, delta, language=language)
    ranks = retrieval_ranks(images, texts, torch.arange(len(pictures)))
    return [int(hit) for hit in (ranks.t2i <= 1).astype(int) + (ranks.i2t <= 1)]


def measure(
    workspace: Workspace,
    whole: Dataset,
    aside: Sequence[str],
    language: str,
    delta: StoredDelta | None = None,
) -> list[int]:
    """Hits of each photograph kept aside, found by its caption in a language."""
    captions = first_captions(whole, language, "train")
    pictures = [whole.picture_path(image) for image in aside]
    return hits(workspace, pictures, [captions[image] for image in aside], language, delta)


def run(options: Namespace, study: Study) -> list[Measured]:
    """Train and measure what was not yet, and give all that is known."""
    rows = options.rows or [*study.rows]
    languages = options.languages or study.languages
    cells: Cells[Measured] = Cells(options.out / "cells", lambda plain: Measured(**plain))
    whole = open_dataset(study.dataset, options.data_dir)
    aside = kept_aside(whole, study.aside)
    trained = Parts(whole, {"train": [*_trained_on(whole, aside)]})
    with Terminal(quiet=False) as terminal:
        workspace = open_workspace(
            options.out / "artifacts", terminal, dtype=options.dtype, create=True
        )
        for code in ["en", *languages]:
            name = f"base-{code}"
            if not cells.has(name):
                row = ENGLISH if code == "en" else BASE
                hits = measure(workspace, whole, aside, code)
                cells.write(name, [Measured(row, code, 0, 0, 0, 0.0, hits)])
        pairs = {
            code: write_sentences(whole, code, aside, options.out / "pairs")
            for code in study.languages
        }
        todo = [*cells_of(study, rows, languages)]
        for cell in todo:
            if cells.has(cell.name):
                continue
            terminal.note(f"{cell.name}: {len([c for c in todo if not cells.has(c.name)])} left")
            stored = teach(workspace, trained, study, cell, pairs)
            cells.write(
                cell.name,
                [
                    Measured(
                        **vars(cell),
                        parameters=stored.manifest.weights.parameters,
                        seconds=stored.manifest.seconds,
                        hits=measure(workspace, whole, aside, cell.language, stored),
                    )
                ],
            )
    bases = [f"base-{code}" for code in ["en", *study.languages]]
    return cells.read([*bases, *(c.name for c in cells_of(study, [*study.rows], study.languages))])


def teach(
    workspace: Workspace, trained: Dataset, study: Study, cell: Cell, pairs: Mapping[str, Path]
) -> StoredDelta:
    """Train the delta of a cell, after what it begins from.

    Args:
        workspace: Where deltas are.
        trained: The photographs that are not kept aside.
        study: What is trained.
        cell: Which of it.
        pairs: The file of each language's sentence pairs.
    """
    way = study.rows[cell.row]
    request = TrainingRequest(
        AlignmentRequest(cell.language, shots=way.shots, seed=cell.seed),
        delta=way.delta,
        recipe=way.recipe,
        name=cell.name,
        even_if_worse=True,
        validation_pictures=0,
        parallel=Parallel((str(pairs[cell.language]),), cell.pairs or None, HELD_OUT)
        if way.pairs
        else None,
    )
    if way.joint is not None:
        others = tuple(code for code in study.languages if code != cell.language)
        sources = tuple(f"{code}={pairs[code]}" for code in others)
        recipe = study.rows[JOINT].recipe
        joint = replace(
            request,
            alignment=AlignmentRequest(others[0], shots=0),
            recipe=recipe,
            name=f"joint-{way.joint}-without-{cell.language}",
            joint=others,
            parallel=Parallel(sources, way.joint, HELD_OUT),
        )
        start = train_delta(workspace, None, joint)
        if not cell.pairs:
            return start
        request = replace(request, recipe=replace(way.recipe, start=f"mul/{joint.name}"))
    return train_delta(workspace, trained if way.shots else None, request)


def _trained_on(whole: Dataset, aside: Sequence[str]) -> Iterator[str]:
    left = frozenset(aside)
    for picture in at_hand(whole, whole.captions("en", "train")):
        if picture.image not in left:
            yield picture.image


def as_markdown(measured: Sequence[Measured], photographs: str = "photographs kept aside") -> str:
    """Mean R@1 of both directions, the gain and the share of the gap to the English originals.

    Args:
        measured: Of the same photographs, the base and the originals among it.
        photographs: What they are.
    """
    english = next(np.array(one.hits) for one in measured if one.row == ENGLISH)
    base = {one.language: np.array(one.hits) for one in measured if one.row == BASE}
    draws = resamples(len(english))
    lines = [
        f"Mean R@1 of both directions, per cent, on {len(english):,} {photographs}.",
        "",
        *table(
            ["", "R@1"],
            [
                ["English originals", f"{_r1(english):.1f}"],
                *([f"base, {language_names((c,))}", f"{_r1(h):.1f}"] for c, h in base.items()),
            ],
        ),
        "",
    ]
    groups: dict[tuple[str, str, int | None], list[Measured]] = {}
    for one in measured:
        if one.row not in (BASE, ENGLISH):
            groups.setdefault((one.row, one.language, one.pairs), []).append(one)
    rows = []
    for (row, language, pairs), found in groups.items():
        mean = np.mean([one.hits for one in found], axis=0)
        gain = mean - base[language]
        gap = english - base[language]
        gains, gaps = draws @ gain, draws @ gap
        share = ""
        if interval95(gaps)[0] > 0:  # a gap that may as well be none has no shares
            some = gaps > 0
            closed = interval95(100 * gains[some] / gaps[some])
            share = with_interval(100 * gain.sum() / gap.sum(), closed, ".0f", " %")
        rows.append(
            [
                f"{row}, {language}",
                "all" if pairs is None else f"{pairs:,}",
                str(len(found)),
                f"{found[0].parameters:,}",
                f"{_r1(mean):.1f}",
                with_interval(_r1(gain), interval95(50 * gains / len(gain))),
                share,
                f"{np.mean([one.seconds for one in found]):.0f}",
            ]
        )
    header = ["row", "pairs", "seeds", "parameters", "R@1", "gain", "gap closed", "seconds"]
    return "\n".join([*lines, *table(header, rows), ""])


def _r1(hits: NDArray[Any]) -> float:
    return float(50 * hits.mean())


def main() -> int:
    """Run the study, or make its tables from raw figures."""
    parser = study_parser(__doc__, "text_alone.yaml", "text-alone")
    parser.add_argument("--rows", type=lambda text: text.split(","), help="only these rows")
    parser.add_argument("--languages", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--dtype", default="bfloat16", help="default: %(default)s")
    options = parser.parse_args()

    def tables() -> str:
        study = read_study(options.study, Study.parse)
        require_rows(options.study, options.rows, study.rows)
        kept = options.out / "text_alone.jsonl.gz"
        measured = figures(
            options.raw, lambda plain: Measured(**plain), lambda: run(options, study), kept
        )
        markdown = as_markdown(measured)
        write_text(options.out / "tables.md", markdown)
        return markdown

    return outcome("text_alone.py", tables)


if __name__ == "__main__":
    sys.exit(main())
