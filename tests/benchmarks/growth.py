"""How time grows with shots, languages, captions, pictures and sentence pairs.

A tower of a few thousand random weights, whose features are as wide as those of real ones, so that
whatever grows faster than the number of passes is not hidden behind them. Captions and pictures
are synthetic.
"""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from tests.benchmarks.measuring import Curve, Figure, Measured, Row, Setting, at_most
from tests.factories.datasets import Given
from tests.factories.tiny import WORDS, tiny_backbone, workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.backbones.backbone import Backbone
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.report.plots import save_figure
from xclipt.training.recipe import SENTENCES
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace

_DIM = 512
_LANGUAGES = ("fr", "de", "es", "it", "ja", "ko", "pl", "ru", "tr", "zh", "cs", "ar")
_FASTER = 1.1
"""Exponent above which time grows faster than its input, and not by chance."""


def growth(setting: Setting) -> Measured:
    """Three sizes of each kind of input, a factor apart."""
    curves = [
        _curve(setting, "shots", 10_000, _shots),
        _curve(setting, "languages, joint", 12, _joint, least=3),
        _curve(setting, "languages, eval", 12, _evaluated, least=3),
        _curve(setting, "captions", 1_000_000, _captions),
        _curve(setting, "pictures", 100_000, _pictures),
        _curve(setting, "sentence pairs", 1_000_000, _sentences),
    ]
    return Measured(
        tuple(
            Figure(
                curve.what,
                f"{curve.sizes[0]:,} to {curve.sizes[-1]:,}",
                _exponent(curve),
                unit="",
                target=at_most(_FASTER),
                remark="exponent of time over size between the two largest; tiny tower, synthetic",
            )
            for curve in curves
        ),
        tuple(curves),
    )


def draw(path: Path, curves: Sequence[Curve]) -> None:
    """Seconds over sizes of every curve, both logarithmic, beside a line of linear growth."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(7, 4.2), layout="constrained")
    axes = drawing.add_subplot()
    for curve in curves:
        axes.plot(curve.sizes, curve.seconds, marker="o", markersize=3, label=curve.what)
        first, last = curve.sizes[0], curve.sizes[-1]
        linear = (curve.seconds[-1] * first / last, curve.seconds[-1])
        axes.plot((first, last), linear, color="#9aa3af", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="size", ylabel="seconds")
    axes.set_title("dotted: linear growth to the largest size", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    save_figure(path, drawing)


def _curve(
    setting: Setting,
    what: str,
    full: int,
    run: Callable[[Workspace, int], None],
    least: int = 64,
) -> Curve:
    largest = setting.size(full, least)
    factor = 2 if largest <= 12 else min(10.0, largest / 32)
    sizes = tuple(dict.fromkeys(max(1, round(largest / factor**k)) for k in (2, 1, 0)))
    seconds = []
    for size in (sizes[0], *sizes):  # the first is to warm up
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            there = workspace_in(Path(folder), _wide())
            started = time.perf_counter()
            run(there, size)
            seconds.append(time.perf_counter() - started)
    return Curve(what, sizes, tuple(seconds[1:]))


def _exponent(curve: Curve) -> float:
    (*_, small, large), (*_, sooner, later) = curve.sizes, curve.seconds
    return math.log(later / sooner) / math.log(large / small)


@cache
def _wide() -> Backbone:
    tiny = tiny_backbone()
    tiny.text_tower.head = nn.Linear(16, _DIM).requires_grad_(False)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, _DIM))
    return replace(tiny, image_tower=pool.requires_grad_(False), dim=_DIM)


class _Files(Given):
    """A given data set whose pictures are files of their names."""

    def __init__(self, folder: Path, count: int, languages: Sequence[str]) -> None:
        names = [f"{i:06}.jpg" for i in range(count)]
        super().__init__(
            {
                code: {name: (_text(i, shift),) for i, name in enumerate(names)}
                for shift, code in enumerate(("en", *languages))
            }
        )
        self._folder = folder
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)

    def picture_path(self, image: str) -> Path:
        return self._folder / image


def _text(number: int, shift: int = 0) -> str:
    """Seven words, others for every number and language."""
    digits = (number // 16**k + shift for k in range(7))
    return " ".join(WORDS[digit % 16] for digit in digits)


def _shots(there: Workspace, shots: int) -> None:
    dataset = _Files(there.directory.root / "files", shots, ["fr"])
    request = TrainingRequest(AlignmentRequest("fr", shots=shots), even_if_worse=True)
    train_delta(there, dataset, request)


def _joint(there: Workspace, count: int) -> None:
    languages = _LANGUAGES[:count]
    dataset = _Files(there.directory.root / "files", 64, languages)
    pairs = AlignmentRequest("mul", shots=64)
    train_delta(there, dataset, TrainingRequest(pairs, joint=languages, even_if_worse=True))


def _evaluated(there: Workspace, count: int) -> None:
    dataset = _Files(there.directory.root / "files", 256, _LANGUAGES[:count])
    evaluate(there, dataset, EvaluationRequest(_LANGUAGES[:count], split="train"))


def _captions(there: Workspace, count: int) -> None:
    there.encode_texts([_text(i) for i in range(count)])


def _pictures(there: Workspace, count: int) -> None:
    from xclipt.search.index import index_pictures

    dataset = _Files(there.directory.root / "files", count, [])
    index_pictures(there, dataset.picture_path("").parent).search(torch.ones(1, _DIM), 1)


def _sentences(there: Workspace, count: int) -> None:
    path = there.directory.root / "en-fr.tsv"
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            file.write(f"{_text(i)}\t{_text(i, 1)}\n")
    request = TrainingRequest(
        AlignmentRequest("fr", shots=0),
        recipe=SENTENCES,
        parallel=Parallel((str(path),)),
        even_if_worse=True,
    )
    train_delta(there, None, request)


ROWS = (Row("growth", "how time grows with the size of its input", growth),)
