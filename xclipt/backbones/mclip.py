"""Multilingual-CLIP: a multilingual text encoder taught to land in CLIP's space.

Carlsson et al., *Cross-lingual and Multilingual CLIP* (LREC 2022). The published format is a
``config.json`` with ``modelBase``, ``transformerDimensions`` and ``numDims``, and weights
``transformer.*`` and ``LinearTransformation.*``. What was published is the text tower alone; the
image tower is CLIP's.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.clip import OPEN_CLIP, load_image_side
from xclipt.backbones.family import Family, ImageSide, NamedBackbone
from xclipt.backbones.model_files import (
    WEIGHTS,
    fetch,
    load_tokenizer,
    read_config,
    read_weights,
    weights_file,
)
from xclipt.backbones.text_tower import BERT_MODULES, PublishedFormat, TextTower
from xclipt.errors import XcliptError

_OPTIONAL_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_IMAGE_FOLDER = "image"

XLM_ROBERTA_LARGE: Mapping[str, Any] = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
LABSE: Mapping[str, Any] = {
    "model_type": "bert",
    "vocab_size": 501153,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


PUBLISHED = PublishedFormat(
    encoder_prefix="transformer.",
    head_prefix="LinearTransformation.",
    encoder_class="AutoModel",
    load_encoder="backbone.text_tower.encoder",
    imports="import xclipt",
    usage="""
```python
from pathlib import Path

import torch

import xclipt
from xclipt.backbones.mclip import MCLIP

tower, tokenizer = MCLIP.load_text(Path("{name}"))
with torch.inference_mode():
    features = tower.eval()(*tokenizer.pad(tokenizer(["..."]), torch.device("cpu")))
{pictures}
{cosines}
```

