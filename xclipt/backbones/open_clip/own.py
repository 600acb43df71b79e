"""Text towers of open_clip's own transformer."""

from collections.abc import Collection
from functools import partial

import torch
from torch import nn

from xclipt.backbones.open_clip.description import (
    CHECKED,
    CONFIG,
    PLACE,
    USAGE,
    WEIGHTS,
    Description,
)
from xclipt.backbones.open_clip.transformer import (
    MODULES,
    POOLS,
    PROJECTION,
    Sizes,
    TextTransformer,
    fuse,
    split,
)
from xclipt.backbones.text_tower import Pooling, PublishedFormat, Similarity, TextTower

_NOTE = """

The encoder is xclipt's: open_clip's own holds query, key and value as one matrix, in which other
libraries find no place for them."""

_NESTED = "text."
"""What the weights' names start with where ``custom_text`` is set; else nothing."""

_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", PROJECTION)
_WITHOUT_EFFECT = frozenset(
    {
        *("embed_cls", "final_ln_after_pool", "output_tokens", "pad_id", "hf_tokenizer_name"),
        *("tokenizer_kwargs", "tokenizer_mode", "hf_model_pretrained"),
    }
)
_READ = frozenset(
    {
        *("act_kwargs", "context_length", "eos_id", "heads", "layers", "mlp_ratio"),
        *("no_causal_mask", "norm_kwargs", "pool_type", "proj_bias", "proj_type", "vocab_size"),
        "width",
    }
)


def load_own(described: Description, begins: int) -> TextTower:
    """The text tower with its weights.

    Args:
        described: The folder.
        begins: Tokens that the tokenizer puts before a text.

    Raises:
        XcliptError: Weights are missing or do not fit, or the configuration has what is not known.
    """
    every = described.weights()
    prefix = _NESTED if _NESTED + "positional_embedding" in every else ""
    named = {name.removeprefix(prefix): t for name, t in every.items() if name.startswith(prefix)}
    weights = split("", {name: t for name, t in named.items() if name.startswith(_PARTS)})
    with torch.device("meta"):
        tower = _tower(described, begins, prefix, described.similarity(every))
    projection = f"{PROJECTION}."
    head = {n.removeprefix(projection): t for n, t in weights.items() if n.startswith(projection)}
    encoder = {n: t for n, t in weights.items() if not n.startswith(projection)}
    described.fill(tower.encoder, prefix, encoder)
    described.fill(tower.head, prefix + projection, head)
    return tower


def outline_own(described: Description) -> TextTower:
    """The text tower on the meta device, from the configuration alone."""
    with torch.device("meta"):
        prefix = _NESTED if described.model.get("custom_text") else ""
        return _tower(described, 1, prefix, Similarity())


def _tower(described: Description, begins: int, prefix: str, similarity: Similarity) -> TextTower:
    sizes = sizes_of(described)
    head: nn.Module = nn.Identity()
    if described.text.get("proj_type", "linear") != "none":
        bias = bool(described.text.get("proj_bias"))
        head = nn.Linear(sizes.width, described.dim, bias=bias)
    return TextTower(
        TextTransformer(sizes),
        head,
        MODULES,
        PublishedFormat(
            encoder_prefix=prefix,
            head_prefix=f"{prefix}{PROJECTION}.",
            encoder_class="AutoModel",
            load_encoder="backbone.text_tower.encoder",
            usage=USAGE,
            imports="import xclipt",
            place=PLACE,
            input_notes=described.input_notes + _NOTE,
            checked=CHECKED,
            weights=WEIGHTS,
            config=CONFIG,
            split=partial(split, prefix),
            fuse=partial(fuse, prefix),
        ),
        pooling=Pooling.OWN,
        max_length=sizes.context_length,
        masked=False,
        begins=begins,
        similarity=similarity,
    )


def sizes_of(described: Description) -> Sizes:
    """What the transformer is made of.

    Raises:
        XcliptError: The configuration has what is not known.
    """
    text = described.text
    for name, value in text.items():
        if value and name not in _READ | _WITHOUT_EFFECT:
            raise described.refused(f"text_cfg has {name}: {value!r}, which is not known here")
    bend, norm = text.get("act_kwargs") or {}, text.get("norm_kwargs") or {}
    _require_known(described, "act_kwargs", bend, ("approximate",))
    _require_known(described, "norm_kwargs", norm, ("eps",))
    pool = text.get("pool_type", "argmax")
    if pool not in POOLS:
        raise described.refused(f"pool_type {pool!r} is not known; {', '.join(POOLS)} are")
    width = int(text.get("width", 512))
    return Sizes(
        context_length=described.context_length,
        vocab_size=int(text.get("vocab_size", 49408)),
        width=width,
        heads=int(text.get("heads", 8)),
        layers=int(text.get("layers", 12)),
        ffn_width=int(width * text.get("mlp_ratio", 4.0)),
        causal=not text.get("no_causal_mask"),
        pool=pool,
        eos=int(text.get("eos_id", 2)),
        quick_gelu=bool(described.model.get("quick_gelu")),
        approximation=bend.get("approximate", "none"),
        epsilon=float(norm.get("eps", 1e-5)),
    )


def _require_known(
    described: Description, entry: str, given: Collection[str], known: Collection[str]
) -> None:
    for name in given:
        if name not in known:
            raise described.refused(f"{entry} has {name}, which is not known here")
