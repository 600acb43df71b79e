"""Soft prompts, put in by OpenDelta at the word embeddings.

OpenDelta's own soft prompt goes before ``<s>``, lengthens the caller's attention mask behind its
back, and needs a tower that takes ``inputs_embeds`` (CLIP's does not). Here the tower makes room
after ``<s>`` (:attr:`~xclipt.backbones.text_tower.TextTower.prompt`) and the module at the word
embeddings fills it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from xclipt.deltas.kind import DeltaSpec, setting
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xclipt.backbones.backbone import CaptionTokenizer
    from xclipt.backbones.text_tower import TextTower

_INITIAL_DEVIATION = 0.02
_TOKENS = 4
_FIXED = 3  # positions that a prompt cannot take: <s>, </s> and one of the text


@dataclass(frozen=True)
class SoftPromptSpec(DeltaSpec):
    """Trained vectors in the place of word embeddings right after ``<s>`` (Lester et al. 2021).

    Never the identity: every other position attends to the vectors from the start, whatever they
    hold.

    Attributes:
        tokens: How many vectors; ``None`` is 4 without ``prompt_init``, and with it as many as the
            text has tokens, as in the paper's code: :meth:`counted` puts their number here.
        prompt_init: Text whose word embeddings they start from, repeated or cut to ``tokens``;
            without it they are drawn from N(0, 0.02), as in the paper's code.
        pool_prompt: Count their positions in the mean over the text. The paper's code does: it
            lengthens the attention mask in place, and pools by that very mask. Towers that do not
            pool by mean (CLIP) are not concerned.
    """

    kind: ClassVar[str] = "soft-prompt"
    not_foldable: ClassVar[str] = "a soft prompt is no weight of the tower"

    train_layernorm: bool = False
    tokens: int | None = setting(
        None, "trained vectors (4, or as many as the text that they start from has tokens)", least=1
    )
    prompt_init: str = setting("", "text whose word embeddings the vectors start from")
    pool_prompt: bool = setting(True, "whether the mean over the text counts the vectors")

    def __post_init__(self) -> None:
        if self.tokens is None and not self.prompt_init:
            object.__setattr__(self, "tokens", _TOKENS)
        super().__post_init__()

    def insert(self, tower: "TextTower", tokenizer: "CaptionTokenizer | None") -> Any:
        from xclipt.backbones.text_tower import PromptPlacement

        if tower.max_length and self.positions > tower.max_length - _FIXED:
            raise XcliptError(
                f"the tower has {tower.max_length} positions in all",
                field="tokens",
                value=self.tokens,
            )
        model = _put_in(tower.encoder, self._initial_vectors(tower, tokenizer), tower.begins)
        tower.prompt = PromptPlacement(self.positions, self.pool_prompt, tower.begins)
        return model

    def counted(self, tokenizer: "CaptionTokenizer | None") -> Self:
        if self.tokens is not None or tokenizer is None:
            return self
        return replace(self, tokens=len(self._pieces(tokenizer)))

    @property
    def description(self) -> str:
        return "A soft prompt after `<s>`"

    @property
    def positions(self) -> int:
        if self.tokens is None:
            raise XcliptError(
                "without a tokenizer, as in a dry run, nobody can count those of `prompt_init`; "
                "give their number",
                field="tokens",
            )
        return self.tokens

    @property
    def architecture(self) -> Self:
        return replace(super().architecture, prompt_init="")

    def _initial_vectors(
        self, tower: "TextTower", tokenizer: "CaptionTokenizer | None"
    ) -> "Tensor":
        import torch

        weight: Tensor = tower.encoder.get_input_embeddings().weight  # type: ignore[operator]
        if not (self.prompt_init and tokenizer):
            drawn = torch.empty(self.positions, weight.shape[1]).normal_(std=_INITIAL_DEVIATION)
            return drawn.to(weight)
        inner = self._pieces(tokenizer)
        ids = torch.tensor([inner[i % len(inner)] for i in range(self.positions)])
        return weight.detach()[ids.to(weight.device)].clone()

    def _pieces(self, tokenizer: "CaptionTokenizer") -> list[int]:
        ids = tokenizer.pieces(self.prompt_init)
        if not ids:
            raise XcliptError(
                "no token of it is a word's", field="prompt_init", value=self.prompt_init
            )
        return ids


def _put_in(encoder: "nn.Module", vectors: "Tensor", start: int) -> Any:
    import torch
    from torch import Tensor, nn

    from xclipt.deltas.opendelta import import_opendelta

    class SoftPrompt(nn.Module):
        """``vectors`` ``(tokens, width)`` in the place of what stands from ``start`` on."""

        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Parameter(vectors)

        def post_forward(self, embedded: Tensor) -> Tensor:
            """Word embeddings ``(batch, length, width)`` with the vectors at ``start`` and after.

            OpenDelta calls it on what the embedding layer returns.
            """
            own = self.vectors.to(embedded.dtype).expand(embedded.shape[0], -1, -1)
            after = embedded[:, start + len(self.vectors) :]
            return torch.cat([embedded[:, :start], own, after], dim=1)

    class PlacedPromptModel(import_opendelta().SoftPromptModel):  # type: ignore[misc]
        # An __init__ of its own would be taken by OpenDelta for a list of its settings.
        def update_module(self) -> None:
            layer = SoftPrompt()
            self.delta_modules.append(layer)
            self.insert_module(self.raw_embedding, "after", layer, "soft_prompt")

    return PlacedPromptModel(encoder)
