"""The retrievals behind the figures: what each caption finds."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import StoredDelta
from xclipt.evaluation.metrics import TIE
from xclipt.evaluation.queries import LanguageQueries
from xclipt.workspace import Workspace

_BLOCK = 512


@dataclass(frozen=True)
class TopMatches:
    """What captions find.

    Attributes:
        top: ``(captions, k)`` positions in ``queries.images``, best first.
        rank: ``(captions,)`` rank of the right one, ties counted against it.
    """

    top: Tensor
    rank: Tensor


def retrieve_top(
    workspace: Workspace, queries: LanguageQueries, delta: StoredDelta | None = None, k: int = 5
) -> TopMatches:
    """The best ``k`` targets of every caption, with a delta or with the frozen base.

    Where fewer than ``k`` are ranked, ``k`` is their number. Captions' features come from the
    cache when they were measured before.

    Raises:
        XcliptError: The delta is damaged or does not fit.
    """
    targets = F.normalize(queries.targets, dim=-1)
    captions = F.normalize(workspace.encode_texts(queries.texts(delta), delta), dim=-1)
    top = torch.empty(len(captions), min(k, len(targets)), dtype=torch.long)
    rank = torch.empty(len(captions), dtype=torch.long)
    for start in range(0, len(captions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarity = captions[rows] @ targets.T
        right = similarity.gather(1, queries.owner[rows, None])
        rank[rows] = len(targets) - (similarity < right - TIE).sum(1)
        top[rows] = similarity.topk(top.shape[1], dim=1).indices
    return TopMatches(top, rank)
