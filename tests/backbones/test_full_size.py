"""The published model's own size, with random weights written in its format."""

import json
import resource
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from tests.artifacts.test_directory import manifest
from tests.models import write_clip_vision, write_xlm_roberta_tokenizer
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.mclip import XLM_ROBERTA_LARGE, empty_mclip_text
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.applied import applied
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import AdapterSpec, CompacterSpec, FullSpec, LoraSpec, SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.plan import plan
from xclipt.training.recipe import PAPER, recipe_with
from xclipt.training.train import TrainingRequest
from xclipt.training.trainer import TrainingPairs, TrainingState, train

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


def write_full_size(folder):
    tower = empty_mclip_text(XLM_ROBERTA_LARGE, 768)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for prefix, part in (("transformer", tower.encoder), ("LinearTransformation", tower.head)):
        for name, shape in ((n, t.shape) for n, t in part.state_dict().items()):
            tensor = torch.empty(shape).normal_(std=0.02, generator=generator)
            state[f"{prefix}.{name}"] = 1 + tensor if "LayerNorm.weight" in name else tensor
    state["transformer.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save(state, folder / "pytorch_model.bin")
    described = {"modelBase": "xlm-roberta-large", "transformerDimensions": 1024, "numDims": 768}
    (folder / "config.json").write_text(json.dumps({**described, "model_type": "M-CLIP"}))
    write_xlm_roberta_tokenizer(folder)
    write_clip_vision(folder / "image", dim=768)


def peak_gigabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.mark.slow
def test_a_step_of_each_kind_on_the_full_size_model(tmp_path, capsys):
    started = time.perf_counter()
    notes = []

    def note(text):
        notes.append(f"{text}: {time.perf_counter() - started:.0f} s, {peak_gigabytes():.1f} GB")

    write_full_size(tmp_path)
    assert 2.23e9 < (tmp_path / "pytorch_model.bin").stat().st_size < 2.26e9
    note("written")
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    assert backbone.text_parameters == 560_677_632
    assert isinstance(backbone.text_tower.head, nn.Linear)
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    note("loaded")
    base = backbone.encode_texts(CAPTIONS)
    rows = backbone.tokenizer(CAPTIONS)
    pairs = TrainingPairs(torch.randn(5, 768), rows, rows[::-1])
    recipe = recipe_with(PAPER, epochs=1, learning_rate=1e-3)

    def one_step(spec):
        """Identity, one step, other features; then the backbone again. Tensors and features."""
        delta = InjectedDelta(backbone.text_tower, spec, backbone.family, seed=1)
        if spec.kind != "soft-prompt":
            torch.testing.assert_close(backbone.encode_texts(CAPTIONS), base, atol=1e-6, rtol=0)
        outcome = train(
            *(backbone, delta, pairs, recipe, 1, None, TrainingState(), lambda state: None),
            Silent().start("", 1),
        )
        assert outcome.steps == 1
        trained = backbone.encode_texts(CAPTIONS)
        assert (trained - base).abs().max() > 1e-4
        delta.remove()
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
        return outcome.tensors, trained

    for spec in (LoraSpec(), AdapterSpec(), CompacterSpec(), SoftPromptSpec()):
        tensors, trained = one_step(spec)
        assert sum(tensor.nbytes for tensor in tensors.values()) == BYTES[spec.kind]
        described = replace(
            manifest(name=spec.kind),
            kind=spec.kind,
            setting=asdict(spec),
            backbone=dict(vars(backbone.identity)),
            backbone_parameters=backbone.text_parameters,
        )
        directory.write_delta(described, tensors)
        stored = ArtifactDirectory.open(directory.root).current("fr")
        with applied(backbone, stored):
            assert torch.equal(backbone.encode_texts(CAPTIONS), trained)
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
        (planned,) = plan("mclip-l14", [TrainingRequest(language="fr", spec=spec)])
        assert stored.manifest.weights.bytes == planned.bytes
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
