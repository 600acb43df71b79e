"""Trains the builtin backbone's start: one LoRA for many languages.

    python -m xclipt.backbones.builtin.train_warm_start --data-dir DIR [--without LANG,...]
                                                        [--seed N] [--out FILE]

``DIR`` holds ``flickr8k/``, ``flickr30k-images/``, ``multi30k/`` and ``xflickrco/``. Captions and
emoji names of several languages are pulled to what the frozen tower makes of their English
partners, and captions to their photographs where they are there. A language's own delta is then
trained from there. ``WARM_START.md`` tells what went in and what came out.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import WARM_START, load_builtin
from xclipt.backbones.builtin.train_heads import evaluation_photographs, say
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.errors import XcliptError
from xclipt.training.losses import contrastive, contrastive_in_gallery, cosine_alignment
from xclipt.training.recipe import cosine_schedule
from xclipt.training.warm_start import write

CAPTION_SETS = (("flickr8k", ("en", "zh", "ar")), ("multi30k", ("de", "fr", "cs")))
"""Data sets with human captions in training splits, and the languages that are taken of each."""

WARM_START_SPEC = LoraSpec(rank=2, alpha=4, modules=ALL_LINEAR)
"""Of the start, and so of the deltas that begin there. As large as rank 8 on query and value, it
learns more: ``examples/studies/ablation.py`` measures how much."""

_EMOJI = "emoji"


@dataclass(frozen=True)
class WarmStartRecipe:
    """How the start is trained; ``examples/studies/ablation.py`` tells what each choice is worth.

    Attributes:
        spec: What is trained.
        steps: Optimiser steps.
        captions: Captions a step, of languages drawn evenly.
        names: Emoji names a step, of languages drawn evenly.
        pictures: At most so many pictures of every language.
        learning_rate: Peak of AdamW's cosine schedule.
        warmup: Share of the steps over which the learning rate rises.
        align_weight: Of ``1 - cos(text, partner)``.
        contrast_weight: Of the symmetric cross-entropy of captions against all partners of the
            batch, whatever their languages.
        picture_weight: Of the cross-entropy of captions against the photographs.
        gallery: A caption finds its photograph among all that there are, and not only among the
            batch's; a photograph finds its caption among the batch's.
        logit_scale: What cosines are multiplied by in both.
        kept: Share of what was learnt that is kept, on the straight line from the frozen tower
            (Wortsman et al. 2022): languages that were not read gain by a little less of it.
    """

    spec: DeltaSpec = WARM_START_SPEC
    steps: int = 1500
    captions: int = 48
    names: int = 24
    pictures: int = 5000
    learning_rate: float = 4e-3
    warmup: float = 0.1
    align_weight: float = 10.0
    contrast_weight: float = 0.5
    picture_weight: float = 1.5
    gallery: bool = True
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


@dataclass(frozen=True)
class Targets:
    """What texts are pulled to, all of it from the frozen towers.

    Attributes:
        partners: Mean direction of a picture's English captions: ``(dim,)`` each.
        images: Row of each photograph in ``pictures`` by its name.
        pictures: Features of the photographs: ``(photographs, dim)``.
    """

    partners: dict[tuple[str, ...], Tensor]
    images: dict[str, int]
    pictures: Tensor


def frozen_targets(
    encode_texts: Callable[[list[str]], Tensor],
    encode_pictures: Callable[[list[Path]], Tensor],
    groups: Sequence[Sequence[Parallel]],
    pictures: dict[str, Path],
) -> Targets:
    """The targets of captions and names by language (``groups``) and photographs by name."""
    wanted = {parallel.english for group in groups for parallel in group}
    texts = sorted({caption for captions in wanted for caption in captions})
    features = F.normalize(encode_texts(texts), dim=-1)
    say(f"encoded {len(texts):,} English captions")
    row = {caption: i for i, caption in enumerate(texts)}
    partners = {
        captions: features[[row[caption] for caption in captions]].mean(0) for captions in wanted
    }
    seen = encode_pictures(list(pictures.values()))
    say(f"encoded {len(seen):,} photographs")
    return Targets(partners, {image: i for i, image in enumerate(pictures)}, seen)


@dataclass(frozen=True)
class Learnt:
    """A trained start.

    Attributes:
        identity: Tensors of the delta before the first step, by their names in it.
        tensors: And after the last.
        trained: How many of their numbers were trained.
    """

    identity: dict[str, Tensor]
    tensors: dict[str, Tensor]
    trained: int

    def kept(self, share: float) -> dict[str, Tensor]:
        """Tensors on the straight line from the frozen tower (0) to what was learnt (1)."""
        # A LoRA's update is the product of two factors: one of them is scaled, from its zeros.
        return {
            name: tensor if name.endswith("lora_A") else self.identity[name].lerp(tensor, share)
            for name, tensor in self.tensors.items()
        }


def train_start(
    backbone: Backbone,
    captions: dict[str, list[Parallel]],
    names: dict[str, list[Parallel]],
    targets: Targets,
    recipe: WarmStartRecipe,
    seed: int,
) -> Learnt:
    """Train a start; the backbone stays frozen."""
    delta = AdaptedTower(backbone.text_tower, recipe.spec, seed)
    identity = delta.tensors()
    for _ in training_steps(backbone, delta, captions, names, targets, recipe, random.Random(seed)):
        pass
    return Learnt(identity, delta.tensors(), delta.trainable_parameters)


def training_steps(
    backbone: Backbone,
    delta: AdaptedTower,
    captions: dict[str, list[Parallel]],
    names: dict[str, list[Parallel]],
    targets: Targets,
    recipe: WarmStartRecipe,
    draw: random.Random,
) -> Iterator[int]:
    """Train ``delta``, and give the number of every step that is done, counted from 0.

    Every step draws texts at random, and pulls each to the mean direction of its English partners
    in the frozen tower, and captions to their photographs.
    """
    adapted = delta.within(backbone)
    optimiser = torch.optim.AdamW(delta.parameters(), weight_decay=0.0)
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            share = cosine_schedule(step, recipe.steps, recipe.warmup * recipe.steps)
            group["lr"] = recipe.learning_rate * share
        batch = [_draw(captions, draw) for _ in range(recipe.captions)]
        batch += [_draw(names, draw) for _ in range(recipe.names)]
        rows = backbone.tokenizer([draw.choice(parallel.captions) for parallel in batch])
        loss = _loss(adapted.embed_tokens(rows), batch, targets, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % 50 == 0:
            say(f"step {step + 1} of {recipe.steps}, loss {loss.item():.3f}")
        yield step


def _loss(
    text: Tensor, batch: Sequence[Parallel], targets: Targets, recipe: WarmStartRecipe
) -> Tensor:
    scale = recipe.logit_scale
    partner = torch.stack([targets.partners[parallel.english] for parallel in batch])
    loss = recipe.align_weight * cosine_alignment(text, partner, partner, scale)
    # Names repeat across languages: they would be each other's false negatives.
    said = slice(recipe.captions)
    loss = loss + recipe.contrast_weight * contrastive(text[said], partner[said], scale)
    shown = [i for i in range(recipe.captions) if batch[i].image in targets.images]
    if not shown:
        return loss
    own = torch.tensor([targets.images[batch[i].image] for i in shown])
    if recipe.gallery:
        seen = contrastive_in_gallery(text[shown], targets.pictures, own, scale)
    else:
        seen = contrastive(text[shown], targets.pictures[own], scale)
    return loss + recipe.picture_weight * seen


def _draw(groups: dict[str, list[Parallel]], draw: random.Random) -> Parallel:
    return draw.choice(groups[draw.choice(sorted(groups))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the captions, train, write the start.

    Raises:
        XcliptError: The data is not complete, or the file cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m xclipt.backbones.builtin.train_warm_start")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="data root")
    parser.add_argument(
        "--without",
        default="",
        metavar="LANG,...",
        help="languages to leave out, captions and names: to measure what an unseen one gains",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--out", type=Path, default=WARM_START, metavar="FILE", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    without = frozenset(filter(None, options.without.split(",")))
    recipe = WarmStartRecipe()
    captions = human_captions(options.data_dir, without, recipe.pictures, options.seed)
    names = emoji_names(without)
    for language, pairs in captions.items():
        texts = sum(len(parallel.captions) for parallel in pairs)
        say(f"{language}: {texts:,} captions of {len(pairs):,} pictures")
    backbone = load_builtin(torch.device("cpu"), torch.bfloat16)
    targets = frozen_targets(
        backbone.encode_texts,
        backbone.encode_pictures,
        [*captions.values(), *names.values()],
        photographs(options.data_dir, captions),
    )
    learnt = train_start(backbone, captions, names, targets, recipe, options.seed)
    fingerprint = backbone.identity.fingerprint
    write(options.out, learnt.kept(recipe.kept), WARM_START_SPEC, fingerprint)
    say(f"wrote {options.out}, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except XcliptError as error:
        sys.exit(f"error: {error}")
