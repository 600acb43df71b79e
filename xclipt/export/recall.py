"""What a smaller export costs: mean R@1 beside that of the same delta in float32."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from xclipt.artifacts.directory import StoredDelta
from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError, require_finite
from xclipt.evaluation.queries import EvaluationRequest, select_queries
from xclipt.metrics import bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks
from xclipt.workspace import Workspace

FILE = "recall.json"
"""Beside an export that was measured."""

Encode = Callable[[Sequence[str], str], Tensor]
"""Texts, and what they are in -> features ``(n, dim)``."""


@dataclass(frozen=True)
class RecallCheck:
    """What an export that is smaller than its delta's tower is measured on, and what it may lose.

    Attributes:
        workspace: The delta's directory, with its backbone.
        dataset: Pictures with captions in the delta's language; those that it was trained or
            validated on are left out.
        split: As in :class:`~xclipt.evaluation.queries.EvaluationRequest`.
        max_loss: Points of mean R@1 that it may lose.
        allow_missing: Go on with the pictures that are there.

    Raises:
        XcliptError: The loss is no number, or below zero.
    """

    workspace: Workspace
    dataset: Dataset
    split: str | None = None
    max_loss: float = 0.5
    allow_missing: bool = False

    def __post_init__(self) -> None:
        require_finite(self)
        if self.max_loss < 0:
            raise XcliptError("must be 0 or more points", field="max_loss", value=self.max_loss)


@dataclass(frozen=True)
class RecallLoss:
    """Mean R@1 of both directions in per cent, of all languages of a delta.

    Attributes:
        pictures, captions: How many were ranked, of all languages.
        full, reduced: In float32, and as exported.
        loss: Points that the export loses; below zero it gains.
        ci95: Its interval, from pictures drawn in pairs.
    """

    dataset: str
    split: str | None
    pictures: int
    captions: int
    full: float
    reduced: float
    loss: float
    ci95: tuple[float, float]

    def __str__(self) -> str:
        where = f"{self.dataset} ({self.split})" if self.split else self.dataset
        low, high = self.ci95
        return (
            f"mean R@1 {self.reduced:.2f} %, in float32 {self.full:.2f} %, on {self.pictures:,} "
            f"pictures with {self.captions:,} captions of {where}: a change of {-self.loss:+.2f} "
            f"points [{-high:+.2f}, {-low:+.2f}]"
        )

    def write(self, folder: Path) -> None:
        """Write :data:`FILE`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2), "utf-8")


def read_loss(folder: Path) -> RecallLoss | None:
    """What was measured of the export in a folder, if anything was."""
    path = folder / FILE
    if not path.is_file():
        return None
    plain: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    return RecallLoss(**{**plain, "ci95": tuple(plain["ci95"])})


def measure_loss(
    check: RecallCheck, delta: StoredDelta, full: Encode, reduced: Encode
) -> RecallLoss:
    """Rank pictures and captions by the features of both, in every language of the delta.

    Raises:
        XcliptError: The data set does not hold what is needed.
    """
    taught, there = delta.manifest.taught, check.dataset.languages
    languages = [language for language in taught if language in there] or [*taught]
    request = EvaluationRequest(
        languages,
        split=check.split,
        mode="image",
        deltas=dict.fromkeys(languages, (delta,)),
        allow_missing=check.allow_missing,
    )
    queries = select_queries(check.workspace, check.dataset, request)
    figures, draws = [], []
    for one in queries.languages:
        texts = one.texts(delta)
        ranks = [
            retrieval_ranks(
                one.targets, encode(texts.captions, one.language_of(texts)), texts.picture_index
            )
            for encode in (full, reduced)
        ]
        figures.append([mean_r1(each) for each in ranks])
        draws.append(bootstrap_mean_r1(ranks[0]) - bootstrap_mean_r1(ranks[1]))
    before, after = np.mean(figures, axis=0)
    return RecallLoss(
        dataset=queries.dataset,
        split=queries.split,
        pictures=sum(len(one.images) for one in queries.languages),
        captions=sum(len(one.captions) for one in queries.languages),
        full=float(before),
        reduced=float(after),
        loss=float(before - after),
        ci95=interval95(np.mean(draws, axis=0)),
    )
