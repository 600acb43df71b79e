"""Backbones of a few thousand random weights with text towers in open_clip's ways.

They need nothing of open_clip: what does is tested in ``tests/open_clip``.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from tests.factories.tiny import WORDS, tiny_backbone, word_tokenizer
from xclipt.backbones.backbone import Backbone, CaptionTokenizer
from xclipt.backbones.open_clip.description import Description
from xclipt.backbones.open_clip.encoders import outline_encoder
from xclipt.backbones.open_clip.own import outline_own
from xclipt.backbones.text_tower import TextTower

VOCABULARY = 4 + len(WORDS)
_LENGTH = 20


def own_transformer_backbone(*, fixed_length: bool) -> Backbone:
    """open_clip's own transformer: CLIP's, or SigLIP's, whose padding counts."""
    text = {"context_length": _LENGTH, "vocab_size": VOCABULARY, "width": 16, "heads": 2}
    text |= {"layers": 2, "pool_type": "eos", "eos_id": 2}
    if fixed_length:
        text |= {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}
    tokenizer = CaptionTokenizer(word_tokenizer(), "", _LENGTH, padded=fixed_length)
    return _with(outline_own(_described(text)), tokenizer)


def nllb_backbone() -> Backbone:
    """NLLB's encoder, which is told a text's language by the token in the place of ``<s>``."""
    text = {"hf_model_name": "none", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    shapes = {"embed_tokens.weight": (VOCABULARY, 16), "layers.0.fc1.weight": (32, 16)}
    tower = outline_encoder(_described(text), shapes | {"layers.1.fc1.weight": (32, 16)})
    languages = {"eng_Latn": 0, "fra_Latn": 4, "deu_Latn": 5}
    tokenizer = CaptionTokenizer(word_tokenizer(), "", _LENGTH, languages=languages)
    return _with(tower, tokenizer)


def _described(text: dict[str, object]) -> Description:
    return Description(Path("nowhere"), {"embed_dim": 8, "text_cfg": text}, {})


def _with(tower: TextTower, tokenizer: CaptionTokenizer) -> Backbone:
    """A tower of those shapes with random weights, in a backbone."""
    torch.manual_seed(0)
    encoder = tower.encoder
    if isinstance(encoder, PreTrainedModel):  # it computes its positions, and needs no file for it
        tower.encoder = type(encoder)(encoder.config)
    tower = tower if tower.encoder is not encoder else tower.to_empty(device="cpu")
    tower.head.to_empty(device="cpu")
    for name, parameter in tower.named_parameters():
        norm = name.endswith(".weight") and parameter.ndim == 1
        nn.init.normal_(parameter, 1.0 if norm else 0.0, 0.3)
    tower.eval().requires_grad_(False)
    return replace(tiny_backbone(), text_tower=tower, tokenizer=tokenizer)
