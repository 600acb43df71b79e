"""Trains the builtin backbone's heads: contrastively, on English captions only.

    python -m xclipt.backbones.builtin.train_heads --data-dir DIR [--seed N] [--out FILE]
                                                   [--features FILE]

``DIR`` holds ``flickr8k/``, ``flickr30k-images/``, ``xflickrco/`` and ``multi30k/``. Both towers
stay as published, so every caption goes through its tower once and every picture a few times
(itself, its mirror image, random crops); the training then sees only their pooled outputs.
``HEADS.md`` tells what went in and what came out.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from xclipt.backbones.backbone import CaptionTokenizer, length_batches
from xclipt.backbones.builtin import (
    MAX_TOKENS,
    PREFIX,
    PUBLISHED,
    converted_text_tower,
    load_efficientnet,
)
from xclipt.backbones.builtin.efficientnet import IMAGE_SIZE, EfficientNetLite0
from xclipt.backbones.builtin.heads import (
    HeadsConfig,
    ImageHead,
    TextHead,
    load_heads,
    save_heads,
    signed_sqrt,
)
from xclipt.backbones.text_tower import BERT_MODULES, TextTower
from xclipt.data.pictures import load_picture
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.files import file_key, picture_key, write_with
from xclipt.metrics import Ranks, bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks, summarise
from xclipt.progress import Silent

if TYPE_CHECKING:
    from PIL import Image

OUT = Path(__file__).with_name("heads.safetensors")
CROPS = 4
"""Random crops of every training picture, beside the picture itself and its mirror image."""

_TOKENS_PER_BATCH = 512
_PICTURES_PER_BATCH = 8


@dataclass(frozen=True)
class HeadsRecipe:
    """How the heads are trained.

    Attributes:
        dim: Width of the joint space.
        hidden: Width of the image head's hidden layer.
        dropout: Dropped share of the image head's hidden layer.
        feature_dropout: Dropped share of the image features, after standardising.
        text_noise: Standard deviation of the noise on the text features, after standardising. It
            stands for what a translation changes: the text head learns to look at what is large
            in the text tower, which languages share, and not at the fine print of English.
        steps: Optimizer steps.
        batch: Pictures in a step, each with one of its captions; the others are its negatives.
        peak_rate: Learning rate after the warm-up (the first tenth); it then falls on a cosine.
        weight_decay: Applies to weight matrices, not to biases.
        temperature: Where the learned temperature starts.
        averaged_from: Share of the steps after which the weights begin to be averaged.
        averaging: Share of the running average that each later step keeps.
    """

    dim: int = 512
    hidden: int = 640
    dropout: float = 0.5
    feature_dropout: float = 0.2
    text_noise: float = 1.0
    steps: int = 500
    batch: int = 1024
    peak_rate: float = 1e-3
    weight_decay: float = 0.05
    temperature: float = 0.05
    averaged_from: float = 0.3
    averaging: float = 0.99


@dataclass(frozen=True)
class Collection:
    """Pictures and their English captions.

    Attributes:
        paths: The pictures' files.
        captions: For every picture its captions, one or more.
    """

    paths: list[Path]
    captions: list[list[str]]

    def __add__(self, other: "Collection") -> "Collection":
        return Collection(self.paths + other.paths, self.captions + other.captions)

    @property
    def texts(self) -> list[str]:
        """All captions, those of one picture together."""
        return [text for group in self.captions for text in group]

    @property
    def owners(self) -> Tensor:
        """For every caption the position of its picture: ``(captions,)``."""
        counts = torch.tensor([len(group) for group in self.captions])
        return torch.repeat_interleave(torch.arange(len(self.captions)), counts)


def flickr8k(data_dir: Path, split: str, left_out: frozenset[str] = frozenset()) -> Collection:
    """One split of Flickr8k in English, without the photographs in ``left_out``.

    Raises:
        XcliptError: The captions cannot be read.
    """
    rows = [
        row
        for row in _rows(data_dir / "flickr8k" / "captions.en.jsonl")
        if row["split"] == split and row["image"] not in left_out
    ]
    photographs = data_dir / "flickr30k-images"
    return Collection([photographs / r["image"] for r in rows], [r["captions"] for r in rows])


def evaluation_photographs(data_dir: Path) -> frozenset[str]:
    """Photographs that xclipt is evaluated on elsewhere: never to be trained on.

    Raises:
        XcliptError: One of the lists is missing, so that they cannot be left out.
    """
    captions = sorted((data_dir / "xflickrco").glob("captions.*.jsonl"))
    if not captions:
        raise XcliptError(
            f"{data_dir / 'xflickrco'}: no captions.*.jsonl; its photographs must be left out"
        )
    names = {row["image"] for path in captions for row in _rows(path)}
    for split in ("val", "test_2016_flickr"):
        path = data_dir / "multi30k" / "data" / "task1" / "image_splits" / f"{split}.txt"
        try:
            names.update(path.read_text("utf-8").split())
        except OSError as error:
            raise XcliptError(f"{path}: cannot read ({error.strerror})") from error
    return frozenset(names)


def emoji(split: str) -> Collection:
    """One split of the embedded emoji with their English names."""
    dataset = EmojiDataset()
    items = dataset.captions("en", split)
    return Collection(
        [dataset.picture_path(item.image) for item in items],
        [list(item.captions) for item in items],
    )


def text_features(texts: Sequence[str]) -> Tensor:
    """Masked means of the text tower's last hidden states: ``(texts, 384)``."""
    from transformers import BertModel, PreTrainedTokenizerFast

    folder = converted_text_tower(Silent())
    encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True)
    tokenizer = CaptionTokenizer(
        PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True), PREFIX, MAX_TOKENS
    )
    tower = TextTower(encoder, nn.Identity(), BERT_MODULES, PUBLISHED).eval()
    rows = tokenizer(texts)
    features = torch.empty(len(rows), encoder.config.hidden_size)
    with torch.inference_mode():
        for batch in length_batches([len(row) for row in rows], _TOKENS_PER_BATCH):
            features[batch] = tower(*tokenizer.pad([rows[i] for i in batch], torch.device("cpu")))
    return features


