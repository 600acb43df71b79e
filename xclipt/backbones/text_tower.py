"""Text towers: an encoder, its pooling and a head, and what deltas and exports know of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.model_files import WEIGHTS


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
"""BERT, RoBERTa and XLM-R, and the text towers of AltCLIP and Chinese CLIP."""

CLIP_MODULES = ModuleNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.out_proj",
    ffn_input="mlp.fc1",
    ffn_output="mlp.fc2",
    # They come before the blocks; both of a layer are trained.
    layer_norms=("layer_norm1", "layer_norm2"),
)
"""CLIP, MetaCLIP 2 and SigLIP."""

DISTILBERT_MODULES = ModuleNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    ffn_input="ffn.lin1",
    ffn_output="ffn.lin2",
    layer_norms=("sa_layer_norm", "output_layer_norm"),
)
"""DistilBERT."""


def names_of_modules(encoder: nn.Module) -> ModuleNames | None:
    """What an encoder's modules are called; ``None`` where it is in a way that is not known."""
    names = [f".{name}" for name, _ in encoder.named_modules()]

    def there(end: str) -> bool:
        return any(name.endswith(f".{end}") for name in names)

    for known in (BERT_MODULES, CLIP_MODULES, DISTILBERT_MODULES):
        ends = [getattr(known, entry.name) for entry in fields(known) if entry.type is str]
        if all(map(there, [*ends, *known.layer_norms])):
            return known
    return None


def positions_of(encoder: nn.Module) -> int:
    """How many tokens an encoder has positions for."""
    tables = [
        module
        for name, module in encoder.named_modules()
        if name.endswith(("position_embedding", "position_embeddings"))
        and isinstance(module, nn.Embedding)
    ]
    # RoBERTa counts positions from after the padding's id.
    offset = 0 if tables[0].padding_idx is None else tables[0].padding_idx + 1
    return tables[0].num_embeddings - offset


@dataclass(frozen=True)
class PublishedFormat:
    """The checkpoint that a text tower comes from, and how it is used without xclipt.

    Attributes:
        encoder_prefix: What the names of the encoder's weights start with in it.
        head_prefix: The same of the head's; ``None`` where the head is stored elsewhere.
        encoder_class: The class of transformers that holds the encoder alone.
        load_encoder: The call that loads it from the folder ``TEXT_TOWER``.
        usage: How a whole checkpoint in the folder ``{name}`` is used, as Markdown.
        head_within: The published encoder applies the head by itself.
        imports: What the call needs; empty is the class of transformers.
        place: What ``TEXT_TOWER`` is.
        input_notes: What a user of the encoder has to know of its inputs, for a card.
        older_names: Parts of names of the encoder's weights that are others in checkpoints.
        checked: What the exports for other libraries were checked with, for a card.
        weights: The names of the file with the weights, the safest first.
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
    head_within: bool = False
    imports: str = ""
    place: str = "the backbone's text encoder as a transformers checkpoint"
    input_notes: str = ""
    older_names: Mapping[str, str] = field(default_factory=dict)
    checked: str = "Checked with PEFT 0.18 and 0.21, each on transformers 4.57 and 5.24"
    weights: tuple[str, ...] = WEIGHTS
    config: str = "config.json"
    split: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    fuse: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict


@dataclass(frozen=True)
class Similarity:
    """How a model makes logits of its cosines: ``scale * cos + bias``.

    ``scale`` is 100 for models that are published without one, as Multilingual-CLIP's and the
    paper's; a ``bias`` is with those that were trained by the sigmoid loss.
    """

    scale: float = 100.0
    bias: float | None = None


class Pooling(StrEnum):
    """How one state is made of an encoder's states, by the words that fingerprints have for it.

    ``OWN`` is the encoder's ``pooler_output``: CLIP's state at the end of the text, SigLIP's at the
    last position, BERT's pooler.
    """

    MEAN = "masked mean"
    OWN = "its own"
    FIRST = "first position"


@dataclass(frozen=True)
class PromptPlacement:
    """Where a soft prompt's positions are in the sequence: ``tokens`` of them from ``start`` on.

    ``pooled`` tells whether the masked mean counts them.
    """

    tokens: int
    pooled: bool
    start: int = 1


class TextTower(nn.Module):
    """An encoder, pooling over its last hidden states, and a head.

    By default ``head(sum_i m_i h_i / sum_i m_i)``, the form of Multilingual-CLIP (Carlsson et al.
    2022).

    Args:
        encoder: A transformers text model.
        head: Pooled states ``(batch, width)`` -> features ``(batch, dim)``.
        modules: What the encoder's modules are called.
        published: The format of the checkpoint that the tower comes from.
        pooling: How one state is made of all.
        max_length: Positions that the encoder has, special tokens included.
        masked: Whether the encoder is told which positions are padding. SigLIP's is not: it was
            trained on texts of one length, and its padding counts.
        begins: Positions at the beginning that are no text's own, ``<s>`` as a rule.
        similarity: How the model makes logits of its cosines.

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
        pooling: Pooling = Pooling.MEAN,
        max_length: int | None = None,
        masked: bool = True,
        begins: int = 1,
        similarity: Similarity = Similarity(),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.module_names = modules
        self.published = published
        self.pooling = pooling
        self.max_length = max_length
        self.masked = masked
        self.begins = begins
        self.similarity = similarity
        self.prompt: PromptPlacement | None = None

    @property
    def takes_embeddings(self) -> bool:
        """Whether vectors can be given to the encoder in the place of token ids."""
        return "inputs_embeds" in inspect.signature(self.encoder.forward).parameters

    def read_parameters(self) -> dict[str, nn.Parameter]:
        """The encoder's parameters that features depend on, by their names within it.

        BERT's pooler is published with the encoder; pooling of another kind passes it by.
        """
        every = self.encoder.named_parameters()
        own = self.pooling is Pooling.OWN
        return {name: p for name, p in every if own or not name.startswith("pooler")}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask, both ``(batch, length)`` -> features ``(batch, dim)``, not normalised."""
        pooled_over = attention_mask
        if self.prompt:
            tokens, start = self.prompt.tokens, self.prompt.start
            if self.max_length and input_ids.shape[1] + tokens > self.max_length:
                input_ids, attention_mask = _shortened(
                    input_ids, attention_mask, self.max_length - tokens
                )
            input_ids = _inserted(input_ids, input_ids[:, :1].expand(-1, tokens), start)
            ones = torch.ones_like(attention_mask[:, :1]).expand(-1, tokens)
            counted = ones if self.prompt.pooled else 0 * ones
            pooled_over = _inserted(attention_mask, counted, start)
            attention_mask = _inserted(attention_mask, ones, start)
        mask = {"attention_mask": attention_mask} if self.masked else {}
        output = self.encoder(input_ids=input_ids, **mask)
        features: Tensor = self.head(self._pooled(output, pooled_over))
        return features

    def _pooled(self, output: Any, mask: Tensor) -> Tensor:
        pooled: Tensor
        if self.pooling is Pooling.OWN:
            pooled = output.pooler_output
        elif self.pooling is Pooling.FIRST:
            pooled = output.last_hidden_state[:, 0]
        else:
            hidden = output.last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return pooled


def _inserted(row: Tensor, inserted: Tensor, start: int) -> Tensor:
    return torch.cat([row[:, :start], inserted, row[:, start:]], dim=1)


def _shortened(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    # The end-of-text token of a text that is cut moves to the last position that is left.
    lengths = mask.sum(1)
    last = ids.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
    cut = ids[:, :length].clone()
    cut[:, -1] = torch.where(lengths > length, last, cut[:, -1])
    return cut, mask[:, :length]
