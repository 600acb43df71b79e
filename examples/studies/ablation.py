"""What each choice in builtin's heads and start is worth, seed by seed; 40 minutes a seed.

    python examples/studies/ablation.py examples/studies/ablation.yaml --data-dir DATA

Every trial trains heads or a start as the study's row says and measures them on photographs that
neither was trained on. What is measured stays in ``OUT/cells``: stop it at any time and run it
again, or run it twice at once with ``--part 1/2`` and ``--part 2/2``. ``OUT/ablation.jsonl.gz`` and
``OUT/tables.md`` hold what is known so far. ``--raw`` makes the tables of such figures anew.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ablation_tables import BASE, HEADS, OTHERS, SEVEN, START, Measured, Trial, as_markdown
from photographs import at_hand, first_captions
from start_variant import Variant, train_variant
from study import (
    Cells,
    Plain,
    delta_of,
    outcome,
    read_figures,
    read_study,
    require_rows,
    study_parser,
    write_figures,
)
from xclipt.backbones.builtin import load_efficientnet, train_heads, train_warm_start
from xclipt.backbones.builtin.train_heads import HeadsRecipe
from xclipt.backbones.builtin.train_warm_start import Learnt, WarmStartRecipe
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.pairs import picture_order
from xclipt.data.registry import open_dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.errors import XcliptError
from xclipt.files import write_text, write_with
from xclipt.metrics import retrieval_ranks
from xclipt.training import warm_start
from xclipt.workspace import Workspace, open_workspace

Encoder = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class StartRow:
    """How a start is trained, and what of it is measured.

    Attributes:
        variant: What is not in the recipe of the start that ships.
        read: Languages whose captions it reads beside English; without, all but the seven.
        kept: Shares of what it learnt to measure, each in a line of its own.
        trained: File of a start that :mod:`xclipt.backbones.builtin.train_warm_start` has written,
            as it ships and ``{seed}`` in its name the seed: it is measured, and nothing is trained.
        seeds: Only these.
    """

    recipe: WarmStartRecipe
    variant: Variant = field(default_factory=Variant)
    read: list[str] | None = None
    kept: list[float] = field(default_factory=lambda: [1.0])
    trained: str = ""
    seeds: list[int] | None = None

    @classmethod
    def parse(
        cls, recipe: Plain, delta: Plain | None = None, variant: Plain | None = None, **rest: Any
    ) -> "StartRow":
        """A row as a study has it.

        Args:
            recipe: Fields of the recipe.
            delta: Kind and settings of what is trained.
            variant: Fields of the variant.
        """
        spec = {"spec": delta_of(**delta).completed(None)} if delta else {}
        return cls(WarmStartRecipe(**recipe | spec), Variant(**(variant or {})), **rest)

    def file(self, seed: int) -> Path:
        """The start of that seed, where none is trained."""
        return Path(self.trained.format(seed=seed))


@dataclass(frozen=True)
class HeadsRow:
    """How heads are trained.

    Attributes:
        views: So many of the six views of every picture they are trained on.
        seeds: Only these.
    """

    recipe: HeadsRecipe
    views: int = 6
    seeds: list[int] | None = None

    @classmethod
    def parse(cls, recipe: Plain, **rest: Any) -> "HeadsRow":
        """A row as a study has it; ``recipe`` holds fields of the recipe."""
        return cls(HeadsRecipe(**recipe), **rest)


Row = StartRow | HeadsRow
ROWS: dict[str, Callable[..., Row]] = {START: StartRow.parse, HEADS: HeadsRow.parse}
"""Rows by the kind of what is trained."""


def trials_of(study: Plain) -> dict[Trial, Row]:
    """All trainings of a study: every row with the first seed, then with the next."""
    rows: dict[tuple[str, str], Row] = {}
    for kind, row_of in ROWS.items():
        common = study[kind].get("recipe", {})
        for name, plain in study[kind]["rows"].items():
            plain = plain or {}
            rows[kind, name] = row_of(**plain | {"recipe": common | plain.get("recipe", {})})
    return {
        Trial(kind, name, seed): row
        for seed in study["seeds"]
        for (kind, name), row in rows.items()
        if row.seeds is None or seed in row.seeds
    }


@dataclass(frozen=True)
class Pool:
    """Photographs that are searched, and one caption of each in several languages."""

    name: str
    paths: list[Path]
    captions: dict[str, list[str]]


def pools(data_dir: Path) -> list[Pool]:
    """All photographs that trials are measured on, none of them in any training."""
    crossed = open_dataset("xflickrco", data_dir)
    flickr8k = open_dataset("flickr8k", data_dir)
    multi30k = open_dataset("multi30k", data_dir)
    emoji = open_dataset("emoji", data_dir)
    of = {code: {p.image for p in crossed.captions(code, None)} for code in SEVEN}
    seven = set.intersection(*of.values())
    first = picture_order(flickr8k.captions("en", "val"), 0)[:500]
    there = at_hand(multi30k, multi30k.captions("en", "val"))
    names = emoji.captions("en", "val")
    return [
        _pool("xflickrco", crossed, None, seven, ("en", *SEVEN)),
        _pool(OTHERS, crossed, None, (of["de"] & of["ja"]) - seven, ("en", "de", "ja")),
        _pool("flickr8k", flickr8k, "val", {p.image for p in first}, ("en", "zh", "ar")),
        _pool("multi30k", multi30k, "val", {p.image for p in there}, ("en", "de", "fr", "cs")),
        _pool("emoji", emoji, "val", {p.image for p in names}, ("en", "fr", "ja")),
    ]


def _pool(
    name: str, dataset: Dataset, split: str | None, images: set[str], languages: Sequence[str]
) -> Pool:
    ordered = sorted(images)
    captions = {}
    for language in languages:
        first = first_captions(dataset, language, split)
        captions[language] = [first[image] for image in ordered]
    return Pool(name, [dataset.picture_path(image) for image in ordered], captions)


def measure(
    everything: Sequence[Pool], pictures: Mapping[str, Tensor], encode: Encoder
) -> dict[str, list[float]]:
    """Rank every pool in every language; ``pictures`` are its features by the pool's name."""
    values = {}
    for pool in everything:
        seen = pictures[pool.name]
        for language, captions in pool.captions.items():
            ranks = retrieval_ranks(seen, encode(captions), torch.arange(len(seen)))
            both = 50 / ranks.t2i + 50 / ranks.i2t
            values[f"{pool.name}/{language}"] = [round(float(value), 1) for value in both]
    return values


