"""Published backbones that are worth knowing by name, and what a delta of each weighs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xclipt.backbones.identity import BUILTIN


@dataclass(frozen=True)
class Published:
    """One of them.

    Attributes:
        name: What ``backbone`` takes.
        family: Whose format its files are in.
        dim: Width of the joint space.
        tokens: Positions that a text has.
        text_parameters: Weights of the text tower with its head.
        delta_parameters: Numbers of a LoRA of rank 8 of query and value, with LayerNorms.
        languages: Which it was trained on, or how many.
        licence: Of the weights, as their publisher says.
        config: What its configuration says of the text side's sizes: a dry run needs no network.
    """

    name: str
    family: str
    dim: int
    tokens: int
    text_parameters: int
    delta_parameters: int
    languages: str
    licence: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def percent(self) -> float:
        """The delta in per cent of the text tower."""
        return 100 * self.delta_parameters / self.text_parameters


_MCLIP, _SIGLIP, _META, _OPEN = "M-CLIP", "SigLIP 2", "MetaCLIP 2", "open_clip"
_NC, _APACHE = "CC BY-NC 4.0", "Apache 2.0"

_LARGE = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def _siglip2(**sizes: int) -> Mapping[str, Any]:
    text = {"vocab_size": 256_000, "projection_size": sizes.get("hidden_size", 768), **sizes}
    return {"model_type": "siglip", "text_config": text, "vision_config": {}}


def _clip(kind: str, dim: int, **sizes: int) -> Mapping[str, Any]:
    text = {"projection_dim": dim, **sizes}
    return {"model_type": kind, "projection_dim": dim, "text_config": text, "vision_config": {}}


def _open_clip(dim: int, encoder: str, **kinds: str) -> Mapping[str, Any]:
    text = {"hf_model_name": encoder, **kinds}
    return {"model_cfg": {"embed_dim": dim, "vision_cfg": {}, "text_cfg": text}}


def _nllb(dim: int, encoder: str) -> Mapping[str, Any]:
    return _open_clip(dim, encoder, hf_pooler_type="cls_pooler", hf_proj_type="linear")


CATALOGUE = (
    Published(BUILTIN, "E5", 512, 128, 117_703_040, 165_888, "100", "MIT, Apache 2.0"),
    Published("mclip-l14", _MCLIP, 768, 512, 560_677_632, 884_736, "48 (of 100)", "MIT"),
    Published("mclip-b32", _MCLIP, 512, 512, 560_415_232, 884_736, "48 (of 100)", "MIT"),
    Published("mclip-b16plus", _MCLIP, 640, 512, 560_546_432, 884_736, "48 (of 100)", "MIT"),
    Published("mclip-labse-l14", _MCLIP, 768, 512, 471_517_440, 331_776, "48 (of 109)", "MIT"),
    Published(
        *("google/siglip2-base-patch16-224", _SIGLIP, 768, 64, 282_303_744, 331_776),
        *("109", _APACHE, _siglip2()),
    ),
    Published(
        *("google/siglip2-large-patch16-256", _SIGLIP, 1024, 64, 565_570_560, 884_736),
        *("109", _APACHE, _siglip2(hidden_size=1024, **_LARGE)),
    ),
    Published(
        *("google/siglip2-so400m-patch14-384", _SIGLIP, 1152, 64, 707_782_896, 1_119_744),
        *("109", _APACHE),
        _siglip2(
            hidden_size=1152, num_hidden_layers=27, num_attention_heads=16, intermediate_size=4304
        ),
    ),
    Published(
        *("facebook/metaclip-2-worldwide-huge-quickgelu", _META, 1024, 77, 1_226_706_944, 884_736),
        *("over 300", _NC),
        _clip("metaclip_2", 1024, vocab_size=901_629, hidden_size=1024, eos_token_id=2, **_LARGE),
    ),
    Published(
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        *(_OPEN, 512, 77, 278_272_256, 331_776, "over 100", "MIT"),
        _open_clip(512, "xlm-roberta-base"),
    ),
    Published(
        "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
        *(_OPEN, 1024, 77, 560_937_984, 884_736, "over 100", "MIT"),
        _open_clip(1024, "xlm-roberta-large"),
    ),
    Published(
        *("visheratin/nllb-siglip-mrl-base", _OPEN, 768, 77, 414_298_112, 442_368, "201", _NC),
        _nllb(768, "facebook/nllb-200-distilled-600M"),
    ),
    Published(
        *("visheratin/nllb-siglip-mrl-large", _OPEN, 1152, 77, 767_270_912, 884_736, "201", _NC),
        _nllb(1152, "facebook/nllb-200-distilled-1.3B"),
    ),
    Published(
        *("clip-vit-b32-multilingual", "sentence-transformers", 512, 128, 135_127_296, 165_888),
        *("over 50", _APACHE),
    ),
    Published(
        *("BAAI/AltCLIP", "AltCLIP", 768, 512, 560_219_904, 884_736, "en, zh", "OpenRAIL-M"),
        _clip("altclip", 768),
    ),
    Published(
        *("openai/clip-vit-base-patch32", "CLIP", 512, 77, 63_428_096, 221_184, "en", "MIT"),
        _clip("clip", 512),
    ),
    Published(
        *("openai/clip-vit-large-patch14", "CLIP", 768, 77, 123_650_304, 331_776, "en", "MIT"),
        _clip("clip", 768, hidden_size=768, intermediate_size=3072, num_attention_heads=12),
    ),
)
"""A row each; ``tests/backbones/test_catalogue.py`` counts them anew."""
