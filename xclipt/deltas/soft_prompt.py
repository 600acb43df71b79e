"""Soft prompts, put in by OpenDelta at the word embeddings.

OpenDelta's own soft prompt goes before ``<s>``, lengthens the caller's attention mask behind its
back, and needs a tower that takes ``inputs_embeds`` (CLIP's does not). Here the tower makes room
after ``<s>`` (:attr:`~xclipt.backbones.backbone.TextTower.prompt`) and the module at the word
embeddings fills it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer, PromptPlacement, TextTower
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.spec import SoftPromptSpec
from xclipt.errors import XcliptError

_INITIAL_DEVIATION = 0.02


class SoftPrompt(nn.Module):
    """``vectors`` ``(tokens, width)`` in the place of what stands after the first position."""

    def __init__(self, tower: TextTower, vectors: Tensor) -> None:
        super().__init__()
        # Not as a submodule: the tower would hold itself.
        self._room: Callable[[], PromptPlacement | None] = lambda: tower.prompt
        self.vectors = nn.Parameter(vectors)

    def post_forward(self, embedded: Tensor) -> Tensor:
        """Word embeddings ``(batch, length, width)`` with the vectors at 1, 2, ...

        OpenDelta calls it on what the embedding layer returns.
        """
        if self._room() is None:
            return embedded
        vectors = self.vectors.to(embedded.dtype).expand(embedded.shape[0], -1, -1)
        rest = embedded[:, 1 + len(self.vectors) :]
        return torch.cat([embedded[:, :1], vectors, rest], dim=1)


def insert_soft_prompt(
    tower: TextTower, spec: SoftPromptSpec, tokenizer: CaptionTokenizer | None
) -> Any:
    """Put the vectors in and make room for them.

    Raises:
        XcliptError: The text that they are to start from holds no token, or they leave no room.
    """
    embedding: nn.Embedding = tower.encoder.get_input_embeddings()  # type: ignore[operator]
    if tower.max_length and spec.tokens > tower.max_length - 3:
        raise XcliptError(
            f"--tokens {spec.tokens}: the tower has {tower.max_length} positions in all"
        )
    if spec.prompt_init and tokenizer:
        inner = tokenizer.tokenizer(spec.prompt_init, add_special_tokens=False)["input_ids"]
        if not inner:
            raise XcliptError(f"--prompt-init '{spec.prompt_init}': no token of it is a word's")
        ids = torch.tensor([inner[i % len(inner)] for i in range(spec.tokens)])
        vectors = embedding.weight.detach()[ids.to(embedding.weight.device)].clone()
    else:
        vectors = torch.empty(spec.tokens, embedding.embedding_dim).normal_(std=_INITIAL_DEVIATION)
        vectors = vectors.to(embedding.weight)
    model = _put_in(tower.encoder, SoftPrompt(tower, vectors))
    tower.prompt = PromptPlacement(spec.tokens, spec.pool_prompt)
    return model


def _put_in(encoder: nn.Module, layer: SoftPrompt) -> Any:
    class PlacedPromptModel(import_opendelta().SoftPromptModel):  # type: ignore[misc]
        # An __init__ of its own would be taken by OpenDelta for a list of its settings.
        def update_module(self) -> None:
            self.delta_modules.append(layer)
            self.insert_module(self.raw_embedding, "after", layer, "soft_prompt")

    return PlacedPromptModel(encoder)