Run it beside this folder. It is the published text tower but for the delta, in Multilingual-CLIP's
format, and `MultilingualCLIP.from_pretrained("{name}")` of the package `multilingual_clip` loads it
where that runs (not on transformers 5). The image tower is the backbone's own, unchanged.
""",
)

# Buffers that older versions of transformers saved and newer ones compute.
_COMPUTED = ("embeddings.position_ids", "embeddings.token_type_ids")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_ENCODERS, _DISTILBERT = ("bert", "roberta", "xlm-roberta"), "distilbert"
"""Architectures of encoders, as ``model_type`` names them."""

LEGACY = {
    "M-CLIP/M-BERT-Base-69": "M-BERT",
    "M-CLIP/M-BERT-Base-ViT-B": "M-BERT",
    "M-CLIP/M-BERT-Distil-40": "DistilBERT",
    "M-CLIP/Swedish-2M": "KB-BERT",
    "M-CLIP/Swedish-500k": "KB-BERT",
}
"""Hub ids of the first models, and their encoders: the repositories hold these alone, and the heads
lay elsewhere, as pickles (``legacy_multilingual_clip.py`` in M-CLIP's own repository)."""
_LEGACY_BASES = re.compile(r"(.*/)?(distil)?bert-base-multilingual-cased", re.IGNORECASE)


def is_mclip(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is in the published format, or that of a legacy encoder."""
    in_format = "numDims" in config and "transformerDimensions" in config
    return in_format or config.get("model_type") in ("bert", _DISTILBERT)


def _described(folder: Path) -> dict[str, Any]:
    """``config.json``.

    Raises:
        XcliptError: It cannot be read, or is of a model whose head was not published with it.
    """
    described = read_config(folder)
    encoder = described.get("model_type")
    if "numDims" in described and encoder != _DISTILBERT:
        encoder = described.get("modelBase")
        if not _LEGACY_BASES.fullmatch(str(encoder)):
            return described
    raise XcliptError(f"{folder / 'config.json'}: {_why_unreadable(str(encoder))}")


def _why_unreadable(encoder: str) -> str:
    return (
        f"the encoder is {encoder}, whose head M-CLIP published apart from it, as a pickle, which "
        "can run code and is not read; choose mclip-b32 or another"
    )


def load_mclip_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """The text tower and its tokenizer from a folder in the published format.

    The weights of the model that it was made from are never read. That is ``modelBase``: a hub id,
    or a folder by its full path or as seen from ``folder``. Its configuration is built in for the
    published towers, and its tokenizer serves where the folder has none.

    Raises:
        XcliptError: A file is missing or damaged, or they do not belong together.
    """
    described = _described(folder)
    path = weights_file(folder)
    weights = read_weights(path)
    head = _head(weights, described, path)
    encoder_weights = {
        name: tensor
        for key, tensor in weights.items()
        if key.startswith("transformer.")
        and (name := key.removeprefix("transformer.")) not in _COMPUTED
    }
    config = encoder_config(folder, described, _vocabulary(encoder_weights, path))
    has_pooler = any(name.startswith("pooler.") for name in encoder_weights)
    empty = _empty_encoder(config, has_pooler)
    _require_same_shapes(empty, encoder_weights, path)
    encoder = type(empty).from_pretrained(
        None,
        config=empty.config,
        state_dict=encoder_weights,
        dtype=torch.float32,
        attn_implementation="sdpa",
        add_pooling_layer=has_pooler,
    )
    length = _positions(encoder.config)
    tokenizer = _tokenizer(folder, described, encoder.config)
    tower = TextTower(encoder, head, BERT_MODULES, PUBLISHED, max_length=length)
    return tower, CaptionTokenizer(tokenizer, "", min(length, tokenizer.model_max_length))


def load_image_tower(folder: Path) -> ImageSide:
    """The image tower in the folder ``image`` within ``folder``, else the published one.

    Raises:
        XcliptError: There is none of the text tower's width, or it cannot be loaded.
    """
    beside = folder / _IMAGE_FOLDER
    if beside.is_dir():
        return load_image_side(beside)
    dim = _described(folder)["numDims"]
    if dim not in _IMAGE_TOWER_OF_WIDTH:
        raise XcliptError(
            f"{folder}: no published image tower has {dim} dimensions; name one, "
            f"`image_tower=NAME_OR_FOLDER`, or put it into {beside}"
        )
    return load_image_side(_IMAGE_TOWER_OF_WIDTH[dim])


def outline(folder: Path) -> TextTower:
    """The text tower on the meta device, from ``config.json`` alone.

    Raises:
        XcliptError: The file cannot be read, or the encoder's configuration cannot be had.
    """
    config = _described(folder)
    known = {c["hidden_size"]: c["vocab_size"] for c in (LABSE, XLM_ROBERTA_LARGE)}
    vocabulary = known.get(config["transformerDimensions"], 0)
    return _outline(encoder_config(folder, config, vocabulary), config["numDims"])


def _outline(encoder: Mapping[str, Any], dim: int) -> TextTower:
    empty = _empty_encoder(encoder, True)
    with torch.device("meta"):
        head = nn.Linear(encoder["hidden_size"], dim)
    return TextTower(empty, head, BERT_MODULES, PUBLISHED, max_length=_positions(empty.config))


def encoder_config(
    folder: Path, described: Mapping[str, Any], vocabulary: int
) -> Mapping[str, Any]:
    """The encoder's configuration.

    Some repositories write it into ``config.json`` itself; a folder that ``modelBase`` names has
    it; the published towers are built in, told by the size of their vocabulary; for all others
    the hub is asked for ``modelBase``.

    Raises:
        XcliptError: It cannot be had.
    """
    if "num_hidden_layers" in described:
        kind = described.get("model_type", "")
        return {**described, "model_type": kind if kind in _ENCODERS else "xlm-roberta"}
    local = _local_base(folder, described)
    if local is not None:
        return _encoders_own(local)
    for config in (XLM_ROBERTA_LARGE, LABSE):
        if (
            config["vocab_size"] == vocabulary
            and config["hidden_size"] == described["transformerDimensions"]
        ):
            return config
    return _encoders_own(_base(folder, described, ["config.json"]))


def _encoders_own(folder: Path) -> Mapping[str, Any]:
    config, path = read_config(folder), folder / "config.json"
    encoder = config.get("model_type")
    if encoder == _DISTILBERT:
        raise XcliptError(f"{path}: {_why_unreadable(encoder)}")
    if encoder not in _ENCODERS:
        raise XcliptError(f"{path}: model_type {encoder!r} is none of {', '.join(_ENCODERS)}")
    return config


def _local_base(folder: Path, described: Mapping[str, Any]) -> Path | None:
    """The folder that ``modelBase`` names, absolute or as seen from ``folder``, if it is there."""
    base = str(described.get("modelBase", ""))
    return folder / base if base and (folder / base).is_dir() else None


def _base(
    folder: Path, described: Mapping[str, Any], names: list[str], optional: Sequence[str] = ()
) -> Path:
    """The folder of the model that ``modelBase`` names, its files fetched if it is on the hub.

    Raises:
        XcliptError: It is no folder and no name of a model, or the files cannot be had.
    """
    if local := _local_base(folder, described):
        return local
    base = str(described.get("modelBase", ""))
    if not _HUB_ID.fullmatch(base):
        raise XcliptError(
            f"{folder / 'config.json'}: modelBase {base!r}: no such folder, and its {names[0]} is "
            "needed; give a hub id, or a folder by its full path or as seen from this file"
        )
    return fetch(base, names, optional, field="modelBase")


def _empty_encoder(config: Mapping[str, Any], pooler: bool) -> Any:
    from transformers import AutoConfig, AutoModel

    make: Any = AutoModel.from_config

    settings = {name: value for name, value in config.items() if name != "model_type"}
    full = AutoConfig.for_model(config["model_type"], **settings)
    with torch.device("meta"):
        return make(full, add_pooling_layer=pooler)


def _positions(config: Any) -> int:
    # RoBERTa counts positions from after the padding's id.
    offset = 0 if config.model_type == "bert" else config.pad_token_id + 1
    return int(config.max_position_embeddings - offset)


def _head(weights: Mapping[str, Tensor], described: Mapping[str, Any], path: Path) -> nn.Linear:
    shape = (described["numDims"], described["transformerDimensions"])
    try:
        weight, bias = (weights[f"LinearTransformation.{name}"] for name in ("weight", "bias"))
    except KeyError as error:
        raise XcliptError(f"{path}: has no {error.args[0]}; not in M-CLIP's format") from None
    if tuple(weight.shape) != shape:
        raise XcliptError(
            f"{path}: LinearTransformation is {tuple(weight.shape)}, config.json says {shape}"
        )
    head = nn.Linear(shape[1], shape[0])
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return head


def _vocabulary(weights: Mapping[str, Tensor], path: Path) -> int:
    name = "embeddings.word_embeddings.weight"
    if name not in weights:
        raise XcliptError(f"{path}: has no transformer.{name}; not in M-CLIP's format")
    return len(weights[name])


def _require_same_shapes(empty: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    there = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    mismatched = sorted(name for name in wanted | there if wanted.get(name) != there.get(name))
    if mismatched:
        first = mismatched[0]
        raise XcliptError(
            f"{path}: {len(mismatched)} weights do not fit the encoder, first transformer.{first}: "
            f"{there.get(first, 'missing')}, expected {wanted.get(first, 'none')}"
        )


def _tokenizer(folder: Path, described: Mapping[str, Any], config: Any) -> Any:
    where = folder
    if not (folder / "tokenizer.json").is_file():
        where = _base(folder, described, ["tokenizer.json"], _OPTIONAL_FILES)
    tokenizer = load_tokenizer(where, config.vocab_size, folder / "config.json")
    if tokenizer.pad_token_id != config.pad_token_id:
        raise XcliptError(
            f"{where / 'tokenizer.json'}: pads with {tokenizer.pad_token_id}, the encoder expects "
            f"{config.pad_token_id}; this is another model's tokenizer"
        )
    return tokenizer


_L14 = "openai/clip-vit-large-patch14"
_B32 = "openai/clip-vit-base-patch32"
_B16_PLUS = f"{OPEN_CLIP}ViT-B-16-plus-240/laion400m_e32"
_IMAGE_TOWER_OF_WIDTH = {768: _L14, 512: _B32, 640: _B16_PLUS}
"""The image tower that a published text tower of that width was taught to match."""


def _named(text: str, image: str, encoder: Mapping[str, Any], dim: int) -> NamedBackbone:
    return NamedBackbone(f"M-CLIP/{text}", image, partial(_outline, encoder, dim))


MCLIP = Family(
    name="M-CLIP",
    marks="numDims, transformerDimensions",
    recognises=is_mclip,
    files=("config.json", "tokenizer.json", WEIGHTS),
    optional_files=_OPTIONAL_FILES,
    load_text=load_mclip_text,
    load_images=load_image_tower,
    load_with=lambda folder, source: load_image_side(source),
    outline=outline,
    named={
        "mclip-l14": _named("XLM-Roberta-Large-Vit-L-14", _L14, XLM_ROBERTA_LARGE, 768),
        "mclip-b32": _named("XLM-Roberta-Large-Vit-B-32", _B32, XLM_ROBERTA_LARGE, 512),
        "mclip-b16plus": _named(
            "XLM-Roberta-Large-Vit-B-16Plus", _B16_PLUS, XLM_ROBERTA_LARGE, 640
        ),
        "mclip-labse-l14": _named("LABSE-Vit-L-14", _L14, LABSE, 768),
    },
    unreadable={name: _why_unreadable(encoder) for name, encoder in LEGACY.items()},
)
