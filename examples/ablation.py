"""What each choice in the builtin backbone's heads and in its start is worth, seed by seed.

    python examples/ablation.py examples/ablation.yaml --data-dir DATA

Every trial trains heads or a start as the study's row says and measures them on photographs that
neither was trained on. What is measured stays in ``OUT/trials``: stop it at any time and run it
again, or run it twice at once with ``--part 1/2`` and ``--part 2/2``. ``OUT/results.jsonl`` and
``OUT/tables.md`` hold what is known so far.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from xclipt.artifacts.atomic import write_text, write_with
from xclipt.backbones import train_heads
from xclipt.backbones.builtin import load_efficientnet
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.pairs import picture_order
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import spec_for
from xclipt.errors import XcliptError
from xclipt.evaluation.metrics import interval95, retrieval_ranks
from xclipt.training import train_start
from xclipt.training.start import choose_start
from xclipt.workspace import Workspace, open_workspace

DRAWS = 2000
"""Bootstrap resamples of the photographs."""

SEVEN = ("de", "es", "id", "ja", "ru", "tr", "zh")
OTHERS = "xflickrco, others"
"""The photographs of xflickrco that only German and Japanese captions were written for."""

GROUPS: dict[str, list[tuple[str, str]]] = {
    "tuning": [(OTHERS, "de"), (OTHERS, "ja"), ("flickr8k", "zh"), ("multi30k", "de")],
    "xflickrco": [("xflickrco", language) for language in SEVEN],
    "read": [("flickr8k", "ar"), ("multi30k", "fr"), ("multi30k", "cs")],
    "emoji": [("emoji", "fr"), ("emoji", "ja")],
    "English": [(pool, "en") for pool in ("xflickrco", OTHERS, "flickr8k", "multi30k")],
}
"""Pools and languages of the tables' columns. A start trained without the seven has read other
captions in the languages of ``read``, and names of other emoji in French."""

COMPARED = {"unread": ("tuning", "xflickrco"), "read": ("read",)}
"""Columns whose mean is compared with the first row's."""

Encoder = Callable[[list[str]], Tensor]
Values = dict[str, list[float]]
"""By ``pool/language``, reciprocal rank x 100 of each photograph, mean of both directions."""


@dataclass(frozen=True)
class Pool:
    """Photographs that are searched, and one caption of each in several languages."""

    name: str
    paths: list[Path]
    captions: dict[str, list[str]]


@dataclass(frozen=True)
class StartRow:
    """How a start is trained, and what of it is measured.

    Attributes:
        recipe: Its recipe.
        read: Languages whose captions it reads beside English; without, all but the seven.
        kept: Shares of what it learnt to measure, each in a line of its own.
        trained: File of a start that :mod:`xclipt.training.train_start` has written, as it ships
            and ``{seed}`` in its name the seed: it is measured, and nothing is trained.
        seeds: Only these.
    """

    recipe: train_start.Recipe
    read: list[str] | None = None
    kept: list[float] = field(default_factory=lambda: [1.0])
    trained: str = ""
    seeds: list[int] | None = None

    def file(self, seed: int) -> Path:
        """The start of that seed, where none is trained."""
        return Path(self.trained.format(seed=seed))


@dataclass(frozen=True)
class HeadsRow:
    """How heads are trained.

    Attributes:
        recipe: Their recipe.
        views: So many of the six views of every picture they are trained on.
        seeds: Only these.
    """

    recipe: train_heads.Recipe
    views: int = 6
    seeds: list[int] | None = None


def start_row(
    recipe: Mapping[str, Any], delta: Mapping[str, Any] | None = None, **rest: Any
) -> StartRow:
    """A row as a study has it: fields of the recipe, kind and settings of what is trained."""
    spec = {"spec": spec_for(**delta)} if delta else {}
    return StartRow(train_start.Recipe(**(dict(recipe) | spec)), **rest)


def heads_row(recipe: Mapping[str, Any], **rest: Any) -> HeadsRow:
    """A row as a study has it: fields of the recipe."""
    return HeadsRow(train_heads.Recipe(**recipe), **rest)


Row = StartRow | HeadsRow
ROWS: dict[str, Callable[..., Row]] = {"start": start_row, "heads": heads_row}
"""Rows by the kind of what is trained, in the order of the tables."""