def image_features(tower: EfficientNetLite0, paths: Sequence[Path], view: int) -> Tensor:
    """Mean-pooled features of one view of every picture: ``(pictures, 1904)``.

    View 0 is the picture as it is, 1 its mirror image, every later one a crop of its own.
    """
    parameter = next(tower.parameters())
    batches = []
    with torch.inference_mode():
        for start in range(0, len(paths), _PICTURES_PER_BATCH):
            arrays = [
                np.asarray(_seen(load_picture(path), view, np.random.default_rng([view, i])))
                for i, path in enumerate(paths[start : start + _PICTURES_PER_BATCH], start)
            ]
            pixels = (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() - 127) / 128
            pixels = pixels.to(parameter.dtype).contiguous(memory_format=torch.channels_last)
            batches.append(tower(pixels).float())
    return torch.cat(batches)


def _seen(picture: "Image.Image", view: int, rng: np.random.Generator) -> "Image.Image":
    from PIL import Image, ImageEnhance

    size = (IMAGE_SIZE, IMAGE_SIZE)
    if view < 2:
        picture = (
            picture.resize(size, Image.Resampling.BICUBIC) if picture.size != size else picture
        )
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view == 1 else picture
    # At least about a third of the area, or too many captions speak of what is no longer seen.
    area, aspect = rng.uniform(0.35, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    width = picture.width * min(1.0, math.sqrt(area * aspect))
    height = picture.height * min(1.0, math.sqrt(area / aspect))
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    picture = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(0.7, 1.3))
    return picture


def extract(data_dir: Path) -> dict[str, Tensor]:
    """Features of all that is trained and validated on, by name.

    ``train.images`` is ``(views, pictures, 1904)`` and ``train.texts`` ``(captions, 384)``;
    ``photographs.*`` and ``emoji.*`` are the two validation sets, their images as views 0 and 1.

    Raises:
        XcliptError: A file of the data is missing or unusable.
    """
    tower = load_efficientnet().eval().fuse()
    training = training_collection(data_dir)
    features = {"train.texts": text_features(training.texts)}
    say(f"encoded {len(training.texts):,} training captions")
    for name, collection in _validation(data_dir).items():
        views = [image_features(tower, collection.paths, view) for view in (0, 1)]
        features[f"{name}.images"] = torch.stack(views)
        features[f"{name}.texts"] = text_features(collection.texts)
    # Half the time in bfloat16, and beside the crops its rounding is nothing.
    tower.to(torch.bfloat16)
    views = []
    for view in range(2 + CROPS):
        views.append(image_features(tower, training.paths, view))
        say(f"encoded view {view + 1} of {2 + CROPS} of {len(training.paths):,} pictures")
    features["train.images"] = torch.stack(views)
    return features


