"""Encoders of transformers as open_clip's text towers: XLM-R, BERT and NLLB.

The configuration names them by hub id alone, and open_clip asks the hub for the rest. Here sizes
are those of the tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from xclipt.backbones.model_files import first_line
from xclipt.backbones.open_clip.description import (
    CHECKED,
    CONFIG,
    PLACE,
    USAGE,
    WEIGHTS,
    Description,
)
from xclipt.backbones.text_tower import (
    BERT_MODULES,
    ModuleNames,
    Pooling,
    PublishedFormat,
    Similarity,
    TextTower,
)
from xclipt.errors import XcliptError

Shapes = Mapping[str, tuple[int, ...]]
"""Of the encoder's tensors, by their names within it."""

ENCODER, HEAD = "text.transformer.", "text.proj."
"""What the names of the weights start with in a checkpoint."""

M2M_MODULES = ModuleNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.out_proj",
    ffn_input="fc1",
    ffn_output="fc2",
    # They come before the blocks; both of a layer are trained.
    layer_norms=("self_attn_layer_norm", "final_layer_norm"),
)
"""M2M-100 and NLLB-200."""

NLLB = "m2m_100"
"""The ``model_type`` of the encoders that are told a text's language by its first token."""

_COMPUTED = ("embeddings.position_ids", "embeddings.token_type_ids", "embed_positions.weights")
"""Buffers that older versions of transformers saved and newer ones compute."""

_HEAD_WIDTH = 64
"""Of the attention of every encoder that was published; no tensor tells it."""

_SPECIAL = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "xlm-roberta": {"layer_norm_eps": 1e-5, **_SPECIAL},
    "bert": {"layer_norm_eps": 1e-12, "pad_token_id": 0},
    NLLB: {
        **_SPECIAL,
        "activation_function": "relu",
        "scale_embedding": True,
        "max_position_embeddings": 1024,
    },
}
"""What no tensor tells of a kind of encoder, by its ``model_type``."""

_NLLB_USAGE = """
The text tower is told the language of its texts: set `tokenizer.tokenizer.src_lang = "fra_Latn"`
first, with FLORES-200's code. open_clip's own `set_language` has no effect (3.3 on transformers 5).
"""
_NLLB_NOTE = " The first token of a text is its language's, such as `fra_Latn`."


def _bert_sizes(
    vocabulary: int, width: int, layers: int, ffn: int, positions: int, types: int
) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "intermediate_size": ffn,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
    }


def _nllb_sizes(vocabulary: int, width: int, layers: int, ffn: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": max(1, width // _HEAD_WIDTH),
        "encoder_ffn_dim": ffn,
    }


_PUBLISHED: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "xlm-roberta-base": ("xlm-roberta", _bert_sizes(250002, 768, 12, 3072, 514, 1)),
    "xlm-roberta-large": ("xlm-roberta", _bert_sizes(250002, 1024, 24, 4096, 514, 1)),
    "nllb-200-distilled-600M": (NLLB, _nllb_sizes(256206, 1024, 12, 4096)),
    "nllb-200-distilled-1.3B": (NLLB, _nllb_sizes(256206, 1024, 24, 8192)),
}
"""The encoders of open_clip's published multilingual models, by their names without the owner's."""


def encoder_config(described: Description, shapes: Shapes | None) -> Any:
    """The configuration of the encoder.

    Args:
        described: A folder in the place of the hub id has the configuration itself.
        shapes: Of the tensors; without them the published encoders alone are known.

    Raises:
        XcliptError: The encoder is of no kind that is known, or its sizes cannot be told.
    """
    from transformers import AutoConfig

    local = described.folder / str(described.encoder)
    if (local / "config.json").is_file():
        try:
            config: Any = AutoConfig.from_pretrained(local, local_files_only=True)
        except Exception as error:
            raise XcliptError(f"{local / 'config.json'}: {first_line(error)}") from None
        if config.model_type not in _SETTINGS:
            raise _unknown(described)
        return config
    if shapes:
        kind, sizes = _sizes(described, shapes)
    else:
        name = str(described.encoder).rpartition("/")[2]
        if name not in _PUBLISHED:
            raise described.refused(
                f"names the text tower {described.encoder} alone, whose sizes are those of its "
                f"weights; put {' or '.join(WEIGHTS)} beside it"
            )
        kind, sizes = _PUBLISHED[name]
    return AutoConfig.for_model(kind, **_SETTINGS[kind], **sizes)


