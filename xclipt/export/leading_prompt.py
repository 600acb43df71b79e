"""Soft prompts for libraries that put their vectors before the whole text.

xclipt's stand after ``<s>``. Both arrangements are the same sequence when the leading vectors begin
with the word embedding of ``<s>`` and the text is given without it: nothing but its place tells a
position from another.
"""

import torch
from torch import Tensor

from xclipt.backbones.text_tower import TextTower
from xclipt.errors import XcliptError
from xclipt.export.exchange import ExportJob


def vectors_name(tower: TextTower) -> str:
    """What a soft prompt's tensor is called within a tower's encoder."""
    embedding = tower.encoder.get_input_embeddings()  # type: ignore[operator]
    (name,) = [name for name, module in tower.encoder.named_modules() if module is embedding]
    return f"{name}.soft_prompt.vectors"


def leading_prompt(job: ExportJob, format: str) -> Tensor:
    """``<s>`` and the vectors of a soft prompt that is trained alone, ``(1 + tokens, width)``.

    Raises:
        XcliptError: The tower does not take ``inputs_embeds``, or the delta is damaged.
    """
    tensors = job.delta.tensors()
    backbone = job.backbone()
    if not backbone.text_tower.takes_embeddings:
        raise job.refused(format, "it feeds vectors to the tower, and this one takes none")
    if backbone.tokenizer.languages and len(job.manifest.taught) > 1:
        raise job.refused(format, "its first vector would be the token of one language of several")
    embedding = backbone.text_tower.encoder.get_input_embeddings()  # type: ignore[operator]
    (start, *_), *_ = backbone.tokenizer([""], job.manifest.language)
    with torch.no_grad():
        first = embedding(torch.tensor([start], device=backbone.device)).cpu()
    return torch.cat([first, tensors[vectors_name(backbone.text_tower)]])


def without_start(path: object, vectors: Tensor, tower: TextTower) -> dict[str, Tensor]:
    """The delta's tensors again from what :func:`leading_prompt` made.

    Raises:
        XcliptError: There is no vector beside the first.
    """
    if vectors.ndim != 2 or len(vectors) < 2:
        raise XcliptError(f"{path}: its prompt is {tuple(vectors.shape)}; expected (1 + n, width)")
    return {vectors_name(tower): vectors[1:].clone()}
