"""Trains the builtin backbone's start: one LoRA for many languages.

    python -m xclipt.training.train_start --data-dir DIR [--without LANG,...] [--seed N]
                                          [--out FILE]

``DIR`` holds ``flickr8k/``, ``flickr30k-images/``, ``multi30k/`` and ``xflickrco/``. Captions and
emoji names of several languages are pulled to what the frozen tower makes of their English
partners, and captions to their photographs where they are there. A language's own delta is then
trained from there. ``BUILTIN_START.md`` tells what went in and what came out.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.backbones.train_heads import evaluation_photographs, say
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import ALL_LINEAR, LoraSpec
from xclipt.errors import XcliptError
from xclipt.training.losses import contrastive, contrastive_in_gallery, cosine_alignment
from xclipt.training.start import SHIPPED, write_start
from xclipt.training.trainer import cosine_schedule

CAPTION_SETS = (("flickr8k", ("en", "zh", "ar")), ("multi30k", ("de", "fr", "cs")))
"""Data sets with human captions in training splits, and the languages that are taken of each."""

STRUCTURE = LoraSpec(rank=2, alpha=4, modules=ALL_LINEAR)
"""Of the start, and so of the deltas that begin there. As large as rank 8 on query and value, it
learns more: ``examples/results/few_shot.md`` tells how much."""

_EMOJI = "emoji"


@dataclass(frozen=True)
class Recipe:
    """How the start is trained.

    Attributes:
        steps: Optimiser steps.
        captions: Captions a step, of languages drawn evenly.
        names: Emoji names a step, of languages drawn evenly.
        pictures: At most so many pictures of every language.
        learning_rate: Peak of AdamW's cosine schedule.
        warmup: Share of the steps over which the learning rate rises.
        align_weight: Of ``1 - cos(text, partner)``.
        contrast_weight: Of the symmetric cross-entropy of captions against all partners of the
            batch, whatever their languages.
        picture_weight: Of the cross-entropy of captions against the photographs: a caption's among
            all that there are, a photograph's among the captions of the batch.
        logit_scale: What cosines are multiplied by in both.
        kept: Share of what was learnt that is kept, on the straight line from the frozen tower
            (Wortsman et al. 2022): languages that were not read gain by a little less of it.
    """

    steps: int = 1500
    captions: int = 48
    names: int = 24
    pictures: int = 5000
    learning_rate: float = 4e-3
    warmup: float = 0.1
    align_weight: float = 10.0
    contrast_weight: float = 0.5
    picture_weight: float = 1.5
    logit_scale: float = 20.0
    kept: float = 0.8


@dataclass(frozen=True)
class Parallel:
    """What is said of one picture: in another language, and in English."""

    image: str
    captions: tuple[str, ...]
    english: tuple[str, ...]


def human_captions(
    data_dir: Path, without: frozenset[str], pictures: int, seed: int
) -> dict[str, list[Parallel]]:
    """Training captions by language, none of a photograph that xclipt is evaluated on.

    English is among them: what it is pulled to is itself, so that it stays where it is.

    Args:
        without: Languages to leave out.
        pictures: At most so many of every language, drawn with ``seed``.

    Raises:
        XcliptError: A data set is missing or unusable.
    """
    photographs = open_dataset("flickr8k", data_dir)
    left_out = evaluation_photographs(data_dir) | {
        item.image
        for split in photographs.splits
        if split != "train"
        for item in photographs.captions("en", split)
    }
    groups = {}
    for name, languages in CAPTION_SETS:
        dataset = open_dataset(name, data_dir)
        for language in languages:
            if language not in without:
                pairs = _parallel(dataset, language, left_out)
                random.Random(seed).shuffle(pairs)
                groups[language] = pairs[:pictures]
    return groups


def emoji_names(without: frozenset[str]) -> dict[str, list[Parallel]]:
    """Names of the embedded set's training pictures by language."""
    dataset = open_dataset(_EMOJI, None)
    return {
        language: _parallel(dataset, language, frozenset())
        for language in dataset.languages
        if language not in without | {"en"}
    }


