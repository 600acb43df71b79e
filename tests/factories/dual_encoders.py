"""Small random dual encoders of every type, as ``save_pretrained`` of transformers writes them."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import processors
from torch import Tensor
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessor,
    ChineseCLIPModel,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    GemmaTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from tests.factories.models import IMAGE_SIZE, VOCABULARY, vision_settings, write_clip
from tests.factories.models import write_tokenizer as write_word_tokenizer
from tests.factories.tiny import WORDS

LENGTH = 16
"""Positions of the small SigLIPs, in the place of 64."""

_SIZE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_VISION: dict[str, Any] = {**_SMALL, "image_size": IMAGE_SIZE, "patch_size": 4}


def write_clip_pixels(folder: Path) -> None:
    """Settings that are not the default ones."""
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size=_SIZE,
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2, 0.3, 0.4],
    ).save_pretrained(folder)


def _write_clip(folder: Path) -> PreTrainedModel:
    model = write_clip(folder)
    write_clip_pixels(folder)
    return model


def _write_siglip(folder: Path) -> PreTrainedModel:
    """The first SigLIP: its tokenizer is a ``spiece.model``."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20 + ["a dog's cat"] * 3),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        add_dummy_prefix=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(trained.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=LENGTH)
    model = _siglip(len(tokenizer))
    model.save_pretrained(folder)
    pixels = SiglipImageProcessorPil(size=_SIZE, resample=3)
    tokenizer.save_pretrained(folder)
    pixels.save_pretrained(folder)
    return model


def _write_siglip2(folder: Path) -> PreTrainedModel:
    """SigLIP 2 of fixed resolution: ``model_type`` siglip with Gemma's tokenizer."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted({"▁", *"".join(WORDS)})
    pieces, merges = [*special, *letters], []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = GemmaTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=merges,
        padding_side="right",
        model_input_names=["input_ids"],
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    model = _siglip(len(pieces))
    model.save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(size=_SIZE, resample=2), tokenizer).save_pretrained(
        folder
    )
    return model


def _siglip(vocabulary: int) -> PreTrainedModel:
    text = {**_SMALL, "vocab_size": vocabulary, "max_position_embeddings": LENGTH}
    config = SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=_VISION)
    model = SiglipModel(config)
    model.logit_scale.data.fill_(torch.tensor(117.33).log())
    model.logit_bias.data.fill_(-12.93)
    return model


def _write_metaclip_2(folder: Path) -> PreTrainedModel:
    text = {
        **_SMALL,
        **{"vocab_size": VOCABULARY, "max_position_embeddings": 20},
        **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "hidden_act": "quick_gelu"},
    }
    model = MetaClip2Model(
        MetaClip2Config(text_config=text, vision_config=_VISION, projection_dim=8)
    )
    model.save_pretrained(folder)
    write_word_tokenizer(folder)
    write_clip_pixels(folder)
    return model


def _write_altclip(folder: Path) -> PreTrainedModel:
    text = {
        **_SMALL,
        **{"vocab_size": VOCABULARY, "max_position_embeddings": 42, "type_vocab_size": 1},
        **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "project_dim": 12},
    }
    model = AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=8))
    model.save_pretrained(folder)
    write_word_tokenizer(folder)
    write_clip_pixels(folder)
    return model


def _write_chinese_clip(folder: Path) -> PreTrainedModel:
    """Its tokenizer is a ``vocab.txt`` and nothing else."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    text = {
        **_SMALL,
        **{"vocab_size": len(pieces), "max_position_embeddings": 32, "pad_token_id": 0},
    }
    config = ChineseCLIPConfig(text_config=text, vision_config=_VISION, projection_dim=8)
    model = ChineseCLIPModel(config)
    model.save_pretrained(folder)
    ChineseCLIPImageProcessor(size=_SIZE, do_center_crop=False).save_pretrained(folder)
    assert isinstance(AutoTokenizer.from_pretrained(folder), BertTokenizer)
    return model


def _write_vision_text(folder: Path) -> PreTrainedModel:
    text = BertConfig(**_SMALL, vocab_size=VOCABULARY, max_position_embeddings=32, pad_token_id=1)
    vision = CLIPVisionConfig(**vision_settings())
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=8)
    model = VisionTextDualEncoderModel(config, CLIPVisionModel(vision), BertModel(text))
    model.save_pretrained(folder)
    write_word_tokenizer(folder)
    write_clip_pixels(folder)
    return model


@dataclass(frozen=True)
class Written:
    """A type of dual encoder, and how texts go into it as the library's documentation has it."""

    write: Callable[[Path], PreTrainedModel]
    length: int
    fixed: bool = False


DUAL_ENCODERS = {
    "clip": Written(_write_clip, 20),
    "siglip": Written(_write_siglip, LENGTH, fixed=True),
    "siglip2": Written(_write_siglip2, LENGTH, fixed=True),
    "metaclip_2": Written(_write_metaclip_2, 20),
    "altclip": Written(_write_altclip, 40),
    "chinese_clip": Written(_write_chinese_clip, 32),
    "vision-text-dual-encoder": Written(_write_vision_text, 32),
}
"""By the type, and the two kinds of ``siglip`` apart."""


def write_dual_encoder(folder: Path, kind: str, seed: int = 0) -> PreTrainedModel:
    """A model of a kind with its tokenizer and its picture settings; weights far from zero."""
    torch.manual_seed(seed)
    model = DUAL_ENCODERS[kind].write(folder).eval()
    # Freshly made ones are so close to zero that padding, mask and order would not show.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * parameter.shape[-1] ** -0.5)
            elif name.endswith("bias") and name != "logit_bias":
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model


def documented_texts(folder: Path, kind: str, captions: list[str]) -> dict[str, Tensor]:
    """What the library's own tokenizer makes of captions for ``get_text_features``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    written = DUAL_ENCODERS[kind]
    given = tokenizer(
        captions,
        padding="max_length" if written.fixed else True,
        truncation=True,
        max_length=written.length,
        return_tensors="pt",
    )
    if written.fixed:
        given.pop("attention_mask", None)
    return dict(given)
