"""What the gallery shows is what was measured."""

import pytest
import torch

from tests.factories.deltas import store_noise
from tests.factories.tiny import WORDS, workspace_in
from xclipt.evaluation.queries import LanguageQueries
from xclipt.metrics import retrieval_ranks
from xclipt.report.gallery import retrieve_top


@pytest.mark.parametrize("with_delta", [False, True])
def test_the_best_matches_agree_with_the_ranks(tmp_path, with_delta):
    workspace = workspace_in(tmp_path)
    delta = store_noise(workspace, "fr", "noise", 0.3) if with_delta else None
    captions = tuple(f"{one} {other}" for one in WORDS[:6] for other in WORDS[6:9])
    queries = LanguageQueries(
        language="fr",
        deltas=(),
        images=tuple(f"{i}.jpg" for i in range(6)),
        targets=torch.randn(6, 8, generator=torch.Generator().manual_seed(0)),
        english={},
        captions=captions,
        picture_index=torch.arange(18) // 3,
        left_out=0,
    )
    found = retrieve_top(workspace, queries, delta, k=5)
    features = workspace.encode_texts(captions, delta)
    ranks = retrieval_ranks(queries.targets, features, queries.picture_index).t2i
    assert found.rank.tolist() == ranks.tolist()
    for top, rank, own in zip(found.top.tolist(), ranks, queries.picture_index, strict=True):
        assert own not in top if rank > 5 else top[rank - 1] == own
    assert retrieve_top(workspace, queries, delta, k=9).top.shape == (18, 6)