def _sizes(described: Description, shapes: Shapes) -> tuple[str, Mapping[str, int]]:
    words = shapes.get("embeddings.word_embeddings.weight")
    ffn = shapes.get("encoder.layer.0.intermediate.dense.weight")
    if words and ffn:
        types = shapes["embeddings.token_type_embeddings.weight"][0]
        positions = shapes["embeddings.position_embeddings.weight"][0]
        layers = _layers(shapes, "encoder.layer.")
        sizes = _bert_sizes(words[0], words[1], layers, ffn[0], positions, types)
        return "xlm-roberta" if types == 1 else "bert", sizes
    words, ffn = shapes.get("embed_tokens.weight"), shapes.get("layers.0.fc1.weight")
    if words and ffn:
        return NLLB, _nllb_sizes(words[0], words[1], _layers(shapes, "layers."), ffn[0])
    raise _unknown(described)


def _layers(shapes: Shapes, prefix: str) -> int:
    return len({n.removeprefix(prefix).split(".")[0] for n in shapes if n.startswith(prefix)})


def _unknown(described: Description) -> XcliptError:
    return described.refused(
        f"the text tower {described.encoder} is of no kind that is known: XLM-R, BERT and NLLB "
        "are, and open_clip's own transformer"
    )


def load_encoder(described: Description) -> TextTower:
    """The text tower with its weights.

    Raises:
        XcliptError: Weights are missing or do not fit, or the encoder is of no kind that is known.
    """
    weights = described.weights(ENCODER)
    weights = {name: tensor for name, tensor in weights.items() if name not in _COMPUTED}
    config = encoder_config(described, {n: tuple(t.shape) for n, t in weights.items()})
    kind, arguments = _kind(config, "pooler.dense.weight" in weights)
    with torch.device("meta"):
        wanted = kind(config, **arguments).state_dict()
    described.require_shapes(ENCODER, wanted, weights)
    encoder = kind.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=torch.float32,
        attn_implementation="sdpa",
        **arguments,
    )
    similarity = described.similarity(described.weights("logit_"))
    tower = _tower(described, encoder, "pooler.dense.weight" in weights, similarity)
    described.fill(tower.head, HEAD, described.weights(HEAD))
    return tower


def outline_encoder(described: Description, shapes: Shapes | None) -> TextTower:
    """The text tower on the meta device."""
    config = encoder_config(described, shapes)
    pooled = "mean" not in described.text.get("hf_pooler_type", "mean_pooler")
    kind, arguments = _kind(config, pooled)
    with torch.device("meta"):
        return _tower(described, kind(config, **arguments), pooled, Similarity())


def _kind(config: Any, pooler: bool) -> tuple[Any, dict[str, bool]]:
    """The encoder's class, and what it is made with."""
    from transformers import BertModel, XLMRobertaModel
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

    if config.model_type == NLLB:
        return M2M100Encoder, {}
    kind = BertModel if config.model_type == "bert" else XLMRobertaModel
    return kind, {"add_pooling_layer": pooler}


def _tower(described: Description, encoder: Any, pooler: bool, similarity: Similarity) -> TextTower:
    config, told = encoder.config, encoder.config.model_type == NLLB
    asked = described.text.get("hf_pooler_type", "mean_pooler")
    known = ("cls_pooler", "cls_last_hidden_state_pooler") if told else ("mean_pooler",)
    if asked not in (*known, *(("cls_pooler",) if pooler else ())):
        raise described.refused(
            f"hf_pooler_type {asked!r} of {described.encoder} is not known; {known[0]} is"
        )
    # RoBERTa counts positions from after the padding's id.
    offset = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0
    return TextTower(
        encoder,
        _head(described, config.hidden_size),
        M2M_MODULES if told else BERT_MODULES,
        PublishedFormat(
            encoder_prefix=ENCODER,
            head_prefix=HEAD,
            encoder_class="AutoModel",
            load_encoder='open_clip.create_model("local-dir:" + str(TEXT_TOWER)).text.transformer',
            usage=USAGE + (_NLLB_USAGE if told else ""),
            imports="import open_clip",
            place=PLACE,
            input_notes=described.input_notes + (_NLLB_NOTE if told else ""),
            checked=CHECKED,
            weights=WEIGHTS,
            config=CONFIG,
        ),
        pooling=Pooling.FIRST if told else Pooling.OWN if asked == "cls_pooler" else Pooling.MEAN,
        max_length=config.max_position_embeddings - offset,
        similarity=similarity,
    )


def _head(described: Description, width: int) -> nn.Module:
    """What follows the pooling."""
    dim, kind = described.dim, described.text.get("hf_proj_type", "mlp")
    if kind == "linear":
        return nn.Linear(width, dim, bias=False)
    if kind == "mlp":
        hidden = (width + dim) // 2
        layers = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        return nn.Sequential(layers[0], nn.GELU(), layers[1])
    if not kind and width == dim:
        return nn.Identity()
    raise described.refused(f"hf_proj_type {kind!r} is not known; linear and mlp are")
