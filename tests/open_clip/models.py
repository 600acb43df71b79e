"""Small random models of open_clip, in the layout that it publishes its own in."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf
from transformers import AutoConfig, BertTokenizer, NllbTokenizer, T5Tokenizer, XLMRobertaTokenizer

TEXTS = (
    "un chat noir",
    "A  CAT &amp; a dog — “two” of them!",
    "chien",
    "",
    "eine Katze, zwei Hunde und sehr viele andere Tiere laufen über eine grüne Wiese im Schnee",
    "犬が走っている",
    "two dogs run over the grass " * 12,
    "кошка спит\tна\nдиване",
)
"""Of mixed lengths and scripts; one is longer than any tower."""

_CORPUS = [*TEXTS, *(" ".join(text.split()).lower() for text in TEXTS)]
_VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_PIXELS = {"mean": (0.5, 0.4, 0.3), "std": (0.3, 0.4, 0.5)}


def trained(kind: Any, **settings: Any) -> Any:
    """A tokenizer of a class of transformers, of some hundred pieces."""
    return kind(**settings).train_new_from_iterator(_CORPUS, 300, show_progress=False)


def nllb_tokenizer() -> Any:
    return trained(NllbTokenizer)


def xlm_roberta_tokenizer() -> Any:
    return trained(XLMRobertaTokenizer)


def _encoder(vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        **{"vocab_size": vocabulary, "hidden_size": 128, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "intermediate_size": 96, "max_position_embeddings": 90},
        **{"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1},
    }


def _nllb(vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "m2m_100",
        **{"vocab_size": vocabulary, "d_model": 128, "encoder_layers": 2, "decoder_layers": 1},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 96},
        **{"decoder_ffn_dim": 8, "max_position_embeddings": 1024, "scale_embedding": True},
        **{"activation_function": "relu", "pad_token_id": 1},
    }


def save_as_published(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Any,
    encoder: Mapping[str, Any] | None = None,
    *,
    safe: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The model, after it was saved: by open_clip, but for the name of its encoder."""
    config = {"embed_dim": 48, "vision_cfg": _VISION, **config}
    if encoder:
        AutoConfig.for_model(**encoder).save_pretrained(_encoder_of(folder))
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / "small.json"
        path.write_text(json.dumps(_with_encoder(config, _encoder_of(folder))))
        open_clip.add_model_config(path)
        torch.manual_seed(0)
        model = open_clip.create_model("small", pretrained_text=False)
    with torch.no_grad():  # as they are made, towers take all texts for much the same
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.startswith("visual"):
                parameter.mul_(1.5)
            elif parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    open_clip.set_model_preprocess_cfg(model, {"size": model.visual.image_size, **_PIXELS})
    save_for_hf(model.to(dtype), tokenizer, dict(config), folder, safe_serialization=safe)
    return model.eval()


def _encoder_of(folder: Path) -> Path:
    """Where the configuration of a folder's encoder is, for open_clip, which asks the hub."""
    return folder.with_name(f"{folder.name}-encoder")


def _with_encoder(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    text = config["text_cfg"]
    named = {**text, "hf_model_name": str(where)} if "hf_model_name" in text else text
    return {**config, "text_cfg": named}


def opened(folder: Path, written: Path) -> tuple[Any, Any]:
    """Model and preprocessing as open_clip loads them from a folder.

    Args:
        folder: In open_clip's format.
        written: The folder of a writer, whose encoder it has.
    """
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside) / "model"
        shutil.copytree(folder, copy)
        config = json.loads((copy / "open_clip_config.json").read_text())
        config["model_cfg"] = _with_encoder(config["model_cfg"], _encoder_of(written))
        (copy / "open_clip_config.json").write_text(json.dumps(config))
        model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{copy}")
    return model.eval(), preprocess


def write_xlm_roberta(folder: Path, **settings: Any) -> Any:
    """As ``xlm-roberta-base-ViT-B-32``: masked mean and an MLP."""
    tokenizer = xlm_roberta_tokenizer()
    name = "someone/no-such-encoder"
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_pooler_type": "mean_pooler"}
    return save_as_published(
        folder, {"text_cfg": text}, tokenizer, _encoder(len(tokenizer)), **settings
    )