@dataclass(frozen=True)
class Trial:
    """One training: of ``heads`` or of a ``start``."""

    kind: str
    row: str
    seed: int

    @property
    def name(self) -> str:
        """Its file's."""
        row = "".join(c if c.isalnum() else "-" for c in self.row)
        return f"{self.kind}-{row}-seed{self.seed}"


BASE = Trial("start", "base", 0)
"""The frozen backbone, which no row trains."""


@dataclass(frozen=True)
class Measured:
    """What a trial gives: a line of the table, its trained weights, seconds of training."""

    trial: Trial
    line: str
    weights: int
    seconds: float
    values: Values


def pools(data_dir: Path) -> list[Pool]:
    """All photographs that trials are measured on, none of them in any training."""
    crossed = open_dataset("xflickrco", data_dir)
    flickr8k = open_dataset("flickr8k", data_dir)
    multi30k = open_dataset("multi30k", data_dir)
    seven = set.intersection(*({p.image for p in crossed.captions(c, None)} for c in SEVEN))
    first = {p.image for p in picture_order(flickr8k.captions("en", "val"), 0)[:500]}
    both = {p.image for p in crossed.captions("de", None)} & {
        p.image for p in crossed.captions("ja", None)
    }
    there = {
        p.image for p in multi30k.captions("en", "val") if multi30k.picture_path(p.image).is_file()
    }
    emoji = open_dataset("emoji", data_dir)
    names = {p.image for p in emoji.captions("en", "val")}
    return [
        _pool("xflickrco", crossed, None, seven, ("en", *SEVEN)),
        _pool(OTHERS, crossed, None, both - seven, ("en", "de", "ja")),
        _pool("flickr8k", flickr8k, "val", first, ("en", "zh", "ar")),
        _pool("multi30k", multi30k, "val", there, ("en", "de", "fr", "cs")),
        _pool("emoji", emoji, "val", names, ("en", "fr", "ja")),
    ]


def _pool(
    name: str, dataset: Dataset, split: str | None, images: set[str], languages: Sequence[str]
) -> Pool:
    ordered = sorted(images)
    captions = {}
    for language in languages:
        first = {p.image: p.captions[0] for p in dataset.captions(language, split)}
        captions[language] = [first[image] for image in ordered]
    return Pool(name, [dataset.picture_path(image) for image in ordered], captions)


def measure(everything: Sequence[Pool], pictures: Mapping[str, Tensor], encode: Encoder) -> Values:
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
            learnt = self._read(row.file(trial.seed), row.recipe)
            seconds = 0.0
        else:
            learnt, seconds = self._train(row, trial.seed)
        lines = []
        delta = InjectedDelta(backbone.text_tower, row.recipe.spec, backbone.family)
        for share in row.kept:
            delta.load(learnt.kept(share))
            values = measure(self._pools, self._seen, backbone.encode_texts)
            line = trial.row if share == 1 else f"{trial.row}, {share:g} of it"
            lines.append(Measured(trial, line, learnt.trained, round(seconds), values))
        delta.remove()
        return lines

    def _train(self, row: StartRow, seed: int) -> tuple[train_start.Learnt, float]:
        workspace, unread = self._workspace, frozenset(SEVEN)
        captions = train_start.human_captions(self._data_dir, unread, row.recipe.pictures, seed)
        if row.read is not None:
            captions = {code: captions[code] for code in ("en", *row.read)}
        names = train_start.emoji_names(unread)
        targets = train_start.frozen_targets(
            workspace.encode_texts,
            lambda paths: workspace.encode_pictures(paths).features,
            [*captions.values(), *names.values()],
            train_start.photographs(self._data_dir, captions),
        )
        began = time.monotonic()
        learnt = train_start.train_start(
            workspace.backbone, captions, names, targets, row.recipe, seed
        )
        return learnt, time.monotonic() - began

    def _read(self, file: Path, recipe: train_start.Recipe) -> train_start.Learnt:
        backbone = self._workspace.backbone
        start = choose_start(self._workspace.directory, str(file), recipe.spec, 1)
        if start is None:
            raise XcliptError(f"trained {file}: not the file of a start")
        delta = InjectedDelta(backbone.text_tower, recipe.spec, backbone.family)
        identity = delta.tensors()
        delta.remove()
        # The file holds a share of what was learnt: the whole lies farther on the same line.
        kept = train_start.Learnt(identity, dict(start.tensors), delta.trainable_parameters)
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


@dataclass(frozen=True)
class Group:
    """One column of one row: the mean over its sets and seeds, and its bootstrap draws."""

    value: float
    draws: NDArray[np.float64]


