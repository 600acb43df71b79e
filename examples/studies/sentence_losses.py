"""What sentence pairs should be compared by, on validation photographs; forty minutes or so.

    python examples/studies/sentence_losses.py --data-dir DATA

Deltas are trained from the identity on 1,000 sentence pairs without a picture and measured on the
photographs of Multi30K's ``val`` that are at hand. Two losses are here alone: a bank of earlier
partners as further negatives, and the divergence of the two sides' similarities. A run that was
stopped goes on.
"""

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from photographs import at_hand
from study import Cells, outcome, plain_name, resamples, table, with_interval
from text_alone import HELD_OUT, write_sentences
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.kinds import PartialSpec
from xclipt.errors import XcliptError
from xclipt.files import write_text
from xclipt.metrics import interval95, retrieval_ranks
from xclipt.training.losses import ALIGNMENTS, Alignment, contrastive_in_gallery, cosine_alignment
from xclipt.training.recipe import SENTENCES, recipe_with
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.training.train import train_delta
from xclipt.workspace import Workspace, open_workspace

BASE, DEFAULT = "base", "cosine"
PAIRS, BANK = 1000, 2000
_COSINE = ALIGNMENTS["cosine"]


@dataclass(frozen=True)
class Measured:
    """A loss and a seed, by photograph: the mean reciprocal rank of both ways."""

    loss: str
    seed: int
    reciprocal: list[float]


class Bank:
    """The cosine loss, and the contrastive one of a text against partners of earlier steps too.

    Partners are the frozen tower's, so that those of earlier steps are no older than these.
    """

    def __init__(self, size: int) -> None:
        self._partners: deque[Tensor] = deque(maxlen=size)

    def loss(
        self, text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float
    ) -> Tensor:
        """As the rows of ``ALIGNMENTS``."""
        gallery = torch.cat([partner, *(row[None] for row in self._others(partner))])
        self._partners.extend(partner)
        own = torch.arange(len(text))
        contrast = contrastive_in_gallery(text, gallery, own, logit_scale)
        return cosine_alignment(text, partner, image, logit_scale) + contrast / _COSINE.weight

    def _others(self, partner: Tensor) -> list[Tensor]:
        """Those of the bank that are no partner of this batch."""
        if not self._partners:
            return []
        bank = torch.stack(list(self._partners))
        cosines = F.normalize(bank, dim=-1) @ F.normalize(partner, dim=-1).T
        return [row for row, cosine in zip(bank, cosines.amax(1), strict=True) if cosine < 0.9999]


def structural(
    text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float, weight: float
) -> Tensor:
    """The cosine loss, and ``KL(softmax(s p p^T) || softmax(s t t^T))`` over the batch's others."""
    itself = torch.eye(len(text), dtype=torch.bool)

    def similarities(rows: Tensor) -> Tensor:
        unit = F.normalize(rows, dim=-1)
        return (logit_scale * unit @ unit.T).masked_fill(itself, -1e4).log_softmax(-1)

    theirs, ours = similarities(partner), similarities(text)
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    cosine = cosine_alignment(text, partner, image, logit_scale)
    return cosine + weight * divergence / _COSINE.weight


def losses() -> dict[str, Alignment]:
    """The losses by name, anew for each training: a bank must not know of another's partners."""
    weight = _COSINE.weight
    return {
        DEFAULT: _COSINE,
        "cosine and a bank": Alignment(Bank(BANK).loss, weight),
        "cosine and structure": Alignment(partial(structural, weight=1.0), weight),
        "cosine and ten times the structure": Alignment(partial(structural, weight=10.0), weight),
        "mse": ALIGNMENTS["mse"],
        "contrastive": ALIGNMENTS["contrastive"],
    }


def measure(
    workspace: Workspace, whole: Dataset, language: str, delta: StoredDelta | None
) -> list[float]:
    """Reciprocal ranks of the validation photographs and their captions."""
    there = at_hand(whole, whole.captions(language, "val"))
    images = workspace.encode_pictures([whole.picture_path(p.image) for p in there]).features
    texts = workspace.encode_texts([p.captions[0] for p in there], delta, language=language)
    ranks = retrieval_ranks(images, texts, torch.arange(len(there)))
    return [float(one) for one in (1 / ranks.t2i + 1 / ranks.i2t) / 2]


def run(options: argparse.Namespace) -> list[Measured]:
    """Train and measure what was not yet, and give all that is known."""
    cells: Cells[Measured] = Cells(options.out / "cells", lambda plain: Measured(**plain))
    whole = open_dataset("multi30k", options.data_dir)
    todo = [(name, seed) for seed in options.seeds for name in options.losses or losses()]
    with Terminal(quiet=False) as terminal:
        workspace = open_workspace(
            options.out / "artifacts", terminal, dtype="bfloat16", create=True
        )
        if not cells.has(BASE):
            cells.write(
                BASE, [Measured(BASE, 0, measure(workspace, whole, options.language, None))]
            )
        pairs = write_sentences(whole, options.language, (), options.out)
        for name, seed in todo:
            cell = f"{plain_name(name)}-{seed}"
            if cells.has(cell):
                continue
            ALIGNMENTS.update(losses())
            request = TrainingRequest(
                AlignmentRequest(options.language, shots=0, seed=seed),
                delta=PartialSpec("lora", {"rank": 2, "alpha": 4, "modules": "all-linear"}),
                recipe=recipe_with(SENTENCES, start="none", learning_rate=4e-3, align_loss=name),
                name=cell,
                force=True,
                even_if_worse=True,
                validation_pictures=0,
                parallel=Parallel((str(pairs),), PAIRS, HELD_OUT),
            )
            stored = train_delta(workspace, None, request)
            cells.write(
                cell, [Measured(name, seed, measure(workspace, whole, options.language, stored))]
            )
    return cells.read([BASE, *(f"{plain_name(name)}-{seed}" for name, seed in todo)])


def as_markdown(measured: Sequence[Measured]) -> str:
    """Mean reciprocal rank of each loss, and what it gains on the default one's."""
    means: dict[str, NDArray[np.float64]] = {}
    for name in dict.fromkeys(one.loss for one in measured):
        means[name] = np.mean([one.reciprocal for one in measured if one.loss == name], axis=0)
    draws = resamples(len(means[BASE]))
    rows = []
    for name, found in means.items():
        gain = 100 * (found - means.get(DEFAULT, found))
        said = with_interval(gain.mean(), interval95(draws @ gain / len(gain)))
        seeds = sum(one.loss == name for one in measured)
        rows.append([name, str(seeds), f"{100 * found.mean():.1f}", said])
    header = ["loss", "seeds", "MRR", f"against {DEFAULT}"]
    return "\n".join([*table(header, rows), ""])


def main() -> int:
    """Run the study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("sentence-losses"))
    parser.add_argument("--language", default="cs", help="of Multi30K: cs, de or fr")
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=[1, 2, 3],
        help="default: 1,2,3",
    )
    parser.add_argument("--losses", type=lambda text: text.split(","), help="only these")
    options = parser.parse_args()

    def tables() -> str:
        if unknown := set(options.losses or ()).difference(losses()):
            raise XcliptError(f"--losses: there is no '{min(unknown)}'")
        markdown = as_markdown(run(options))
        write_text(options.out / "tables.md", markdown)
        return markdown

    return outcome("sentence_losses.py", tables)


if __name__ == "__main__":
    sys.exit(main())