def write_nllb(folder: Path, **settings: Any) -> Any:
    """As ``nllb-clip-base``: the state of the language's token, and a linear layer."""
    tokenizer = nllb_tokenizer()
    name = "someone/no-such-nllb"
    text = {
        **{"hf_model_name": name, "hf_tokenizer_name": name},
        **{"hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"},
    }
    return save_as_published(
        folder, {"text_cfg": text}, tokenizer, _nllb(len(tokenizer)), **settings
    )


def write_clip(folder: Path, **settings: Any) -> Any:
    """As ``ViT-B-32-quickgelu``: open_clip's own transformer and CLIP's vocabulary."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
    # open_clip saves another tokenizer with it, which it does not read.
    return save_as_published(
        folder, {"quick_gelu": True, "text_cfg": text}, xlm_roberta_tokenizer(), **settings
    )


def write_siglip(folder: Path, **settings: Any) -> Any:
    """As ``ViT-B-16-SigLIP2``: no mask, padding to the full length, the last position."""
    tokenizer = trained(T5Tokenizer, extra_ids=0)
    text = {
        **{"context_length": 24, "vocab_size": len(tokenizer), "width": 64, "heads": 4},
        **{"hf_tokenizer_name": "someone/no-such-tokenizer", "mlp_ratio": 3.7362},
        **{"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True},
        **{"proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
        **{"act_kwargs": {"approximate": "tanh"}, "layers": 2},
    }
    vision = {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}
    config = {"custom_text": True, "init_logit_bias": -10, "text_cfg": text}
    return save_as_published(
        folder, {**config, "vision_cfg": {**vision, "image_size": 160}}, tokenizer, **settings
    )


def write_worldwide(folder: Path, **settings: Any) -> Any:
    """As ``ViT-H-14-worldwide``, MetaCLIP 2: the first end-of-text token."""
    tokenizer = xlm_roberta_tokenizer()
    text = {
        **{"hf_tokenizer_name": "someone/no-such-tokenizer", "pool_type": "eos"},
        **{"eos_id": tokenizer.eos_token_id, "vocab_size": len(tokenizer)},
        **{"context_length": 77, "width": 64, "heads": 4, "layers": 2},
    }
    return save_as_published(folder, {"text_cfg": text}, tokenizer, **settings)


def write_clipa(folder: Path, **settings: Any) -> Any:
    """As ``ViT-L-14-CLIPA``: BERT's tokenizer without its last token."""
    tokenizer = trained(BertTokenizer)
    text = {
        **{"hf_tokenizer_name": "someone/no-such-tokenizer", "pool_type": "last"},
        **{"tokenizer_kwargs": {"strip_sep_token": True}, "no_causal_mask": True},
        **{"vocab_size": len(tokenizer) + 9, "context_length": 16, "width": 64},
        **{"heads": 4, "layers": 2},
    }
    return save_as_published(folder, {"text_cfg": text}, tokenizer, **settings)


def write_mobileclip(folder: Path, **settings: Any) -> Any:
    """As ``MobileCLIP-S2``: CLIP's vocabulary, and every position sees all, padding too."""
    text = {"context_length": 30, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
    text |= {"no_causal_mask": True}
    return save_as_published(
        folder, {"custom_text": True, "text_cfg": text}, xlm_roberta_tokenizer(), **settings
    )


WRITERS = {
    "xlm-roberta": write_xlm_roberta,
    "nllb": write_nllb,
    "clip": write_clip,
    "siglip": write_siglip,
    "worldwide": write_worldwide,
    "clipa": write_clipa,
    "mobileclip": write_mobileclip,
}


def theirs(model: Any, folder: Path, texts: Sequence[str], language: str | None = None) -> Any:
    """Features of texts as open_clip documents it: its tokenizer, its model."""
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    if language:
        # By open_clip's own set_language nothing happens: transformers takes it back at every call.
        tokenizer.tokenizer.src_lang = language
    with torch.inference_mode():
        return model.encode_text(tokenizer(list(texts)))
