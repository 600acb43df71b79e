"""Many languages in one call take little more than one, and changing languages next to nothing."""

import torch

from tests.benchmarks.serving import CAPTIONS, codes, grouped, seconds
from tests.made_deltas import store_noise
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.progress import Silent
from xclipt.serving.model import Model
from xclipt.training.train_start import STRUCTURE
from xclipt.workspace import Workspace


def test_mixed_batches_and_swaps_are_fast(backbone, tmp_path):
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "a", backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    known = codes(16)
    for seed, code in enumerate(known):
        store_noise(workspace, code, "noise", 0.01, seed=seed, spec=STRUCTURE)
    model = Model(workspace)
    model.warm(known)
    texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(16)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = seconds(
            {
                "one": lambda: model.encode_text(texts, known[0]),
                "rows": lambda: model.encode_text(texts, known),
                "groups": lambda: grouped(model, texts, known),
                "swaps": lambda: model.warm(known),
            }
        )
    finally:
        torch.set_num_threads(threads)
    assert best["rows"] < 1.6 * best["one"], best
    assert best["rows"] < best["groups"], best
    assert best["swaps"] / len(known) < 0.01, best
