"""A backbone of a few thousand random weights, for tests of what does not depend on quality."""

import zlib
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones import mclip
from xclipt.backbones.backbone import Backbone, CaptionTokenizer
from xclipt.backbones.identity import BackboneIdentity
from xclipt.backbones.text_tower import BERT_MODULES, TextTower
from xclipt.progress import Progress, Silent
from xclipt.workspace import Workspace

WORDS = (
    *("un", "chat", "chien", "court", "dort", "noir", "blanc", "grand"),
    *("petit", "rouge", "vert", "a", "cat", "dog", "runs", "sleeps"),
)


def word_tokenizer(end: str = "</s>", pad: str = "<pad>") -> PreTrainedTokenizerFast:
    """A token a word, `<s>` before and ``end`` after the text."""
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {end}", special_tokens=[("<s>", 0), (end, vocabulary[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token="<unk>", bos_token="<s>"
    )


def tiny_backbone(seed: int = 0) -> Backbone:
    """Two layers of width 16, a vocabulary of a few words, and an image tower of mean colours."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    tower = TextTower(encoder, nn.Linear(16, 8), BERT_MODULES, mclip.PUBLISHED).eval()
    tower.requires_grad_(False)
    return Backbone(
        identity=BackboneIdentity("tiny", str(seed), f"{seed:064d}"),
        text_tower=tower,
        image_tower=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8)),
        tokenizer=CaptionTokenizer(word_tokenizer(), "", 16),
        read_pixels=_pixels,
        text_parameters=sum(parameter.numel() for parameter in tower.parameters()),
        dim=8,
        device=torch.device("cpu"),
        dtype=torch.float32,
        measure_fingerprint=lambda: f"{seed:064d}",
    )


def _pixels(path: Path) -> Tensor:
    """``(3, 4, 4)`` of one colour, that of no other file."""
    generator = torch.Generator().manual_seed(zlib.crc32(path.read_bytes()))
    return torch.rand(3, 1, 1, generator=generator).expand(3, 4, 4)


def workspace_in(
    root: Path, backbone: Backbone | None = None, progress: Progress | None = None
) -> Workspace:
    """An artifact directory in ``root``, by default on the tiny backbone."""
    backbone = backbone or tiny_backbone()
    directory, _ = ArtifactDirectory.open_or_create(root / "artifacts", backbone.identity)
    return Workspace(directory, backbone, progress or Silent())
