"""What makes a language worse than English: its captions, or how they are read; two minutes.

    python examples/studies/caption_origin.py --data-dir DATA

xFlickrCO's German photographs are in Multi30K too. So the same photographs are found by English
captions, by translations of one of them, by those translated back into English by machine, and by
captions that people wrote in German and Japanese without any English before them; with the frozen
base, and with the start that comes with xclipt. Nothing is trained.
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

from photographs import first_captions
from study import outcome, table, with_interval
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.errors import XcliptError
from xclipt.metrics import bootstrap_mean_r1, gap_closed, interval95, mean_r1, retrieval_ranks
from xclipt.training.warm_start import AUTO, WarmStarts

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
        return with_interval(self.r1, interval95(self.draws), ".1f")


def caption_origins(native: Dataset, translated: Dataset) -> list[Origin]:
    """All origins, with the captions of those photographs that every one of them has.

    Raises:
        XcliptError: Captions or translations are missing.
    """
    origins = [Origin(ENGLISH, "en", first_captions(translated, "en", "train"))]
    for language in ("de", "fr", "cs"):
        captions = first_captions(translated, language, "train")
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
        captions = first_captions(native, language, None)
        origins.append(Origin(f"written in {name} for the photograph", language, captions))
    shared = sorted(set.intersection(*(set(origin.captions) for origin in origins)))
    return [
        replace(origin, captions={image: origin.captions[image] for image in shared})
        for origin in origins
    ]


def origin_table(backbone: Backbone, pictures: Dataset, origins: Sequence[Origin]) -> str:
    """Mean R@1 of both directions by origin, of the base and of the start, with 95 % intervals.

    The bootstrap is paired: base and start, English and the others have the same photographs drawn.

    Raises:
        XcliptError: The start is for another backbone.
    """
    started = backbone_with_start(backbone)
    names = list(origins[0].captions)
    seen = backbone.encode_pictures([pictures.picture_path(name) for name in names])
    base, after = _scores(backbone, seen, origins), _scores(started, seen, origins)
    rows = []
    for origin in origins:
        scores = base[origin.name], after[origin.name]
        closed = "" if origin.language == "en" else _closed(*scores, base[ENGLISH])
        rows.append([origin.name, *map(str, scores), closed])
    header = [f"caption, of {len(names)} photographs", "base", "start", "gap closed"]
    return "\n".join(table(header, rows)) + "\n"


def backbone_with_start(backbone: Backbone) -> Backbone:
    """The backbone with the start that comes with it in its text tower.

    Raises:
        XcliptError: The start is for another backbone.
    """
    starts = WarmStarts(None, backbone.warm_start)
    spec = starts.setting(AUTO, routine=1)
    start = starts.choose(AUTO, spec, 1, backbone.identity.fingerprint) if spec else None
    if spec is None or start is None:
        raise XcliptError("the start that comes with xclipt is for another backbone; reinstall it")
    delta = AdaptedTower(backbone.text_tower, spec)
    delta.load(start.tensors)
    return delta.within(backbone)


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
    closed = interval95(100 * (after.draws - before.draws) / (english.draws - before.draws))
    return with_interval(share, closed, ".0f", " %")


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args(arguments)

    def tables() -> str:
        native = open_dataset("xflickrco", given.data_dir)
        origins = caption_origins(native, open_dataset("multi30k", given.data_dir))
        backbone = load_builtin(torch.device("cpu"), torch.bfloat16)
        return origin_table(backbone, native, origins)

    return outcome("caption_origin", tables)


if __name__ == "__main__":
    sys.exit(main())
