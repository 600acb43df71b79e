"""How much few shots give: recipes side by side on photographs that no delta was trained on.

    python examples/few_shot.py examples/few_shot.yaml --data-dir DATA

Every cell is one delta: a recipe, a number of shots, a seed and a language. What is measured stays
in ``OUT/cells``: stop it at any time and run it again, or run it twice at once with other
``--languages``. ``OUT/results.jsonl``, ``OUT/tables.md`` and the drawing ``OUT/few_shot.svg`` hold
what is known so far.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from xclipt.artifacts.atomic import write_text
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pairs import picture_order
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import spec_for, spec_from
from xclipt.errors import XcliptError
from xclipt.evaluation.disparity import disparity
from xclipt.evaluation.metrics import interval95, retrieval_ranks
from xclipt.languages import name as language_name
from xclipt.report.plots import save_figure
from xclipt.training.recipe import RECIPES, recipe_with
from xclipt.training.train import TrainingRequest, train_delta
from xclipt.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWS = 2000
"""Bootstrap resamples of the photographs."""

_BASE, _DELTA, _ENGLISH = "#9aa3af", "#1a7f4b", "#1a1c20"

Hits = NDArray[np.float64]
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
        unseen: Take photographs of ``train`` alone that Flickr8k has in these splits, which the
            heads and the start were not trained on: in an order fixed by their names, shots are
            drawn from the first ``pool``, and the others are the test.
    """

    dataset: str
    languages: list[str]
    shots: list[int]
    test: str | None = None
    skip: int = 0
    unseen: list[str] | None = None
    pool: int = 0


@dataclass(frozen=True)
class Row:
    """A way of training; whatever is not named is the default.

    Attributes:
        base: Name of the recipe that ``recipe`` changes.
        delta: Kind and settings; without any, a LoRA like what it starts from.
        train: Whether to train a delta at all.
        averaged: Train so many deltas, with seeds of their own, and take the mean of their weights.
        feature_map: Name in :data:`FEATURE_MAPS` and its settings: what is then fitted on the
            captions' features and those of their English partners.
        shots: Only with these numbers of shots; ``languages``, ``seeds`` and ``grounds`` likewise.
    """

    base: str = "default"
    recipe: dict[str, Any] = field(default_factory=dict)
    delta: dict[str, Any] = field(default_factory=dict)
    routine: int | None = 1
    train: bool = True
    averaged: int = 1
    feature_map: dict[str, Any] = field(default_factory=dict)
    shots: list[int] | None = None
    languages: list[str] | None = None
    seeds: list[int] | None = None
    grounds: list[str] | None = None

    def __post_init__(self) -> None:
        if self.feature_map:
            kind, settings = _feature_map(self.feature_map)
            signature(FEATURE_MAPS[kind]).bind(*[None] * 3, **settings)


@dataclass(frozen=True)
class Cell:
    """One delta to train and measure."""

    ground: str
    row: str
    shots: int
    seed: int
    language: str

    @property
    def name(self) -> str:
        """Its file's."""
        row = "".join(c if c.isalnum() else "-" for c in self.row)
        return f"{self.ground}-{row}-{self.shots or 'full'}-seed{self.seed}-{self.language}"


@dataclass(frozen=True)
class Measured:
    """A cell's figures, photograph by photograph.

    ``base``, ``delta`` and ``english`` are the mean of t2i and i2t R@1 in per cent of each
    photograph; t2i is the mean over its captions. English has as many captions as the language.
    """

    cell: Cell
    photographs: list[str]
    base: list[float]
    delta: list[float]
    english: list[float]
    seconds: float
    percent: float


class Part(Dataset):
    """Two parts of a data set's photographs: ``train`` and ``test``."""

    splits = ("train", "test")

    def __init__(self, whole: Dataset, train: Collection[str], test: Collection[str]) -> None:
        super().__init__()
        self.name, self.languages = whole.name, whole.languages
        self._whole = whole
        self._parts = {"train": frozenset(train), "test": frozenset(test)}

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        images = self._parts[split] if split else frozenset.union(*self._parts.values())
        return [p for p in self._whole.captions(language, None) if p.image in images]

    def picture_path(self, image: str) -> Path:
        return self._whole.picture_path(image)