class Starts:
    """Trains and measures starts; what all of them share is computed once.

    Args:
        workspace: Caches what the frozen towers make of captions and photographs.
        everything: What to measure on.
        data_dir: Root of the training data.
    """

    def __init__(self, workspace: Workspace, everything: Sequence[Pool], data_dir: Path) -> None:
        self._workspace, self._pools, self._data_dir = workspace, everything, data_dir
        self._seen = {
            pool.name: workspace.encode_pictures(pool.paths).features for pool in everything
        }

    def base(self) -> Measured:
        """The frozen backbone."""
        values = measure(self._pools, self._seen, self._workspace.encode_texts)
        return Measured(BASE, BASE.row, 0, 0.0, values)

    def measured(self, trial: Trial, row: StartRow) -> list[Measured]:
        """One for every share of what was learnt that the row asks for."""
        backbone = self._workspace.backbone
        if row.trained:
            learnt, seconds = self._read(row.file(trial.seed), row.recipe), 0.0
        else:
            learnt, seconds = self._train(row, trial.seed)
        lines = []
        delta = AdaptedTower(backbone.text_tower, row.recipe.spec)
        for share in row.kept:
            delta.load(learnt.kept(share))
            values = measure(self._pools, self._seen, delta.within(backbone).encode_texts)
            line = trial.row if share == 1 else f"{trial.row}, {share:g} of it"
            lines.append(Measured(trial, line, learnt.trained, round(seconds), values))
        return lines

    def _train(self, row: StartRow, seed: int) -> tuple[Learnt, float]:
        workspace, unread = self._workspace, frozenset(SEVEN)
        captions = train_warm_start.human_captions(
            self._data_dir, unread, row.recipe.pictures, seed
        )
        if row.read is not None:
            captions = {code: captions[code] for code in ("en", *row.read)}
        names = train_warm_start.emoji_names(unread)
        targets = train_warm_start.frozen_targets(
            workspace.encode_texts,
            lambda paths: workspace.encode_pictures(paths).features,
            [*captions.values(), *names.values()],
            train_warm_start.photographs(self._data_dir, captions),
        )
        began = time.monotonic()
        learnt = train_variant(
            workspace.backbone, captions, names, targets, row.recipe, row.variant, seed
        )
        return learnt, time.monotonic() - began

    def _read(self, file: Path, recipe: WarmStartRecipe) -> Learnt:
        backbone = self._workspace.backbone
        start = warm_start.read(file, recipe.spec, backbone.identity.fingerprint)
        if start is None:
            raise XcliptError(f"{file}: was trained for another backbone, kind or setting")
        delta = AdaptedTower(backbone.text_tower, recipe.spec)
        # The file holds a share of what was learnt: the whole lies farther on the same line.
        kept = Learnt(delta.tensors(), dict(start.tensors), delta.trainable_parameters)
        return replace(kept, tensors=kept.kept(1 / recipe.kept))


