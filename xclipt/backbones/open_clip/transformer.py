"""open_clip's own text transformer, with its fused attention taken apart.

Its blocks hold query, key and value as one matrix, ``in_proj``, in a module of torch that gives no
other a place within it. Here they are three linear layers, as everywhere else, so that every delta
finds what it is put into. The sums are the same; names and shapes are but for that the published
ones (:func:`split`, :func:`fuse`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xclipt.backbones.text_tower import ModuleNames

POOLS = ("first", "last", "argmax", "eos")
"""Which position is a text's: its first, its last, that of the highest id, of the first ``eos``."""

MODULES = ModuleNames(
    query="attn.q_proj",
    key="attn.k_proj",
    value="attn.v_proj",
    attention_output="attn.out_proj",
    ffn_input="mlp.c_fc",
    ffn_output="mlp.c_proj",
    # They come before the blocks; both of a layer are trained.
    layer_norms=("ln_1", "ln_2"),
)

_FUSED, _PARTS = "attn.in_proj_", ("attn.q_proj.", "attn.k_proj.", "attn.v_proj.")
_BLOCKS = "transformer.resblocks."
PROJECTION = "text_projection"


@dataclass(frozen=True)
class Sizes:
    """What a text transformer is made of.

    Attributes:
        context_length: Positions.
        vocab_size: Rows of the word embeddings.
        width: Of the states.
        heads: Of the attention.
        layers: Blocks.
        ffn_width: Of the hidden layer of a block's MLP.
        causal: Every position sees those before it alone.
        pool: One of :data:`POOLS`.
        eos: Id of the end-of-text token, for ``pool="eos"``.
        quick_gelu: ``x * sigmoid(1.702 x)`` in the MLP, else GELU.
        approximation: Of GELU, by torch's name.
        epsilon: Of the LayerNorms.
    """

    context_length: int
    vocab_size: int
    width: int
    heads: int
    layers: int
    ffn_width: int
    causal: bool = True
    pool: str = "argmax"
    eos: int = 2
    quick_gelu: bool = False
    approximation: str = "none"
    epsilon: float = 1e-5

    @property
    def fixed_length(self) -> bool:
        """Whether every position counts, so that texts are padded to ``context_length``."""
        return not self.causal or self.pool == "last"


class TextTransformer(nn.Module):
    """Token ids -> the state of one position, after the last LayerNorm.

    Nothing is hidden from the attention for being padding: in a tower of fixed length it counts,
    and in others what comes after a text's end has no effect.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.token_embedding = nn.Embedding(sizes.vocab_size, sizes.width)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, sizes.width))
        self.transformer = _Blocks(sizes)
        self.ln_final = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings, by the name that transformers gives this."""
        return self.token_embedding

    def forward(self, input_ids: Tensor) -> "Pooled":
        """Ids ``(batch, length)``."""
        states = self.token_embedding(input_ids)
        states = states + self.positional_embedding[: states.shape[1]]
        states = self.transformer(states)
        return Pooled(self.ln_final(self._pooled(states, input_ids)))

    def _pooled(self, states: Tensor, ids: Tensor) -> Tensor:
        if self.sizes.pool == "first":
            return states[:, 0]
        if self.sizes.pool == "last":
            return states[:, -1]
        found = ids if self.sizes.pool == "argmax" else (ids == self.sizes.eos).int()
        at = found.argmax(-1)[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, at).squeeze(1)


@dataclass(frozen=True)
class Pooled:
    """What :class:`TextTransformer` returns: ``pooler_output`` is ``(batch, width)``."""

    pooler_output: Tensor


class _Blocks(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.layers))

    def forward(self, states: Tensor) -> Tensor:
        for block in self.resblocks:
            states = block(states)
        return states


class _Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.attn = _Attention(sizes)
        self.ln_2 = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.mlp = _Mlp(sizes)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.attn(self.ln_1(states))
        changed: Tensor = states + self.mlp(self.ln_2(states))
        return changed


class _Mlp(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.c_fc = nn.Linear(sizes.width, sizes.ffn_width)
        self.gelu = _QuickGelu() if sizes.quick_gelu else nn.GELU(sizes.approximation)
        self.c_proj = nn.Linear(sizes.ffn_width, sizes.width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.gelu(self.c_fc(states)))
        return out


class _Attention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.causal = sizes.heads, sizes.causal
        self.attention_dropout = 0.0  # training with dropout finds it by this name
        self.q_proj = nn.Linear(sizes.width, sizes.width)
        self.k_proj = nn.Linear(sizes.width, sizes.width)
        self.v_proj = nn.Linear(sizes.width, sizes.width)
        self.out_proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (
            projection(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = F.scaled_dot_product_attention(
            *(query, key, value),
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=self.causal,
        )
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class _QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def split(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights; the text transformer's by the names of :class:`TextTransformer`.

    The projection into the joint space, where it is a bare matrix ``(width, dim)``, becomes the
    weight ``(dim, width)`` of a linear layer.

    Args:
        prefix: What the names of the text transformer's weights start with.
        weights: Of the whole checkpoint.
    """
    taken = {}
    for name, tensor in weights.items():
        if name == prefix + PROJECTION:
            taken[f"{name}.weight"] = tensor.T.contiguous()
        elif name.startswith(prefix + _BLOCKS) and _FUSED in name:
            for part, third in zip(_PARTS, tensor.chunk(3), strict=True):
                taken[name.replace(_FUSED, part)] = third
        else:
            taken[name] = tensor
    return taken


def fuse(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of :func:`split`."""
    whole = {}
    bare = f"{prefix}{PROJECTION}.bias" not in weights  # open_clip's linear layer always has one
    query, *others = _PARTS
    for name, tensor in weights.items():
        if name == f"{prefix}{PROJECTION}.weight" and bare:
            whole[prefix + PROJECTION] = tensor.T.contiguous()
        elif name.startswith(prefix + _BLOCKS) and query in name:
            parts = [weights[name.replace(query, part)] for part in _PARTS]
            whole[name.replace(query, _FUSED)] = torch.cat(parts)
        elif not (name.startswith(prefix + _BLOCKS) and any(part in name for part in others)):
            whole[name] = tensor
    return whole