def train(
    features: dict[str, Tensor], owners: Tensor, seed: int, recipe: HeadsRecipe
) -> tuple[HeadsConfig, TextHead, ImageHead]:
    """Train both heads on what :func:`extract` returned; ``owners`` is the captions' pictures.

    The loss is InfoNCE in both directions over the batch. The returned heads hold the running
    average of the weights and take the towers' outputs as they come.
    """
    torch.manual_seed(seed)
    roots, texts = signed_sqrt(features["train.images"]), features["train.texts"]
    root_mean, root_scale = roots.mean((0, 1)), roots[0].std(0).clamp(min=1e-3)
    text_mean, text_scale = texts.mean(0), texts.std(0).clamp(min=1e-3)
    texts = (texts - text_mean) / text_scale
    views, pictures, width = roots.shape
    counts = torch.bincount(owners, minlength=pictures)
    first = counts.cumsum(0) - counts

    config = HeadsConfig(texts.shape[1], width, recipe.hidden, recipe.dim)
    text_head, image_head = TextHead(config), ImageHead(config, recipe.dropout)
    scale = nn.Parameter(torch.tensor(-math.log(recipe.temperature)))
    weights = [*text_head.parameters(), *image_head.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in weights if p.ndim < 2] + [scale], "weight_decay": 0.0},
        ],
        lr=recipe.peak_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_rate, total_steps=recipe.steps, pct_start=0.1
    )
    average: list[Tensor] = []
    order, target = torch.randperm(pictures), torch.arange(recipe.batch)
    for step in range(recipe.steps):
        if len(order) < recipe.batch:
            order = torch.randperm(pictures)
        batch, order = order[: recipe.batch], order[recipe.batch :]
        seen = roots[torch.randint(views, (recipe.batch,)), batch]
        chosen = first[batch] + (torch.rand(recipe.batch) * counts[batch]).long()
        seen = F.dropout((seen - root_mean) / root_scale, recipe.feature_dropout)
        image = F.normalize(image_head.from_roots(seen), dim=1)
        read = texts[chosen] + recipe.text_noise * torch.randn(recipe.batch, texts.shape[1])
        text = F.normalize(text_head(read), dim=1)
        logits = scale.exp() * image @ text.T
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        current = [weight.detach() for weight in weights]
        if not average and step >= recipe.averaged_from * recipe.steps:
            average = [weight.clone() for weight in current]
        elif average:
            torch._foreach_lerp_(average, current, 1 - recipe.averaging)
        if (step + 1) % 50 == 0:
            say(f"step {step + 1} of {recipe.steps}, loss {loss.item():.3f}")
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    _fold(text_head.project, text_mean, text_scale)
    _fold(image_head.skip, root_mean, root_scale)
    _fold(image_head.expand, root_mean, root_scale)
    return config, text_head.eval(), image_head.eval()


@torch.no_grad()
def _fold(linear: nn.Linear, mean: Tensor, scale: Tensor) -> None:
    # linear((x - mean) / scale) as one affine map of x.
    linear.weight.div_(scale)
    linear.bias.sub_(linear.weight @ mean)


def report(name: str, ranks: Ranks) -> str:
    """One line: R@1 and R@10 each way, and mean R@1 with its 95 % bootstrap interval."""
    t2i, i2t = summarise(ranks.t2i), summarise(ranks.i2t)
    low, high = interval95(bootstrap_mean_r1(ranks))
    return (
        f"{name}: text to image R@1 {t2i.r1:.2f} R@10 {t2i.r10:.2f}, "
        f"image to text R@1 {i2t.r1:.2f} R@10 {i2t.r10:.2f}, "
        f"mean R@1 {mean_r1(ranks):.2f} [{low:.2f}, {high:.2f}]"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Extract, train, write the heads, read them back and print how they validate.

    Raises:
        XcliptError: The data is not complete, or a file cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m xclipt.backbones.builtin.train_heads")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="data root")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="keep the towers' outputs here, and take them from here if the file exists",
    )
    options = parser.parse_args(arguments)
    training = training_collection(options.data_dir)
    if options.features and options.features.is_file():
        features = load_file(options.features)
    else:
        features = extract(options.data_dir)
        if options.features:
            write_with(options.features, lambda path: save_file(features, path))
    trained = train(features, training.owners, options.seed, HeadsRecipe())
    save_heads(options.out, *trained, [picture_key(file_key(path)) for path in training.paths])
    say(f"wrote {options.out}, {options.out.stat().st_size:,} bytes")
    heads = load_heads(options.out)
    with torch.inference_mode():
        for name, collection in _validation(options.data_dir).items():
            text = heads.text(features[f"{name}.texts"])
            one, mirrored = heads.image(features[f"{name}.images"])
            for views, image in (("one view", one), ("with mirror image", one + mirrored)):
                ranks = retrieval_ranks(image, text, collection.owners)
                say(report(f"{name}, {views}", ranks))


def training_collection(data_dir: Path) -> Collection:
    """What the heads are trained on.

    Raises:
        XcliptError: A file of the data is missing or unusable.
    """
    return flickr8k(data_dir, "train", evaluation_photographs(data_dir)) + emoji("train")


def _validation(data_dir: Path) -> dict[str, Collection]:
    return {"photographs": flickr8k(data_dir, "val"), "emoji": emoji("val")}


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from error
    except ValueError as error:
        raise XcliptError(f"{path}: not JSON lines ({error})") from error


_STARTED = time.monotonic()


def say(message: str) -> None:
    """Print a line with the seconds since the script began."""
    sys.stdout.write(f"{time.monotonic() - _STARTED:6.0f} s  {message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except XcliptError as error:
        sys.exit(f"error: {error}")
