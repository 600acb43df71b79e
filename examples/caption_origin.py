"""What makes a language worse than English: its captions, or how they are read.

    python examples/caption_origin.py --data-dir DATA

xFlickrCO's German photographs are in Multi30K too. So the same photographs are found by English
captions, by translations of one of them, by those translated back into English by machine, and by
captions that people wrote in German and Japanese without any English before them; with the frozen
base, and with the start that comes with xclipt. Nothing is trained. A minute or two on two cores.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.errors import XcliptError
from xclipt.evaluation.disparity import gap_closed
from xclipt.evaluation.metrics import bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks
from xclipt.training.start import shipped_start
from xclipt.training.train_start import STRUCTURE

ENGLISH = "English"
"""The origin whose figures are what the others fall short of."""


@dataclass(frozen=True)
class Origin:
    """Where captions come from: the table's words for it, their language, one a photograph."""

    name: str
    language: str
    captions: dict[str, str]


@dataclass(frozen=True)
class Score:
    """Mean R@1 in per cent, and its bootstrap draws ``(draws,)``."""

    r1: float
    draws: NDArray[np.float64]

    def __str__(self) -> str:
        low, high = interval95(self.draws)
        return f"{self.r1:.1f} [{low:.1f}, {high:.1f}]"


def caption_origins(native: Dataset, translated: Dataset) -> list[Origin]:
    """All origins, with the captions of those photographs that every one of them has.

    Raises:
        XcliptError: Captions or translations are missing.
    """
    origins = [Origin(ENGLISH, "en", _first(translated, "en", "train"))]
    for language in ("de", "fr", "cs"):
        captions = _first(translated, language, "train")
        english = {
            source: text
            for lines in translated.translations(language, "en", "train")
            for source, text in zip(lines.sources, lines.texts, strict=True)
        }
        if not english:
            raise XcliptError(
                f"{translated.name}: lacks translated_to_en/train.{language}.gz, the translations "
                "into English"
            )
        back = {image: english[text] for image, text in captions.items() if english.get(text)}
        origins += [
            Origin(f"translated into {language} by people", language, captions),
            Origin(f"that, back into English by machine ({language})", "en", back),
        ]
    for language, name in (("en", "English"), ("de", "de"), ("ja", "ja")):
        captions = _first(native, language, None)
        origins.append(Origin(f"written in {name} for the photograph", language, captions))
    shared = sorted(set.intersection(*(set(origin.captions) for origin in origins)))
    return [
        replace(origin, captions={image: origin.captions[image] for image in shared})
        for origin in origins
    ]


def _first(dataset: Dataset, language: str, split: str | None) -> dict[str, str]:
    return {item.image: item.captions[0] for item in dataset.captions(language, split)}


def table(backbone: Backbone, pictures: Dataset, origins: Sequence[Origin]) -> str:
    """Mean R@1 of both directions by origin, of the base and of the start, with 95 % intervals.

    The bootstrap is paired: base and start, English and the others have the same photographs drawn.

    Raises:
        XcliptError: The start is for another backbone.
    """
    start = shipped_start(STRUCTURE, backbone.identity.fingerprint)
    if start is None:
        raise XcliptError("the start that comes with xclipt is for another backbone; reinstall it")
    names = list(origins[0].captions)
    seen = backbone.encode_pictures([pictures.picture_path(name) for name in names])
    base = _scores(backbone, seen, origins)
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, backbone.family)
    try:
        delta.load(start.tensors)
        started = _scores(backbone, seen, origins)
    finally:
        delta.remove()
    lines = [
        f"| caption, of {len(names)} photographs | base | start | gap closed |",
        "|---|--:|--:|--:|",
    ]
    for origin in origins:
        before, after = base[origin.name], started[origin.name]
        closed = "" if origin.language == "en" else _closed(before, after, base[ENGLISH])
        lines.append(f"| {origin.name} | {before} | {after} | {closed} |")
    return "\n".join(lines) + "\n"


def _scores(backbone: Backbone, seen: Tensor, origins: Sequence[Origin]) -> dict[str, Score]:
    scores = {}
    for origin in origins:
        features = backbone.encode_texts(list(origin.captions.values()))
        ranks = retrieval_ranks(seen, features, torch.arange(len(seen)))
        scores[origin.name] = Score(mean_r1(ranks), bootstrap_mean_r1(ranks))
    return scores


def _closed(before: Score, after: Score, english: Score) -> str:
    share = gap_closed(before.r1, after.r1, english.r1)
    if share is None:
        return ""
    low, high = interval95(100 * (after.draws - before.draws) / (english.draws - before.draws))
    return f"{share:.0f} % [{low:.0f}, {high:.0f}]"


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        native = open_dataset("xflickrco", given.data_dir)
        origins = caption_origins(native, open_dataset("multi30k", given.data_dir))
        backbone = load_builtin(torch.device("cpu"), torch.bfloat16)
        sys.stdout.write(table(backbone, native, origins))
    except XcliptError as error:
        sys.stderr.write(f"caption_origin: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