def group_of(trials: Sequence[Measured], sets: Sequence[tuple[str, str]]) -> Group:
    """Mean reciprocal rank x 100; the bootstrap draws a pool's photographs for all of its sets."""
    points, drawn = [], []
    for measured in trials:
        for pool, language in sets:
            values = np.array(measured.values[f"{pool}/{language}"])
            points.append(values.mean())
            drawn.append(_weights(pool, len(values)) @ values)
    return Group(float(np.mean(points)), np.mean(drawn, axis=0))


@cache
def _weights(pool: str, photographs: int) -> NDArray[np.float64]:
    # The same photographs for every trial and language, others in every pool.
    seed = sum(pool.encode())
    even = np.full(photographs, 1 / photographs)
    draws = np.random.default_rng(seed).multinomial(photographs, even, DRAWS)
    return draws / photographs


def by_line(results: Sequence[Measured], kind: str) -> dict[str, list[Measured]]:
    """All seeds of each line of a kind's table, in the order of the results."""
    lines: dict[str, list[Measured]] = defaultdict(list)
    for measured in results:
        if measured.trial.kind == kind:
            lines[measured.line].append(measured)
    return lines


def as_markdown(results: Sequence[Measured]) -> str:
    """Tables of heads and starts: what each line gives, and how far it is from the first one."""
    tables = []
    for kind in ROWS:
        lines = by_line(results, kind)
        base = lines.pop(BASE.row, None)
        if lines:
            tables += [f"### {kind.capitalize()}", "", *_table(lines, base), ""]
        if lines and base:
            tables += ["### Start, xflickrco by language", "", *_languages(lines, base), ""]
    return "\n".join(tables)


def _table(lines: Mapping[str, list[Measured]], base: list[Measured] | None) -> list[str]:
    first = next(iter(lines.values()))
    table = [
        f"| | seeds | weights | {' | '.join(GROUPS)} "
        f"| {' | '.join(f'{name}, against the first row [95 %]' for name in COMPARED)} | seconds |",
        f"|---|--:|--:|{'--:|' * (len(GROUPS) + len(COMPARED) + 1)}",
    ]
    zero = {name: group_of(base, sets).value if base else 0 for name, sets in GROUPS.items()}
    if base:
        figures = " | ".join(f"{value:.1f}" for value in zero.values())
        table.append(f"| base | | | {figures} {'| ' * (len(COMPARED) + 2)}".rstrip())
    for line, trials in lines.items():
        values = {name: group_of(trials, sets).value - zero[name] for name, sets in GROUPS.items()}
        sign = "+" if base else ""
        table.append(
            f"| {line} | {len(trials)} | {trials[0].weights:,} | "
            + " | ".join(f"{value:{sign}.1f}" for value in values.values())
            + " | "
            + " | ".join(
                "" if trials is first else _against(trials, first, groups)
                for groups in COMPARED.values()
            )
            + f" | {mean(measured.seconds for measured in trials):.0f} |"
        )
    return table


def _against(trials: Sequence[Measured], first: Sequence[Measured], columns: Sequence[str]) -> str:
    seeds = {m.trial.seed for m in trials} & {m.trial.seed for m in first}
    if not seeds:
        return ""
    ours, theirs = ([m for m in of if m.trial.seed in seeds] for of in (trials, first))
    groups = [(group_of(ours, GROUPS[g]), group_of(theirs, GROUPS[g])) for g in columns]
    point = mean(a.value - b.value for a, b in groups)
    low, high = interval95(np.mean([a.draws - b.draws for a, b in groups], axis=0))
    spread = ""
    if len(seeds) > 1:
        each = [
            mean(group_of([m], GROUPS[g]).value - group_of([n], GROUPS[g]).value for g in columns)
            for m in ours
            for n in theirs
            if m.trial.seed == n.trial.seed
        ]
        spread = f", sd of seeds {stdev(each):.1f}"
    return f"{point:+.1f} [{low:+.1f}, {high:+.1f}]{spread}"


def _languages(lines: Mapping[str, list[Measured]], base: list[Measured]) -> list[str]:
    table = [f"| | {' | '.join(SEVEN)} |", f"|---|{'--:|' * len(SEVEN)}"]
    sets = {language: [("xflickrco", language)] for language in SEVEN}
    zero = {language: group_of(base, of).value for language, of in sets.items()}
    table.append(f"| base | {' | '.join(f'{value:.1f}' for value in zero.values())} |")
    for line, trials in lines.items():
        gains = [group_of(trials, of).value - zero[language] for language, of in sets.items()]
        table.append(f"| {line} | {' | '.join(f'{gain:+.1f}' for gain in gains)} |")
    return table


