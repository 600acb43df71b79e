"""What makes a language worse than English: its captions, or how they are read.

    python examples/caption_origin.py --data-dir DATA

xFlickrCO's German photographs are in Multi30K too. So the same photographs are found by English
captions, by translations of one of them, by those translated back into English by machine, and by
captions that people wrote in German and Japanese without any English before them; with the frozen
base, and with the start that comes with xclipt. Nothing is trained. A minute or two on two cores.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.errors import XcliptError
from xclipt.evaluation.metrics import bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks
from xclipt.training.start import shipped_start
from xclipt.training.train_start import STRUCTURE

Texts = dict[str, str]
"""One text for every photograph, by its name."""


@dataclass(frozen=True)
class Score:
    """Mean R@1 in per cent, and its bootstrap draws ``(draws,)``."""

    r1: float
    draws: NDArray[np.float64]

    def __str__(self) -> str:
        low, high = interval95(self.draws)
        return f"{self.r1:.1f} [{low:.1f}, {high:.1f}]"


def texts_by_origin(native: Dataset, translated: Dataset) -> dict[str, Texts]:
    """A text of every photograph from each origin, for photographs that all of them have."""
    origins = {"English": _first(translated, "en", "train")}
    for language in ("de", "fr", "cs"):
        origins[f"translated into {language} by people"] = _first(translated, language, "train")
        (lines,) = translated.translations(language, "en", "train")
        english = dict(zip(lines.sources, lines.texts, strict=True))
        origins[f"that, back into English by machine ({language})"] = {
            image: english[text]
            for image, text in _first(translated, language, "train").items()
            if english.get(text)
        }
    origins["written in English for the photograph"] = _first(native, "en", None)
    for language in ("de", "ja"):
        origins[f"written in {language} for the photograph"] = _first(native, language, None)
    shared = set.intersection(*(set(texts) for texts in origins.values()))
    return {
        origin: {image: texts[image] for image in sorted(shared)}
        for origin, texts in origins.items()
    }


def _first(dataset: Dataset, language: str, split: str | None) -> Texts:
    return {item.image: item.captions[0] for item in dataset.captions(language, split)}


def table(backbone: Backbone, pictures: Dataset, origins: dict[str, Texts]) -> str:
    """Mean R@1 of both directions by origin, of the base and of the start, with 95 % intervals.

    The bootstrap is paired: base and start, English and the others have the same photographs drawn.
    """
    names = list(origins["English"])
    seen = backbone.encode_pictures([pictures.picture_path(name) for name in names])

    def scores() -> dict[str, Score]:
        found = {}
        for origin, texts in origins.items():
            features = backbone.encode_texts([texts[name] for name in names])
            ranks = retrieval_ranks(seen, features, torch.arange(len(names)))
            found[origin] = Score(mean_r1(ranks), bootstrap_mean_r1(ranks))
        return found

    base = scores()
    start = shipped_start(STRUCTURE, backbone.identity.fingerprint)
    if start is None:
        raise XcliptError("the start that comes with xclipt is for another backbone; reinstall it")
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, backbone.family)
    try:
        delta.load(start.tensors)
        started = scores()
    finally:
        delta.remove()
    lines = [
        f"| caption, of {len(names)} photographs | base | start | gap closed |",
        "|---|--:|--:|--:|",
    ]
    for origin in origins:
        before, after = base[origin], started[origin]
        closed = "" if "English" in origin else _closed(before, after, base["English"])
        lines.append(f"| {origin} | {before} | {after} | {closed} |")
    return "\n".join(lines) + "\n"


def _closed(before: Score, after: Score, english: Score) -> str:
    share = 100 * (after.r1 - before.r1) / (english.r1 - before.r1)
    low, high = interval95(100 * (after.draws - before.draws) / (english.draws - before.draws))
    return f"{share:.0f} % [{low:.0f}, {high:.0f}]"


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        native = open_dataset("xflickrco", given.data_dir)
        origins = texts_by_origin(native, open_dataset("multi30k", given.data_dir))
        backbone = load_builtin(torch.device("cpu"), torch.bfloat16)
        sys.stdout.write(table(backbone, native, origins))
    except XcliptError as error:
        sys.stderr.write(f"caption_origin: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
