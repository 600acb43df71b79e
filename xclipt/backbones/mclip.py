"""Multilingual-CLIP: a multilingual text encoder taught to land in CLIP's space.

Carlsson et al., *Cross-lingual and Multilingual CLIP* (LREC 2022). The published format is a
``config.json`` with ``modelBase``, ``transformerDimensions`` and ``numDims``, and weights
``transformer.*`` and ``LinearTransformation.*``. What was published is the text tower alone; the
image tower is CLIP's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer, TextTower
from xclipt.backbones.clip import OPEN_CLIP, WEIGHTS, load_tokenizer, weights_file
from xclipt.backbones.hub import fetch
from xclipt.errors import XcliptError

FILES = ("config.json", "tokenizer.json", WEIGHTS)
OPTIONAL_FILES = ("tokenizer_config.json", "special_tokens_map.json")

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


@dataclass(frozen=True)
class NamedBackbone:
    """One of the published models.

    Attributes:
        text: Hub id of the text tower.
        image: Hub id of the image tower, or its name at open_clip.
        encoder: The text encoder's configuration, so that neither weights nor a network are needed
            to know its shapes.
        dim: Width of the joint space.
    """

    text: str
    image: str
    encoder: Mapping[str, Any]
    dim: int


_L14 = "openai/clip-vit-large-patch14"
_B32 = "openai/clip-vit-base-patch32"
_B16_PLUS = f"{OPEN_CLIP}ViT-B-16-plus-240/laion400m_e32"

NAMED = {
    "mclip-l14": NamedBackbone("M-CLIP/XLM-Roberta-Large-Vit-L-14", _L14, XLM_ROBERTA_LARGE, 768),
    "mclip-b32": NamedBackbone("M-CLIP/XLM-Roberta-Large-Vit-B-32", _B32, XLM_ROBERTA_LARGE, 512),
    "mclip-b16plus": NamedBackbone(
        "M-CLIP/XLM-Roberta-Large-Vit-B-16Plus", _B16_PLUS, XLM_ROBERTA_LARGE, 640
    ),
    "mclip-labse-l14": NamedBackbone("M-CLIP/LABSE-Vit-L-14", _L14, LABSE, 768),
}

IMAGE_TOWER_OF_WIDTH = {row.dim: row.image for row in NAMED.values()}
"""The image tower that a published text tower of that width was taught to match."""

# Buffers that older versions of transformers saved and newer ones compute.
_COMPUTED = ("embeddings.position_ids", "embeddings.token_type_ids")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def is_mclip(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is in the published format."""
    return "numDims" in config and "transformerDimensions" in config


def load_mclip_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """The text tower and its tokenizer from a folder in the published format.

    Of the model that it was made from (``modelBase``) no weights are read; its configuration is
    built in for the published towers, and its tokenizer serves where the folder has none.

    Raises:
        XcliptError: A file is missing or damaged, or they do not belong together.
    """
    described = read_config(folder)
    path = weights_file(folder)
    weights = read_weights(path)
    head = _head(weights, described, path)
    encoder_weights = {
        name: tensor
        for key, tensor in weights.items()
        if key.startswith("transformer.")
        and (name := key.removeprefix("transformer.")) not in _COMPUTED
    }
    config = encoder_config(described, _vocabulary(encoder_weights, path))
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
    tower = TextTower(encoder, head, max_length=length)
    return tower, CaptionTokenizer(tokenizer, "", min(length, tokenizer.model_max_length))


def empty_mclip_text(encoder: Mapping[str, Any], dim: int) -> TextTower:
    """The text tower on the meta device: its names and shapes, without weights."""
    empty = _empty_encoder(encoder, True)
    with torch.device("meta"):
        head = nn.Linear(encoder["hidden_size"], dim)
    return TextTower(empty, head, max_length=_positions(empty.config))


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model's folder.

    Raises:
        XcliptError: It is missing or is not a JSON object.
    """
    return read_json(folder / "config.json", "; copy the model's folder again")


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """A JSON object; ``remedy`` ends the message about a file that is none.

    Raises:
        XcliptError: It cannot be read, or is not one.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from None
    except ValueError:
        plain = None
    if not isinstance(plain, dict):
        raise XcliptError(f"{path}: not a JSON object{remedy}")
    return plain


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a ``pytorch_model.bin``.

    Raises:
        XcliptError: It is damaged, or holds anything but tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before PyTorch 1.6 cannot be mapped into memory
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise XcliptError(f"{path}: damaged weights ({_brief(error)}); copy it again") from None
    except Exception as error:
        # weights_only refuses whatever would run code.
        raise XcliptError(f"{path}: holds more than tensors ({_brief(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise XcliptError(f"{path}: not a mapping of names to tensors")
    return state


def encoder_config(described: Mapping[str, Any], vocabulary: int) -> Mapping[str, Any]:
    """The encoder's configuration.

    Some repositories write it into ``config.json`` itself; the published towers are built in, told
    by ``modelBase`` or by the size of their vocabulary; for all others ``modelBase`` is asked.

    Raises:
        XcliptError: It cannot be had.
    """
    if "num_hidden_layers" in described:
        kind = described.get("model_type", "")
        known = kind if kind in ("bert", "roberta", "xlm-roberta") else "xlm-roberta"
        return {**described, "model_type": known}
    base = str(described.get("modelBase", ""))
    for config in (XLM_ROBERTA_LARGE, LABSE):
        if (
            config["vocab_size"] == vocabulary
            and config["hidden_size"] == described["transformerDimensions"]
        ):
            return config
    if not _HUB_ID.fullmatch(base):
        raise XcliptError(f"config.json: modelBase {base!r} is not the name of a model")
    return read_config(fetch(base, ["config.json"]))


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
    odd = sorted(name for name in wanted | there if wanted.get(name) != there.get(name))
    if odd:
        raise XcliptError(
            f"{path}: {len(odd)} weights do not fit the encoder, first transformer.{odd[0]}: "
            f"{there.get(odd[0], 'missing')}, expected {wanted.get(odd[0], 'none')}"
        )


def _tokenizer(folder: Path, described: Mapping[str, Any], config: Any) -> Any:
    where = folder
    if not (folder / "tokenizer.json").is_file():
        base = str(described.get("modelBase", ""))
        if not _HUB_ID.fullmatch(base):
            raise XcliptError(f"{folder / 'tokenizer.json'}: not there; put it beside the weights")
        where = fetch(base, ["tokenizer.json"], OPTIONAL_FILES)
    tokenizer = load_tokenizer(where, config.vocab_size, folder / "config.json")
    if tokenizer.pad_token_id != config.pad_token_id:
        raise XcliptError(
            f"{where / 'tokenizer.json'}: pads with {tokenizer.pad_token_id}, the encoder expects "
            f"{config.pad_token_id}; this is another model's tokenizer"
        )
    return tokenizer


def _brief(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