class Heads:
    """Trains and measures heads on what the towers give, which is computed once.

    Args:
        folder: Keeps the towers' outputs.
        everything: What to measure on.
        data_dir: Root of the training data.
    """

    def __init__(self, folder: Path, everything: Sequence[Pool], data_dir: Path) -> None:
        self._pools = everything
        captions = (c for pool in everything for of in pool.captions.values() for c in of)
        self._rows = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        self._owners = train_heads.training_collection(data_dir).owners
        self._training = _kept(
            folder / "training.safetensors", lambda: train_heads.extract(data_dir)
        )
        self._measured = _kept(folder / "measured.safetensors", self._towers)

    def _towers(self) -> dict[str, Tensor]:
        tower = load_efficientnet().eval().fuse()
        features = {"texts": train_heads.text_features(list(self._rows))}
        for pool in self._pools:
            features[pool.name] = train_heads.image_features(tower, pool.paths, 0)
        return features

    @torch.inference_mode()
    def measured(self, trial: Trial, row: HeadsRow) -> list[Measured]:
        """The trial's one line."""
        features = {
            "train.images": self._training["train.images"][: row.views],
            "train.texts": self._training["train.texts"],
        }
        began = time.monotonic()
        with torch.inference_mode(False):
            _, text, image = train_heads.train(features, self._owners, trial.seed, row.recipe)
        seconds = time.monotonic() - began
        seen = {pool.name: image(self._measured[pool.name]) for pool in self._pools}
        texts = text(self._measured["texts"])
        values = measure(
            self._pools, seen, lambda captions: texts[[self._rows[c] for c in captions]]
        )
        weights = sum(p.numel() for head in (text, image) for p in head.parameters())
        return [Measured(trial, trial.row, weights, round(seconds), values)]


def _kept(file: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    if not file.is_file():
        write_with(file, lambda aside: save_file(compute(), aside))
    return load_file(file)


def run(given: Namespace) -> str:
    """Train and measure what is missing, and write figures and tables of all that is known.

    Raises:
        XcliptError: The study, its data or a start that a row only measures cannot be used.
    """
    trials = read_study(given.study, trials_of)
    require_rows(given.study, given.rows, {trial.row for trial in trials})
    if given.raw:
        results = read_figures(given.raw, Measured.parse)
    else:
        known = Cells(given.out / "cells", Measured.parse)
        wanted = [trial for trial in trials if not given.rows or trial.row in given.rows]
        mine = {trial: trials[trial] for trial in _part(given.part, wanted)}
        measure_missing(mine, known, given.data_dir, given.out)
        results = known.read(trial.name for trial in (BASE, *trials))
        write_figures(given.out / "ablation.jsonl.gz", map(asdict, results))
    tables = as_markdown(results)
    write_text(given.out / "tables.md", tables)
    return tables


def measure_missing(
    trials: Mapping[Trial, Row], known: Cells[Measured], data_dir: Path, out: Path
) -> None:
    """Train and measure the trials that are not known yet.

    Raises:
        XcliptError: Data or a start that a row only measures is missing, before any training.
    """
    missing = {trial: row for trial, row in trials.items() if not known.has(trial.name)}
    if not missing:
        return
    for trial, row in missing.items():
        if isinstance(row, StartRow) and row.trained and not row.file(trial.seed).is_file():
            raise XcliptError(
                f"{row.file(trial.seed)}: no such start; train it first with `python -m "
                "xclipt.backbones.builtin.train_warm_start`, or leave the row out with --rows"
            )
    everything = pools(data_dir)
    heads = starts = None
    with Terminal(quiet=False) as terminal:
        for trial, row in missing.items():
            terminal.note(trial.name)
            if isinstance(row, HeadsRow):
                heads = heads or Heads(out / "heads", everything, data_dir)
                known.write(trial.name, heads.measured(trial, row))
                continue
            if starts is None:
                workspace = open_workspace(
                    out / "artifacts", terminal, dtype="bfloat16", create=True
                )
                starts = Starts(workspace, everything, data_dir)
                known.write(BASE.name, [starts.base()])
            known.write(trial.name, starts.measured(trial, row))


def _part(part: str, trials: Sequence[Trial]) -> Sequence[Trial]:
    number, _, of = part.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise XcliptError(f"--part {part}: write 1/2 for the first of two parts")
    return trials[int(number) - 1 :: int(of)]


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = study_parser(__doc__, "ablation.yaml", "ablation")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these, by name")
    parser.add_argument("--part", default="1/1", help="1/2 and 2/2 share the work of one run")
    given = parser.parse_args(arguments)
    return outcome("ablation", lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
