"""The published model's own size, with random weights written in its format."""

import resource
import sys
import time

import pytest
import torch
from torch import nn

from tests.factories.deltas import made_manifest, store
from tests.factories.full_size import write_mclip_large
from tests.factories.models import load
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.loop import TrainingState, fit
from xclipt.training.pairs import TrainingPairs
from xclipt.training.plan import plan
from xclipt.training.recipe import PAPER, recipe_with
from xclipt.training.request import TrainingRequest

BYTES = {
    "lora": 3_538_944,
    "adapter": 10_031_616,
    "compacter": 1_044_480,
    "soft-prompt": 16_384,
}
"""Of the tensors: 3.54, 10.0, 1.04 and 0.016 MB. A header of some kilobytes comes on top."""

CAPTIONS = [
    "Zwei Hunde spielen im Schnee.",
    "雪の中で遊ぶ二匹の犬",
    "كلبان يلعبان في الثلج",
    "Un homme en chemise bleue est debout sur une échelle pour nettoyer une fenêtre.",
    "dos perros",
]


def peak_gigabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.mark.slow
def test_a_step_of_each_kind_on_the_full_size_model(tmp_path, capsys, alone):
    started = time.perf_counter()
    notes = []

    def note(text):
        notes.append(f"{text}: {time.perf_counter() - started:.0f} s, {peak_gigabytes():.1f} GB")

    write_mclip_large(tmp_path)
    assert 2.23e9 < (tmp_path / "pytorch_model.bin").stat().st_size < 2.26e9
    note("written")
    backbone = load(tmp_path)
    assert backbone.text_parameters == 560_677_632
    assert isinstance(backbone.text_tower.head, nn.Linear)
    directory = workspace_in(tmp_path, backbone).directory
    note("loaded")
    base = backbone.encode_texts(CAPTIONS)
    rows = backbone.tokenizer(CAPTIONS)
    pairs = TrainingPairs(torch.randn(5, 768), rows, rows[::-1])
    recipe = recipe_with(PAPER, epochs=1, learning_rate=1e-3)

    def one_step(spec):
        """Identity, one step, other features; the backbone as ever. Tensors and features."""
        delta = AdaptedTower(backbone.text_tower, spec, seed=1)
        adapted = delta.within(backbone)
        if spec.kind != "soft-prompt":
            torch.testing.assert_close(adapted.encode_texts(CAPTIONS), base, atol=1e-6, rtol=0)
        outcome = fit(
            *(backbone, delta, [pairs], recipe, 1, [], TrainingState(), lambda state: None),
            Silent().start("", 1),
        )
        assert outcome.steps == 1
        trained = adapted.encode_texts(CAPTIONS)
        assert (trained - base).abs().max() > 1e-4
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
        return outcome.tensors, trained

    for spec in (LoraSpec(), AdapterSpec(), CompacterSpec(), SoftPromptSpec()):
        tensors, trained = one_step(spec)
        assert sum(tensor.nbytes for tensor in tensors.values()) == BYTES[spec.kind]
        described = made_manifest(backbone.identity, spec, name=spec.kind)
        store(directory, described, tensors)
        stored = ArtifactDirectory.open(directory.root).current("fr")
        assert torch.equal(stored.within(backbone).encode_texts(CAPTIONS), trained)
        (planned,) = plan("mclip-l14", [TrainingRequest(AlignmentRequest("fr"), spec)], "emoji")
        assert 0 < stored.manifest.weights.bytes - planned.bytes < 8000  # the manifest's facts
        assert stored.manifest.weights.parameters == planned.trainable_parameters
        note(f"{spec.kind}, {planned.bytes:,} bytes")
    # The weights, a step's activations, and what Python and torch are themselves.
    assert peak_gigabytes() < 12
    # The baseline besides holds gradients, Adam's two moments, and the frozen and trained weights.
    tensors, _ = one_step(FullSpec())
    assert sum(tensor.nbytes for tensor in tensors.values()) > 2.2e9
    note("full-finetune")
    assert peak_gigabytes() < 18
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(notes) + "\n")
