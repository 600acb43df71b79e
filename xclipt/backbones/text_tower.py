"""Text towers: an encoder, its pooling and a head, and what deltas and exports know of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModuleNames:
    """Where deltas go: ends of module names within an encoder, as ``named_modules`` gives them."""

    query: str
    key: str
    value: str
    attention_output: str
    ffn_input: str
    ffn_output: str
    layer_norms: tuple[str, ...]


BERT_MODULES = ModuleNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    ffn_input="intermediate.dense",
    ffn_output="output.dense",
    # The embeddings' own LayerNorm is not an output.LayerNorm.
    layer_norms=("output.LayerNorm",),
)
"""BERT, RoBERTa and XLM-R."""


@dataclass(frozen=True)
class PublishedFormat:
    """The checkpoint that a text tower comes from, and how it is used without xclipt.

    Attributes:
        encoder_prefix: What the names of the encoder's weights start with in it.
        head_prefix: The same of the head's; ``None`` where the head is stored elsewhere.
        encoder_class: The class of transformers that holds the encoder alone.
        load_encoder: The call that loads it from the folder ``TEXT_TOWER``.
        usage: How a whole checkpoint in the folder ``{name}`` is used, as Markdown.
        weights: The name of the file with the weights.
        config: The name of the file that describes the model.
        split: The checkpoint's weights by the names and in the shapes of the tower's own; for
            checkpoints that hold several of them as one, or a matrix the other way round.
        fuse: The reverse.
    """

    encoder_prefix: str
    head_prefix: str | None
    encoder_class: str
    load_encoder: str
    usage: str
    weights: str = "model.safetensors"
    config: str = "config.json"
    split: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    fuse: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict


@dataclass(frozen=True)
class PromptPlacement:
    """Where a soft prompt's positions are in the sequence: ``tokens`` of them, after the first.

    ``pooled`` tells whether the masked mean counts them.
    """

    tokens: int
    pooled: bool


class TextTower(nn.Module):
    """An encoder, pooling over its last hidden states, and a head.

    ``head(sum_i m_i h_i / sum_i m_i)``, the form of Multilingual-CLIP (Carlsson et al. 2022).

    Args:
        encoder: A transformers text model.
        head: Pooled states ``(batch, width)`` -> features ``(batch, dim)``.
        modules: What the encoder's modules are called.
        published: The format of the checkpoint that the tower comes from.
        pools_itself: Take the encoder's own ``pooler_output`` (CLIP's state at the end of the text)
            instead of the masked mean.
        max_length: Positions that the encoder has, special tokens included.

    Attributes:
        prompt: Set in a copy of the tower that holds a soft prompt. Ids and mask then grow by its
            positions; the delta's module puts the vectors there.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        modules: ModuleNames,
        published: PublishedFormat,
        *,
        pools_itself: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.module_names = modules
        self.published = published
        self.pools_itself = pools_itself
        self.max_length = max_length
        self.prompt: PromptPlacement | None = None

    @property
    def takes_embeddings(self) -> bool:
        """Whether vectors can be given to the encoder in the place of token ids."""
        return "inputs_embeds" in inspect.signature(self.encoder.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both ``(batch, length)`` -> features ``(batch, dim)``, not normalised."""
        pooling = attention_mask
        if self.prompt:
            tokens = self.prompt.tokens
            if self.max_length and input_ids.shape[1] + tokens > self.max_length:
                input_ids, attention_mask = _shortened(
                    input_ids, attention_mask, self.max_length - tokens
                )
            input_ids = _after_first(input_ids, input_ids[:, :1].expand(-1, tokens))
            ones = torch.ones_like(attention_mask[:, :1]).expand(-1, tokens)
            pooling = _after_first(attention_mask, ones if self.prompt.pooled else 0 * ones)
            attention_mask = _after_first(attention_mask, ones)
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pools_itself:
            pooled = output.pooler_output
        else:
            hidden = output.last_hidden_state
            mask = pooling.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        features: Tensor = self.head(pooled)
        return features


def _after_first(row: Tensor, inserted: Tensor) -> Tensor:
    return torch.cat([row[:, :1], inserted, row[:, 1:]], dim=1)


def _shortened(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    # The end-of-text token of a text that is cut moves to the last position that is left.
    lengths = mask.sum(1)
    last = ids.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
    cut = ids[:, :length].clone()
    cut[:, -1] = torch.where(lengths > length, last, cut[:, -1])
    return cut, mask[:, :length]