def part(ground: Ground, data_dir: Path, cell: Cell) -> Part:
    """What a cell is trained and measured on."""
    whole = open_dataset(ground.dataset, data_dir)
    if ground.unseen:
        photographs = open_dataset("flickr8k", data_dir)
        unseen = {p.image for split in ground.unseen for p in photographs.captions("en", split)}
        listed = [p for p in whole.captions("en", "train") if p.image in unseen]
        ordered = [p.image for p in picture_order(listed, 0)]
        return Part(whole, ordered[: ground.pool], ordered[ground.pool :])
    if ground.test is None:
        common = set.intersection(
            *({p.image for p in whole.captions(code, None)} for code in ground.languages)
        )
        shared = [p for p in whole.captions("en", None) if p.image in common]
        order = [p.image for p in picture_order(shared, cell.seed)]
        return Part(whole, order[: cell.shots], order[cell.shots :])
    test = picture_order(whole.captions("en", ground.test), 0)[ground.skip :]
    train = {p.image for p in whole.captions("en", "train")}
    return Part(whole, train, [p.image for p in test])


def measure(workspace: Workspace, data: Part, cell: Cell, row: Row) -> Measured:
    """Train the cell's delta and measure it."""
    test = data.captions(cell.language, "test")
    own = [p.captions for p in test]
    all_english = {p.image: p.captions for p in data.captions("en", "test")}
    english = [all_english[p.image][: len(p.captions)] for p in test]
    pictures = workspace.encode_pictures([data.picture_path(p.image) for p in test]).features
    base = workspace.encode_texts(_flat(own))
    deltas = _train(workspace, data, cell, row) if row.train else []
    with _injected(workspace, deltas) as encode:
        features = encode(_flat(own))
        if row.feature_map:
            features = _mapped(workspace, data, cell, features, encode, row.feature_map)
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


def _train(workspace: Workspace, data: Part, cell: Cell, row: Row) -> list[StoredDelta]:
    request = TrainingRequest(
        language=cell.language,
        shots=cell.shots or None,
        routine=row.routine,
        seed=cell.seed,
        spec=spec_for(**row.delta) if row.delta else None,
        recipe=recipe_with(RECIPES[row.base], **row.recipe),
        split="train",
        validation_pictures=0,
        name=cell.name,
    )
    more = [
        replace(request, seed=100 * cell.seed + i, name=f"{cell.name}-{i}")
        for i in range(1, row.averaged)
    ]
    return [train_delta(workspace, data, each) for each in (request, *more)]


@contextmanager
def _injected(workspace: Workspace, deltas: Sequence[StoredDelta]) -> Iterator[Encoder]:
    # One delta's features go through the cache, of several the mean of the weights is in the tower.
    if len(deltas) < 2:
        yield lambda captions: workspace.encode_texts(captions, *deltas)
        return
    backbone, manifest = workspace.backbone, deltas[0].manifest
    injected = InjectedDelta(
        backbone.text_tower, spec_from(manifest.kind, manifest.setting), backbone.family
    )
    weights = [stored.tensors() for stored in deltas]
    injected.load({name: torch.stack([of[name] for of in weights]).mean(0) for name in weights[0]})
    try:
        yield backbone.encode_texts
    finally:
        injected.remove()


def linear_map(texts: Tensor, partners: Tensor, features: Tensor, weight: float) -> Tensor:
    """Features moved by ``D + shift``, the ridge solution of ``texts + D(texts) = partners``.

    All are centred on the training texts; ``weight`` is in units of their mean variance.
    """
    centre, aim = texts.mean(0), partners.mean(0)
    x, residual = texts - centre, (partners - aim) - (texts - centre)
    gram = x.T @ x
    ridge = weight * gram.diagonal().mean() * torch.eye(len(gram))
    moved: Tensor = torch.linalg.solve(gram + ridge, x.T @ residual)
    return features + (aim - centre) + (features - centre) @ moved


def centred(texts: Tensor, partners: Tensor, features: Tensor) -> Tensor:
    """Features moved by the difference of both means."""
    return features + partners.mean(0) - texts.mean(0)


def centred_unlabelled(texts: Tensor, partners: Tensor, features: Tensor) -> Tensor:
    """Features moved from their own mean, that of the captions searched by, to the partners'."""
    return features + partners.mean(0) - features.mean(0)


