"""What hub correction gains, by what its bank of texts is; a quarter of an hour on two cores.

    python examples/studies/hub_correction.py --data-dir DATA

Pictures are ranked by xclipt.hubness with banks of captions, for the frozen base and for the start
that comes with xclipt. Its sharpness was chosen by the first table, on validation photographs of
Flickr8k and Multi30K; the second is of xFlickrCO's photographs, on which nothing was chosen.
Nothing is trained.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from caption_origin import backbone_with_start
from study import outcome, table, with_interval
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.registry import open_dataset
from xclipt.hubness import SHARPNESS, biased_pictures, biased_queries, hub_bias
from xclipt.metrics import (
    bootstrap_mean_r1,
    interval95,
    mean_r1,
    occurrences,
    retrieval_ranks,
    skewness,
    summarise,
)

SHARPNESSES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
SIZES = (200, 1000)


@dataclass(frozen=True)
class Case:
    """One language's queries, a picture each, and a bank of texts that holds none of them."""

    name: str
    language: str
    items: tuple[CaptionedPicture, ...]
    bank: tuple[str, ...]


@dataclass(frozen=True)
class Encoded:
    """Unit vectors: pictures and queries ``(n, dim)``, the bank ``(texts, dim)``."""

    pictures: Tensor
    queries: Tensor
    bank: Tensor


@dataclass(frozen=True)
class Correction:
    """Mean R@1 and t2i R@1 in per cent, and the skew of the 10-occurrence, without and with."""

    r1: tuple[float, float]
    t2i: tuple[float, float]
    skew: tuple[float, float]
    draws: NDArray[np.float64]


def case(
    name: str,
    pictures: Dataset,
    language: str,
    split: str | None,
    bank: Sequence[CaptionedPicture],
) -> Case:
    """The first caption of every photograph that is here, and of up to a thousand others."""
    items = tuple(
        CaptionedPicture(item.image, item.captions[:1])
        for item in pictures.captions(language, split)
        if pictures.picture_path(item.image).is_file()
    )
    asked = {item.captions[0] for item in items}
    images = {item.image for item in items}  # those of Flickr's have one name in every set
    others = dict.fromkeys(item.captions[0] for item in bank if item.image not in images)
    texts = [text for text in others if text not in asked]
    random.Random(0).shuffle(texts)
    return Case(name, language, items, tuple(texts[: max(SIZES)]))


def encode(backbone: Backbone, dataset: Dataset, one: Case, seen: dict[Path, Tensor]) -> Encoded:
    """The features of a case; ``seen`` holds those of pictures, whatever is in the text tower."""
    paths = [dataset.picture_path(item.image) for item in one.items]
    if new := [path for path in paths if path not in seen]:
        seen |= zip(new, backbone.encode_pictures(new), strict=True)
    asked = [item.captions[0] for item in one.items]
    parts = (
        torch.stack([seen[path] for path in paths]),
        backbone.encode_texts(asked, language=one.language),
        backbone.encode_texts(list(one.bank), language=one.language),
    )
    return Encoded(*(F.normalize(part.float(), dim=-1) for part in parts))


def correct(features: Encoded, sharpness: float = SHARPNESS) -> Correction:
    """Rank without and with the correction."""
    own = torch.arange(len(features.pictures))
    bias = hub_bias(features.pictures, features.bank, sharpness)
    corrected = biased_pictures(features.pictures, bias), biased_queries(features.queries)
    plain = features.pictures, features.queries
    ranks = retrieval_ranks(*plain, own), retrieval_ranks(*corrected, own, normalise=False)
    before, after = (bootstrap_mean_r1(one) for one in ranks)
    return Correction(
        r1=(mean_r1(ranks[0]), mean_r1(ranks[1])),
        t2i=(summarise(ranks[0].t2i).r1, summarise(ranks[1].t2i).r1),
        skew=(skewness(occurrences(*plain)), skewness(occurrences(*corrected))),
        draws=after - before,
    )


def sharpness_table(encoded: Sequence[Encoded]) -> list[str]:
    """Change of t2i R@1 in the mean, by the bank's size and the sharpness."""
    rows = []
    for size in SIZES:
        changes = []
        for sharpness in SHARPNESSES:
            parts = [Encoded(e.pictures, e.queries, e.bank[:size]) for e in encoded]
            found = [correct(part, sharpness).t2i for part in parts]
            changes.append(float(np.mean([after - before for before, after in found])))
        rows.append([f"{size:,}", *(f"{change:+.1f}" for change in changes)])
    return table(["texts", *map(str, SHARPNESSES)], rows)


def bank_table(named: Sequence[tuple[str, Encoded]]) -> list[str]:
    """Mean R@1 without and with, its change with a paired interval, and the skew."""
    rows = []
    for name, features in named:
        found = correct(features)
        change = with_interval(found.r1[1] - found.r1[0], interval95(found.draws), "+.1f")
        rows.append(
            [
                *(name, str(len(features.pictures)), str(len(features.bank))),
                *(f"{figure:.1f}" for figure in found.r1),
                *(change, " to ".join(f"{skew:.2f}" for skew in found.skew)),
            ]
        )
    header = ["queries, bank", "pictures", "texts", "R@1", "with it", "change [95 %]", "skew"]
    return table(header, rows)


def validation_cases(flickr8k: Dataset, multi30k: Dataset) -> list[tuple[Dataset, Case]]:
    """Validation photographs with captions of training photographs of the same set."""
    sources = [(flickr8k, code) for code in ("zh", "ar", "en")]
    sources += [(multi30k, code) for code in ("de", "fr", "cs", "en")]
    return [
        (data, case(f"{data.name} {code}", data, code, "val", data.captions(code, "train")))
        for data, code in sources
    ]


def held_out_cases(
    native: Dataset, flickr8k: Dataset, multi30k: Dataset, xtd: Dataset
) -> list[tuple[Dataset, Case]]:
    """xFlickrCO's photographs, with banks of like and of unlike collections."""
    cases = []
    for code, bank in (("de", multi30k), ("zh", flickr8k), ("en", flickr8k)):
        texts = bank.captions(code, "train")
        cases.append((native, case(f"{code}, {bank.name}", native, code, None, texts)))
    for code in ("de", "es", "ja", "ru", "tr", "zh", "en"):
        texts = xtd.captions(code, None)
        cases.append((native, case(f"{code}, {xtd.name}", native, code, None, texts)))
    return cases


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args(arguments)

    def tables() -> str:
        native, flickr8k, multi30k, xtd = (
            open_dataset(name, given.data_dir)
            for name in ("xflickrco", "flickr8k", "multi30k", "xtd")
        )
        base = load_builtin(torch.device("cpu"), torch.bfloat16)
        lines: list[str] = []
        seen: dict[Path, Tensor] = {}
        for name, tower in (("base", base), ("start", backbone_with_start(base))):
            chosen = [encode(tower, *one, seen) for one in validation_cases(flickr8k, multi30k)]
            apart = held_out_cases(native, flickr8k, multi30k, xtd)
            lines += [f"Validation, {name}: change of t2i R@1 by sharpness", ""]
            lines += [*sharpness_table(chosen), "", f"Photographs apart, {name}", ""]
            lines += [
                *bank_table([(one.name, encode(tower, data, one, seen)) for data, one in apart]),
                "",
            ]
        return "\n".join(lines)

    return outcome("hub_correction", tables)


if __name__ == "__main__":
    sys.exit(main())
