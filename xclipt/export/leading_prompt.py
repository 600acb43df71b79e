"""Soft prompts for libraries that put their vectors before the whole text.

xclipt's stand after ``<s>``. Both arrangements are the same sequence when the leading vectors begin
with the word embedding of ``<s>`` and the text is given without it: nothing but its place tells a
position from another.
"""

import torch
from torch import Tensor

from xclipt.errors import XcliptError
from xclipt.export.exchange import ExportJob

VECTORS = "embeddings.word_embeddings.soft_prompt.vectors"
"""What the prompt's tensor is called in towers that take ``inputs_embeds``."""

USE = """
The vectors begin with the one of `<s>`, so give the token ids without their first:
`input_ids[:, 1:]` and `attention_mask[:, 1:]`. {pool}
"""
"""What a user of such a prompt has to be told."""

POOL = {
    True: "The mean over the last hidden states is over the vectors' positions too.",
    False: "Of the vectors' positions only the first counts in the mean over the last hidden "
    "states.",
}
"""The same of pooling, by :attr:`~xclipt.deltas.soft_prompt.SoftPromptSpec.pool_prompt`."""


def leading_prompt(job: ExportJob, format: str) -> Tensor:
    """``<s>`` and the vectors of a soft prompt that is trained alone, ``(1 + tokens, width)``.

    Raises:
        XcliptError: The tower does not take ``inputs_embeds``, or the delta is damaged.
    """
    tensors = job.delta.tensors()
    backbone = job.backbone()
    if not backbone.text_tower.takes_embeddings or VECTORS not in tensors:
        raise job.refused(format, "it feeds vectors to the tower, and this one takes none")
    embedding = backbone.text_tower.encoder.get_input_embeddings()  # type: ignore[operator]
    (start, *_), *_ = backbone.tokenizer([""])
    first = embedding.weight[start].detach().cpu()[None]
    return torch.cat([first, tensors[VECTORS]])


def without_start(path: object, vectors: Tensor) -> dict[str, Tensor]:
    """The delta's tensors again from what :func:`leading_prompt` made.

    Raises:
        XcliptError: There is no vector beside the first.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise XcliptError(f"{path}: its prompt is {tuple(vectors.shape)}; expected (1 + n, width)")
    return {VECTORS: vectors[1:].clone()}