def whitened(texts: Tensor, partners: Tensor, features: Tensor, shrink: float) -> Tensor:
    """Features taken from the texts' mean and covariance to the partners'.

    Both covariances are mixed with ``shrink`` of a sphere of the same mean variance.
    """
    to_sphere = _root(_shrunk(texts, shrink), -0.5)
    from_sphere = _root(_shrunk(partners, shrink), 0.5)
    return partners.mean(0) + (features - texts.mean(0)) @ to_sphere @ from_sphere


def _shrunk(features: Tensor, share: float) -> Tensor:
    covariance = torch.cov(features.T)
    sphere = covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.lerp(covariance, sphere, share)


def _root(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors @ torch.diag(values**exponent) @ vectors.T
    return root


FEATURE_MAPS: dict[str, Callable[..., Tensor]] = {
    "ridge": linear_map,
    "centre": centred,
    "centre-unlabelled": centred_unlabelled,
    "whiten": whitened,
}
"""Maps of features by the name that a study knows: they take the texts' ``(shots, dim)``, their
partners' ``(shots, dim)`` and the features to move ``(captions, dim)``."""


def _mapped(
    workspace: Workspace,
    data: Part,
    cell: Cell,
    features: Tensor,
    encode: Encoder,
    settings: Mapping[str, Any],
) -> Tensor:
    shown = picture_order(data.captions(cell.language, "train"), cell.seed)
    shown = shown[: cell.shots or None]
    english = {p.image: p.captions for p in data.captions("en", "train")}
    groups = [english[p.image] for p in shown]
    of_groups = torch.split(workspace.encode_texts(_flat(groups)), [len(group) for group in groups])
    partners = torch.stack([of_one.mean(0) for of_one in of_groups])
    texts = encode([p.captions[0] for p in shown])
    kind, rest = _feature_map(settings)
    moved: Tensor = FEATURE_MAPS[kind](texts, partners, features, **rest)
    return moved


def _feature_map(plain: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return plain["kind"], {name: value for name, value in plain.items() if name != "kind"}


def _flat(groups: Sequence[Sequence[str]]) -> list[str]:
    return [caption for group in groups for caption in group]


def _hits(pictures: Tensor, captions: Tensor, groups: Sequence[Sequence[str]]) -> list[float]:
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    ranks = retrieval_ranks(pictures, captions, torch.from_numpy(owner))
    counts = np.bincount(owner)
    t2i = np.bincount(owner, weights=ranks.t2i == 1) / counts
    hits = [round(float(hit), 2) for hit in 50 * t2i + 50 * (ranks.i2t == 1)]
    return [int(hit) if hit.is_integer() else hit for hit in hits]


@dataclass(frozen=True)
class Summary:
    """Cells of one row over languages and seeds, in per cent, with intervals over photographs."""

    base: float
    delta: float
    english: float
    gain: tuple[float, float]
    closed: tuple[float, float]
    by_language: dict[str, tuple[float, float, float]]
    seconds: float

    @property
    def gap_closed(self) -> float:
        """Share of the base's gap to English that the delta closed, per cent."""
        return 100 * (self.delta - self.base) / (self.english - self.base)


def summarise(cells: Sequence[Measured]) -> Summary:
    """Mean over cells; the bootstrap draws photographs, the same for all cells."""
    images = sorted({image for measured in cells for image in measured.photographs})
    row = {image: i for i, image in enumerate(images)}
    draws = np.random.default_rng(0).multinomial(
        len(images), np.full(len(images), 1 / len(images)), DRAWS
    )
    figures: dict[str, list[Hits]] = defaultdict(list)
    points: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measured in cells:
        weights = draws[:, [row[image] for image in measured.photographs]].astype(np.float64)
        # A draw without any of a small cell's photographs says nothing of it.
        total = np.maximum(weights.sum(1), 1)
        for name in ("base", "delta", "english"):
            hits = np.array(getattr(measured, name))
            figures[name].append(weights @ hits / total)
            points[measured.cell.language][name].append(float(hits.mean()))
    drawn = {name: np.mean(values, axis=0) for name, values in figures.items()}
    by_language = {
        language: (mean(of["base"]), mean(of["delta"]), mean(of["english"]))
        for language, of in sorted(points.items())
    }
    base, delta, english = (mean(values) for values in zip(*by_language.values(), strict=True))
    closed = 100 * (drawn["delta"] - drawn["base"]) / (drawn["english"] - drawn["base"])
    return Summary(
        base,
        delta,
        english,
        interval95(drawn["delta"] - drawn["base"]),
        interval95(closed),
        by_language,
        mean(measured.seconds for measured in cells),
    )


def grouped(
    results: Sequence[Measured], rows: Sequence[str]
) -> dict[str, dict[str, list[Measured]]]:
    """Cells by ground and shots, in words, and by row in the order of ``rows``."""
    groups: dict[tuple[str, int], dict[str, list[Measured]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for measured in sorted(results, key=lambda measured: rows.index(measured.cell.row)):
        groups[measured.cell.ground, measured.cell.shots][measured.cell.row].append(measured)
    return {
        f"{ground}, {f'{shots} shots' if shots else 'all training pictures'}": by_row
        for (ground, shots), by_row in sorted(groups.items())
    }


def as_markdown(results: Sequence[Measured], rows: Sequence[str]) -> str:
    """One table for every ground and number of shots."""
    lines = []
    for title, by_row in grouped(results, rows).items():
        languages = sorted({m.cell.language for cells in by_row.values() for m in cells})
        lines += [
            f"### {title}",
            "",
            f"| | seeds | {' | '.join(languages)} | mean | gain [95 %] | gap closed [95 %] "
            "| sd | range | seconds |",
            f"|---|--:|{'--:|' * (len(languages) + 6)}",
        ]
        widest = max(by_row.values(), key=len)
        lines += _references(summarise(widest), len({m.cell.seed for m in widest}), languages)
        lines += [_line(row, cells, languages) for row, cells in by_row.items()]
        lines.append("")
    return "\n".join(lines)


def _references(summary: Summary, seeds: int, languages: Sequence[str]) -> list[str]:
    lines = []
    for name, index in (("English captions", 2), ("base", 0)):
        values = {code: of[index] for code, of in summary.by_language.items()}
        cells = [f"{values[code]:.1f}" if code in values else "" for code in languages]
        even = disparity(values)
        spread = f"{even.sd:.1f} | {even.range:.1f}" if name == "base" else " | "
        lines.append(
            f"| {name} | {seeds} | {' | '.join(cells)} | {mean(values.values()):.1f} "
            f"| | | {spread} | |"
        )
    return lines


def _line(row: str, cells: Sequence[Measured], languages: Sequence[str]) -> str:
    summary = summarise(cells)
    values = {code: of[1] for code, of in summary.by_language.items()}
    even = disparity(values)
    low, high = summary.gain
    return (
        f"| {row} | {len({m.cell.seed for m in cells})} | "
        + " | ".join(f"{values[code]:.1f}" if code in values else "" for code in languages)
        + f" | {summary.delta:.1f} | {summary.delta - summary.base:+.1f} [{low:+.1f}, {high:+.1f}] "
        f"| {summary.gap_closed:.0f} % [{summary.closed[0]:.0f}, {summary.closed[1]:.0f}] "
        f"| {even.sd:.1f} | {even.range:.1f} | {summary.seconds:.0f} |"
    )


def draw(path: Path, results: Sequence[Measured], rows: Sequence[str]) -> None:
    """The first row's way from the base to English, and the gap that each row closes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups = grouped(results, rows)
    first = {title: next(iter(by_row.items())) for title, by_row in groups.items()}
    ways = {title: summarise(cells) for title, (_, cells) in first.items()}
    lengths = [len(summary.by_language) + 1 for summary in ways.values()]
    figure = Figure(figsize=(11, 1.5 + 0.22 * sum(lengths)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    panels = left.subplots(len(ways), 1, sharex=True, squeeze=False, height_ratios=lengths)[:, 0]
    for axes, (title, summary) in zip(panels, ways.items(), strict=True):
        axes.set_title(f"{title}: {first[title][0]}", fontsize=8, loc="left")
        _draw_ways(axes, summary)
    panels[-1].set_xlim(left=0)
    panels[-1].set_xlabel("R@1, mean of both directions, per cent", fontsize=8)
    handles, labels = panels[-1].get_legend_handles_labels()
    left.legend(handles, labels, ncols=3, fontsize=8, frameon=False, loc="outside upper center")

    title, widest = max(groups.items(), key=lambda group: len(group[1]))
    axes = right.subplots()
    axes.set_title(title, fontsize=8, loc="left")
    _draw_closed(axes, {row: summarise(cells) for row, cells in widest.items()})
    axes.set_xlabel("gap to English closed, per cent, with 95 % interval", fontsize=8)
    with rc_context({"svg.fonttype": "none"}):
        save_figure(path, figure)


def _draw_ways(axes: "Axes", summary: Summary) -> None:
    places = range(len(summary.by_language))
    base, delta, english = zip(*summary.by_language.values(), strict=True)
    axes.hlines(places, base, english, color="#e2e5ea", linewidth=2, zorder=0)
    axes.hlines(places, base, delta, color=_DELTA, linewidth=2, zorder=1)
    for values, colour, label in (
        (base, _BASE, "base"),
        (delta, _DELTA, "delta"),
        (english, _ENGLISH, "English captions"),
    ):
        axes.scatter(values, places, color=colour, s=22, label=label, zorder=2)
    axes.set_yticks(places, [language_name(code) for code in summary.by_language], fontsize=8)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_closed(axes: "Axes", summaries: Mapping[str, Summary]) -> None:
    for place, summary in enumerate(summaries.values()):
        axes.plot(summary.closed, [place, place], color=_BASE, linewidth=2)
        axes.scatter(summary.gap_closed, place, color=_DELTA, s=22, zorder=2)
    axes.axvline(0, color=_ENGLISH, linewidth=0.8)
    axes.set_yticks(range(len(summaries)), list(summaries), fontsize=8)
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def cells_of(
    grounds: Mapping[str, Ground], rows: Mapping[str, Row], seeds: Sequence[int]
) -> list[Cell]:
    """All cells of a study, the first rows first."""
    return [
        Cell(ground, name, shots, seed, language)
        for name, row in rows.items()
        for ground, where in grounds.items()
        if row.grounds is None or ground in row.grounds
        for shots in where.shots
        if row.shots is None or shots in row.shots
        for seed in (row.seeds or seeds)
        for language in where.languages
        if row.languages is None or language in row.languages
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="examples/few_shot.yaml")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("few-shot"), help="folder to write to")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these, by name")
    parser.add_argument("--languages", help="only these, with commas between")
    given = parser.parse_args(arguments)
    try:
        try:
            plain = yaml.safe_load(given.study.read_text(encoding="utf-8"))
            grounds = {name: Ground(**ground) for name, ground in plain["grounds"].items()}
            rows = {name: Row(**(row or {})) for name, row in plain["rows"].items()}
            cells = cells_of(grounds, rows, plain["seeds"])
        except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
            raise XcliptError(f"{given.study}: {str(error).splitlines()[0]}") from None
        if unknown := set(given.rows or ()) - rows.keys():
            raise XcliptError(f"--rows: {given.study} has no row '{min(unknown)}'")
        wanted = [
            cell
            for cell in cells
            if (not given.rows or cell.row in given.rows)
            and (not given.languages or cell.language in given.languages.split(","))
        ]
        with Terminal(quiet=False) as terminal:
            workspace = open_workspace(given.out / "artifacts", terminal, create=True)
            for cell in wanted:
                file = given.out / "cells" / f"{cell.name}.json"
                if not file.is_file():
                    terminal.note(cell.name)
                    data = part(grounds[cell.ground], given.data_dir, cell)
                    measured = measure(workspace, data, cell, rows[cell.row])
                    write_text(file, json.dumps(asdict(measured)) + "\n")
    except XcliptError as error:
        sys.stderr.write(f"few_shot: {error}\n")
        return 1
    results = [
        Measured(**document | {"cell": Cell(**document["cell"])})
        for cell in cells
        if (file := given.out / "cells" / f"{cell.name}.json").is_file()
        for document in [json.loads(file.read_text(encoding="utf-8"))]
    ]
    documents = [json.dumps(asdict(measured), separators=(",", ":")) for measured in results]
    write_text(given.out / "results.jsonl", "\n".join(documents) + "\n")
    tables = as_markdown(results, list(rows))
    write_text(given.out / "tables.md", tables)
    if results:
        draw(given.out / "few_shot.svg", results, list(rows))
    sys.stdout.write(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
