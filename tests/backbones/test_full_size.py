"""The published model's own size, with random weights written in its format."""

import json
import resource
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from tests.models import write_clip_vision
from xclipt.backbones.mclip import XLM_ROBERTA_LARGE, empty_mclip_text
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import AdapterSpec, CompacterSpec, LoraSpec, SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.recipe import PAPER, recipe_with
from xclipt.training.trainer import TrainingPairs, TrainingState, train

SIZES = {"lora": 3.54, "adapter": 10.03, "compacter": 1.04, "soft-prompt": 0.016}
"""Megabytes of tensors; a header of some kilobytes comes on top."""


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
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(250_002 - 4))]
    words = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
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
    note("loaded")
    captions = [f"w{i} w{i * 7} w{i * 31} w{200_000 + i}" for i in range(1, 6)]
    base = backbone.encode_texts(captions)
    rows = backbone.tokenizer(captions)
    pairs = TrainingPairs(torch.randn(5, 768), rows, rows[::-1])
    recipe = recipe_with(PAPER, epochs=1, learning_rate=1e-3)
    for spec in (LoraSpec(), AdapterSpec(), CompacterSpec(), SoftPromptSpec()):
        delta = InjectedDelta(backbone.text_tower, spec, backbone.family, seed=1)
        outcome = train(
            *(backbone, delta, pairs, recipe, 1, None, TrainingState(), lambda state: None),
            Silent().start("", 1),
        )
        assert outcome.steps == 1
        trained = backbone.encode_texts(captions)
        assert (trained - base).abs().max() > 1e-4
        path = tmp_path / f"{spec.kind}.safetensors"
        save_file(outcome.tensors, path)
        numbers = sum(tensor.numel() for tensor in outcome.tensors.values())
        assert round(4 * numbers / 1e6, 3 if spec.kind == "soft-prompt" else 2) == SIZES[spec.kind]
        delta.remove()
        assert torch.equal(backbone.encode_texts(captions), base)
        again = InjectedDelta(backbone.text_tower, spec, backbone.family, seed=2)
        again.load(load_file(path))
        assert torch.equal(backbone.encode_texts(captions), trained)
        again.remove()
        note(f"{spec.kind}, {path.stat().st_size:,} bytes")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(notes) + "\n")
    # The weights, a step's activations, and what Python and torch are themselves.
    assert peak_gigabytes() < 12
