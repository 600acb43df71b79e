"""What the trained texts are pulled to, as a frozen teacher sees it."""

import torch
from torch import Tensor

from xclipt.alignment.alignment_set import AlignmentSet
from xclipt.data.dataset import Dataset
from xclipt.training.recipe import Recipe
from xclipt.workspace import Workspace


def frozen_partners(
    workspace: Workspace, dataset: Dataset, alignment: AlignmentSet, recipe: Recipe
) -> Tensor:
    """The partners' features ``(pairs, dim)`` of the frozen tower, not normalised.

    With ``recipe.partner_captions`` ``all`` each is the mean over all English captions of the
    pair's picture: people describe different things, and what they agree on is the steadier aim.
    Routine 2's partners are translations that were made for single captions, and stay as they are.
    """
    groups: list[tuple[str, ...]] = [(pair.partner or "",) for pair in alignment.pairs]
    if recipe.partner_captions == "all" and alignment.request.routine != 2:
        english = {p.image: p.captions for p in dataset.captions("en", None)}
        groups = [
            english.get(pair.image, group)
            for pair, group in zip(alignment.pairs, groups, strict=True)
        ]
    features = workspace.encode_texts([caption for group in groups for caption in group])
    parts = torch.split(features, [len(group) for group in groups])
    return torch.stack([part.mean(0) for part in parts])