def trials_of(study: Mapping[str, Any]) -> dict[Trial, Row]:
    """All trainings of a study: every row with the first seed, then with the next."""
    trials: dict[Trial, Row] = {}
    for seed in study["seeds"]:
        for kind, row_of in ROWS.items():
            common = study[kind].get("recipe", {})
            for name, plain in study[kind]["rows"].items():
                plain = plain or {}
                row = row_of(**plain | {"recipe": common | plain.get("recipe", {})})
                if row.seeds is None or seed in row.seeds:
                    trials[Trial(kind, name, seed)] = row
    return trials


def run(trials: Mapping[Trial, Row], data_dir: Path, out: Path, terminal: Terminal) -> None:
    """Train and measure what ``out`` does not hold yet.

    Raises:
        XcliptError: Data or a start that a row only measures is missing, before any training.
    """
    missing = {t: row for t, row in trials.items() if not _file(out, t).is_file()}
    if not missing:
        return
    for trial, row in missing.items():
        if isinstance(row, StartRow) and row.trained and not row.file(trial.seed).is_file():
            raise XcliptError(
                f"{row.file(trial.seed)}: no such start; train it first with "
                "`python -m xclipt.training.train_start`, or leave the row out with --rows"
            )
    everything = pools(data_dir)
    heads = starts = None
    for trial, row in missing.items():
        terminal.note(trial.name)
        if isinstance(row, HeadsRow):
            heads = heads or Heads(out / "heads", everything, data_dir)
            _write(out, trial, heads.measured(trial, row))
            continue
        if starts is None:
            workspace = open_workspace(out / "artifacts", terminal, dtype="bfloat16", create=True)
            starts = Starts(workspace, everything, data_dir)
            _write(out, BASE, [starts.base()])
        _write(out, trial, starts.measured(trial, row))


def _file(out: Path, trial: Trial) -> Path:
    return out / "trials" / f"{trial.name}.jsonl"


def _write(out: Path, trial: Trial, lines: Sequence[Measured]) -> None:
    text = [json.dumps(asdict(measured), separators=(",", ":")) for measured in lines]
    write_text(_file(out, trial), "\n".join(text) + "\n")


def read(file: Path) -> list[Measured]:
    """Results as they were written."""
    return [
        Measured(**document | {"trial": Trial(**document["trial"])})
        for line in file.read_text(encoding="utf-8").splitlines()
        for document in [json.loads(line)]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="examples/ablation.yaml")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("ablation"), help="folder to write to")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these, by name")
    parser.add_argument("--part", default="1/1", help="1/2 and 2/2 share the work of one run")
    given = parser.parse_args(arguments)
    try:
        try:
            trials = trials_of(yaml.safe_load(given.study.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            raise XcliptError(f"{given.study}: {str(error).splitlines()[0]}") from None
        if unknown := set(given.rows or ()) - {trial.row for trial in trials}:
            raise XcliptError(f"--rows: {given.study} has no row '{min(unknown)}'")
        wanted = [trial for trial in trials if not given.rows or trial.row in given.rows]
        with Terminal(quiet=False) as terminal:
            mine = {trial: trials[trial] for trial in _part(given.part, wanted)}
            run(mine, given.data_dir, given.out, terminal)
    except XcliptError as error:
        sys.stderr.write(f"ablation: {error}\n")
        return 1
    known = [BASE, *trials]
    results = [
        measured
        for trial in known
        if _file(given.out, trial).is_file()
        for measured in read(_file(given.out, trial))
    ]
    documents = [json.dumps(asdict(measured), separators=(",", ":")) for measured in results]
    write_text(given.out / "results.jsonl", "\n".join(documents) + "\n")
    tables = as_markdown(results)
    write_text(given.out / "tables.md", tables)
    sys.stdout.write(tables)
    return 0


def _part(part: str, trials: Sequence[Trial]) -> Sequence[Trial]:
    number, _, of = part.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise XcliptError(f"--part {part}: write 1/2 for the first of two parts")
    return trials[int(number) - 1 :: int(of)]


if __name__ == "__main__":
    sys.exit(main())
