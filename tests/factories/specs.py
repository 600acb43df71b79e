"""Deltas of every kind that fit a tower of width 16."""

from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec

SPECS: dict[str, DeltaSpec] = {
    "lora": LoraSpec(rank=2),
    "lora-with-head": LoraSpec(rank=2, tune_head=True),
    "lora-alone": LoraSpec(rank=2, train_layernorm=False),
    "lora-all-linear": LoraSpec(rank=2, modules=ALL_LINEAR),
    "adapter": AdapterSpec(bottleneck=4),
    "compacter": CompacterSpec(reduction=4),
    "soft-prompt": SoftPromptSpec(tokens=3),
    "soft-prompt-of-text": SoftPromptSpec(tokens=3, prompt_init="a cat", pool_prompt=False),
    "soft-prompt-with-norms": SoftPromptSpec(train_layernorm=True, tune_head=True),
    "bitfit": BitFitSpec(),
    "full-finetune": FullSpec(),
}
IDENTITIES = [name for name in SPECS if not name.startswith("soft-prompt")]
"""Those that change no feature before they are trained."""
