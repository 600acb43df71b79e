"""Models at their own sizes: a tokenizer of as many words, and a step of each kind of delta."""

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.factories.models import load, write_clip_vision, write_xlm_roberta_tokenizer
from tests.factories.tiny import WORDS
from xclipt.backbones.registry import blueprint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.progress import Silent
from xclipt.training.loop import TrainingState, fit
from xclipt.training.pairs import TrainingPairs
from xclipt.training.recipe import recipe_with

CAPTIONS = ["un chat noir", "a dog runs", "un grand chien blanc court", "a cat sleeps", "chat"]
KINDS = {
    "lora": LoraSpec(),
    "lora-all-linear-head": LoraSpec(modules=ALL_LINEAR, tune_head=True),
    "adapter": AdapterSpec(),
    "compacter": CompacterSpec(),
    "soft-prompt": SoftPromptSpec(),
}


def words_tokenizer(rows: int) -> PreTrainedTokenizerFast:
    """A tokenizer of that many words, begun and ended as XLM-R's texts are."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    words += [f"w{i}" for i in range(rows - len(words))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )


def write_mclip_large(folder: Path) -> None:
    """The published M-CLIP's format and size with random weights, beside a small image tower."""
    tower = blueprint("mclip-l14").text_tower
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


def step_of_each_kind(folder: Path, write: Callable[[Path], None], parameters: int) -> list[str]:
    """Write the model, load it and train a step of each kind of delta: what took how long.

    Args:
        folder: Where to.
        write: Writes it.
        parameters: Weights that the text tower has.
    """
    started = time.perf_counter()
    write(folder)
    notes = [f"written in {time.perf_counter() - started:.0f} s"]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _peak_gigabytes()  # other tests of this process are in it
    started = time.perf_counter()
    backbone = load(folder)
    loaded = _peak_gigabytes()
    notes.append(f"loaded in {time.perf_counter() - started:.0f} s, peak {loaded:.1f} GB")
    # The file in bfloat16 and the tower in float32.
    assert loaded - before < 6 * parameters / 1e9 + 1
    assert backbone.text_parameters == parameters
    base, rows = backbone.encode_texts(CAPTIONS), backbone.tokenizer(CAPTIONS)
    pairs = TrainingPairs(torch.randn(5, backbone.dim), rows, rows[::-1])
    recipe = recipe_with(epochs=1, batch_size=5, learning_rate=1e-3, teacher="live")
    for name, spec in KINDS.items():
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
        notes.append(f"{name}: a step in {time.perf_counter() - begun:.1f} s")
        assert (adapted.encode_texts(CAPTIONS) - base).abs().max() > 1e-5
        assert torch.equal(backbone.encode_texts(CAPTIONS), base)
    peak = _peak_gigabytes()
    assert peak < loaded + 4  # a step's activations
    return [*notes, f"peak {peak:.1f} GB"]


def _peak_gigabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
