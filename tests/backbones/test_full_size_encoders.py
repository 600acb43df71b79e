"""SigLIP 2 So400m's and MetaCLIP 2 H-14's text towers at their own sizes, random in bfloat16."""

import sys
import time
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

from tests.backbones.test_catalogue import CONFIGS, ROWS
from tests.factories.dual_encoders import write_clip_pixels
from tests.factories.models import load, vision_settings
from tests.factories.tiny import WORDS
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.loop import TrainingState, fit
from xclipt.training.pairs import TrainingPairs
from xclipt.training.recipe import recipe_with

CAPTIONS = ["un chat noir", "a dog runs", "un grand chien blanc court", "a cat sleeps", "chat"]


def write(folder, name):
    """The whole text side, and an image side of a few weights."""
    described = dict(CONFIGS[name])
    kind = described.pop("model_type")
    # SigLIP's image side has no projection.
    width = ROWS[name].dim if kind == "siglip" else 16
    small = vision_settings(ROWS[name].dim) | {"hidden_size": width}
    config = CONFIG_MAPPING[kind](**described | {"vision_config": small})
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModel.from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    model.save_pretrained(folder)
    rows = config.text_config.vocab_size
    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    words += [f"w{i}" for i in range(rows - len(words))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(folder)
    write_clip_pixels(folder)


def peak_gigabytes():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["google/siglip2-so400m-patch14-384", "facebook/metaclip-2-worldwide-huge-quickgelu"]
)
def test_a_step_of_each_kind(tmp_path, capsys, alone, name):
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    started = time.perf_counter()
    write(tmp_path, name)
    written = time.perf_counter() - started
    backbone = load(tmp_path)
    assert backbone.text_parameters == ROWS[name].text_parameters
    notes = [f"{name}: written in {written:.0f} s, loaded {time.perf_counter() - started:.0f} s"]
    base, rows = backbone.encode_texts(CAPTIONS), backbone.tokenizer(CAPTIONS)
    pairs = TrainingPairs(torch.randn(5, backbone.dim), rows, rows[::-1])
    recipe = recipe_with(epochs=1, batch_size=5, learning_rate=1e-3, teacher="live")
    for spec in (LoraSpec(), AdapterSpec(), CompacterSpec(), SoftPromptSpec()):
        delta = AdaptedTower(backbone.text_tower, spec, seed=1)
        adapted = delta.within(backbone)
        if spec.kind != "soft-prompt":
            torch.testing.assert_close(adapted.encode_texts(CAPTIONS), base, atol=1e-6, rtol=0)
        begun = time.perf_counter()
        outcome = fit(
            *(backbone, delta, [pairs], recipe, 1, [], TrainingState(), lambda state: None),
            Silent().start("", 1),
        )
        assert outcome.steps == 1
        notes.append(f"  {spec.kind}: a step in {time.perf_counter() - begun:.1f} s")
        assert (adapted.encode_texts(CAPTIONS) - base).abs().max() > 1e-5
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
    peak = peak_gigabytes()
    # The file, the tower in float32, a step's activations, and Python and torch themselves.
    assert peak < 16
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(notes) + f"\n  peak {peak:.1f} GB\n")