def photographs(data_dir: Path, captions: dict[str, list[Parallel]]) -> dict[str, Path]:
    """Files of the captioned photographs by name; those of Multi30K are not all there."""
    dataset = open_dataset("flickr8k", data_dir)
    names = sorted({parallel.image for group in captions.values() for parallel in group})
    paths = {name: dataset.picture_path(name) for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def _parallel(dataset: Dataset, language: str, left_out: frozenset[str]) -> list[Parallel]:
    english = {item.image: item.captions for item in dataset.captions("en", "train")}
    return [
        Parallel(item.image, item.captions, english[item.image])
        for item in dataset.captions(language, "train")
        if item.image in english and item.image not in left_out
    ]


def train_start(
    backbone: Backbone,
    captions: dict[str, list[Parallel]],
    names: dict[str, list[Parallel]],
    pictures: dict[str, Path],
    recipe: Recipe,
    seed: int,
) -> dict[str, Tensor]:
    """The start's tensors by their names in the delta.

    Every step draws texts at random, and pulls each to the mean direction of its English partners
    in the frozen tower, and captions to their photographs.
    """
    partners = _partner_directions(backbone, [*captions.values(), *names.values()])
    seen = backbone.encode_pictures(list(pictures.values()))
    say(f"encoded {len(seen):,} photographs")
    row = {image: i for i, image in enumerate(pictures)}
    draw = random.Random(seed)
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, backbone.family, seed)
    identity = delta.tensors()
    optimiser = torch.optim.AdamW(delta.parameters(), weight_decay=0.0)
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * cosine_schedule(step, recipe.steps, recipe.warmup)
        batch = [_draw(captions, draw) for _ in range(recipe.captions)]
        batch += [_draw(names, draw) for _ in range(recipe.names)]
        texts = [draw.choice(parallel.captions) for parallel in batch]
        text = backbone.embed_tokens(backbone.tokenizer(texts))
        partner = torch.stack([partners[parallel.english] for parallel in batch])
        loss = recipe.align_weight * cosine_alignment(text, partner, partner, recipe.logit_scale)
        # Names repeat across languages: they would be each other's false negatives.
        said = slice(recipe.captions)
        loss = loss + recipe.contrast_weight * contrastive(
            text[said], partner[said], recipe.logit_scale
        )
        shown = [i for i in range(recipe.captions) if batch[i].image in row]
        if shown:
            own = torch.tensor([row[batch[i].image] for i in shown])
            loss = loss + recipe.picture_weight * contrastive_in_gallery(
                text[shown], seen, own, recipe.logit_scale
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % 50 == 0:
            say(f"step {step + 1} of {recipe.steps}, loss {loss.item():.3f}")
    learnt = delta.tensors()
    delta.remove()
    # The update is the product of both factors: one of them is scaled, from its zeros.
    return {
        name: tensor if name.endswith("lora_A") else identity[name].lerp(tensor, recipe.kept)
        for name, tensor in learnt.items()
    }


def _draw(groups: dict[str, list[Parallel]], draw: random.Random) -> Parallel:
    return draw.choice(groups[draw.choice(sorted(groups))])


def _partner_directions(
    backbone: Backbone, groups: Sequence[Sequence[Parallel]]
) -> dict[tuple[str, ...], Tensor]:
    wanted = {parallel.english for group in groups for parallel in group}
    texts = sorted({caption for captions in wanted for caption in captions})
    features = F.normalize(backbone.encode_texts(texts), dim=-1)
    say(f"encoded {len(texts):,} English captions")
    row = {caption: i for i, caption in enumerate(texts)}
    return {
        captions: features[[row[caption] for caption in captions]].mean(0) for captions in wanted
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the captions, train, write the start.

    Raises:
        XcliptError: The data is not complete, or the file cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m xclipt.training.train_start")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="data root")
    parser.add_argument(
        "--without",
        default="",
        metavar="LANG,...",
        help="languages to leave out, captions and names: to measure what an unseen one gains",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--out", type=Path, default=SHIPPED, metavar="FILE", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    without = frozenset(filter(None, options.without.split(",")))
    recipe = Recipe()
    captions = human_captions(options.data_dir, without, recipe.pictures, options.seed)
    names = emoji_names(without)
    for language, pairs in captions.items():
        texts = sum(len(parallel.captions) for parallel in pairs)
        say(f"{language}: {texts:,} captions of {len(pairs):,} pictures")
    backbone = load_builtin(torch.device("cpu"), torch.bfloat16)
    pictures = photographs(options.data_dir, captions)
    tensors = train_start(backbone, captions, names, pictures, recipe, options.seed)
    write_start(options.out, tensors, STRUCTURE, backbone.identity.fingerprint)
    say(f"wrote {options.out}, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except XcliptError as error:
        sys.exit(f"error: {error}")
