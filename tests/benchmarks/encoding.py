"""How fast the builtin towers encode and learn, as ratios to bare torch doing the same arithmetic.

    python -m tests.benchmarks.encoding DATA_DIR

Each row runs both ways in turn, three times, on the same captions or pictures, and prints the
median ratio: above 1 means that xclipt's way takes less time.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import ImageTower, load_builtin, load_efficientnet
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec

ROUNDS = 3


def captions_as_they_come(backbone: Backbone, captions: list[str]) -> None:
    """Batches of 32 in the given order, padded to the longest."""
    rows = backbone.tokenizer(captions)
    with torch.inference_mode():
        for start in range(0, len(rows), 32):
            backbone.text_tower(*backbone.tokenizer.pad(rows[start : start + 32], backbone.device))


def pictures_one_batch_norm_at_a_time(backbone: Backbone, paths: list[Path]) -> None:
    """The published network: batch norms not folded, memory format as it comes."""
    network = load_efficientnet().eval()
    tower = ImageTower(network, backbone.image_tower.head)
    with torch.inference_mode():
        for start in range(0, len(paths), 16):
            tower(torch.stack([backbone.read_pixels(p) for p in paths[start : start + 16]]))


def training_step(
    backbone: Backbone, delta: AdaptedTower, rows: list[list[int]], *, padded: bool
) -> None:
    """A LoRA's forward and backward over a batch, padded whole or in parts of like length."""
    if padded:
        features = delta.tower(*backbone.tokenizer.pad(rows, backbone.device))
    else:
        features = delta.within(backbone).embed_tokens(rows)
    features.sum().backward()
    for parameter in delta.parameters():
        parameter.grad = None


def measure(name: str, ours: Callable[[], object], bare: Callable[[], object], count: int) -> None:
    """Time both in turn and print one row."""
    ratios, seconds = [], []
    for _ in range(ROUNDS):
        times = []
        for run in (ours, bare):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        ratios.append(times[1] / times[0])
        seconds.append(times[0])
    rate = count / statistics.median(seconds)
    sys.stdout.write(f"{name:32s} {rate:7.1f} a second, {statistics.median(ratios):.2f} x bare\n")


def main(data_dir: Path) -> None:
    """Print every row."""
    backbone = load_builtin(torch.device("cpu"))
    lines = (data_dir / "flickr8k/captions.ar.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines[:250]]
    captions = [caption for entry in entries for caption in entry["captions"]]
    paths = [data_dir / "flickr30k-images" / entry["image"] for entry in entries]
    measure(
        "captions, sorted by length",
        lambda: backbone.encode_texts(captions),
        lambda: captions_as_they_come(backbone, captions),
        len(captions),
    )
    measure(
        "pictures, fused, channels last",
        lambda: backbone.encode_pictures(paths),
        lambda: pictures_one_batch_norm_at_a_time(backbone, paths),
        len(paths),
    )
    rows = backbone.tokenizer(captions[:50])
    delta = AdaptedTower(backbone.text_tower, LoraSpec())
    measure(
        "LoRA training step, like lengths",
        lambda: training_step(backbone, delta, rows, padded=False),
        lambda: training_step(backbone, delta, rows, padded=True),
        len(rows),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
