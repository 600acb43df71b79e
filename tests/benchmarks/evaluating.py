"""``eval`` against its bare passes, and ranks against a whole matrix that is sorted."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.bare import BareTower, sorted_batches
from tests.benchmarks.material import LANGUAGES, builtin, evaluation_set, source
from tests.benchmarks.measuring import (
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.factories.tiny import workspace_in
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.metrics import retrieval_ranks


def evaluation(setting: Setting) -> Measured:
    """The frozen base on eleven languages, in a directory that knows no feature yet."""
    backbone, dataset = builtin(setting.device), evaluation_set(setting)
    asked = [code for code in LANGUAGES if code in dataset.languages]
    limit = setting.size(1000, least=8)
    request = EvaluationRequest(asked, split="test", mode="text", limit=limit)
    texts = [
        [caption for one in dataset.captions(code, "test")[:limit] for caption in one.captions]
        for code in asked
    ]
    bare = BareTower(backbone)
    batches = [
        batch for part in texts for batch in sorted_batches(backbone, backbone.tokenizer(part))
    ]

    def whole() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            evaluate(workspace_in(Path(folder), backbone), dataset, request)

    taken = interleaved(
        {"eval": whole, "bare passes": lambda: bare.forward(batches)}, setting, warm=False
    )
    remark = f"{len(asked)} languages x {limit:,} captions, ranking English ones {source(setting)}"
    return Measured((taken.times_as_long("eval", "bare passes", at_most(1.15), remark.strip()),))


def ranks(setting: Setting) -> Measured:
    """Blocks that fit into caches against one matrix, sorted by row and by column."""
    count, dim = setting.size(10_000, least=100), 512
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, dim, generator=generator)
    texts = images + 2 * torch.randn(count, dim, generator=generator)
    taken = interleaved(
        {
            "ranks": lambda: retrieval_ranks(images, texts, torch.arange(count)),
            "product and two sorts": lambda: _plain_ranks(images, texts),
        },
        setting,
    )
    remark = f"{count:,} random vectors of {dim} either way"
    return Measured((taken.times_as_fast("ranks", "product and two sorts", at_least(1), remark),))


def _plain_ranks(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks of a square task, where text ``k`` belongs to picture ``k``."""
    similarity = F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T
    right = torch.arange(len(texts))[:, None]
    ways = [
        (matrix.argsort(dim=1, descending=True) == right).int().argmax(1) + 1
        for matrix in (similarity, similarity.T)
    ]
    return ways[0], ways[1]


ROWS = (
    Row("eval", "eval against the forward passes in it", evaluation),
    Row("ranks", "ranks of retrieval both ways", ranks),
)
