"""Encoding photographs from JPEG files against a plain loop over the same network."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from tests.benchmarks.material import as_jpeg, builtin, photographs, source
from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    at_least,
    cores,
    interleaved,
)
from tests.factories.models import VOCABULARY, write_tokenizer
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import ImageTower, load_efficientnet
from xclipt.backbones.registry import load_backbone
from xclipt.progress import Silent

_BATCH = 32
_CAMERA = (2000, 1500)


def encoding(setting: Setting) -> Measured:
    """The builtin network and one of ViT-B/32's shape, on files as they are and enlarged."""
    paths = photographs(setting, setting.size(2000, least=4))
    few = paths[: max(4, len(paths) // 10)]
    large = as_jpeg(few, setting.folder / "camera", _CAMERA)
    own, clip = builtin(setting.device), _vit_b32(setting)
    network = _as_published(own)
    model, processor = _transformers(setting)
    taken = interleaved(
        {
            "builtin": partial(own.encode_pictures, paths),
            "the published network": partial(_loop, own, network, paths),
            "builtin, 3 megapixels": partial(own.encode_pictures, large),
            "the same, 3 megapixels": partial(_loop, own, network, large),
            "ViT-B/32": partial(clip.encode_pictures, few),
            "transformers, ViT-B/32": partial(_plain_clip, model, processor, few),
        },
        setting,
        warm=False,
    )
    return Measured(
        (
            taken.times_as_fast(
                "builtin",
                "the published network",
                at_least(2),
                f"{len(paths):,} JPEG files of 224 x 224, or {len(few):,} of them; batches of "
                f"{_BATCH} {source(setting)}".strip(),
            ),
            taken.times_as_fast(
                "builtin, 3 megapixels", "the same, 3 megapixels", at_least(2), "enlarged"
            ),
            taken.times_as_fast(
                "ViT-B/32", "transformers, ViT-B/32", at_least(2), "ViT-B/32 of random weights"
            ),
            _busy(own, paths),
        )
    )


def _busy(backbone: Backbone, paths: Sequence[Path]) -> Figure:
    """Processor time over wall time: whether every core decodes or computes."""
    started, used = time.perf_counter(), time.process_time()
    backbone.encode_pictures(paths)
    used, wall = time.process_time() - used, time.perf_counter() - started
    every = cores()
    target = at_least(0.9 * every) if backbone.device.type == "cpu" else None
    return Figure("builtin, cores busy", f"of {every}", used / wall, unit="", target=target)


def _as_published(backbone: Backbone) -> ImageTower:
    """Batch norms not folded, memory format as it comes: what a hub of models gives."""
    head = backbone.image_tower.get_submodule("head")
    tower = ImageTower(load_efficientnet(), head)
    return tower.eval().to(backbone.device)


def _loop(backbone: Backbone, tower: ImageTower, paths: Sequence[Path]) -> None:
    with torch.inference_mode():
        for start in range(0, len(paths), _BATCH):
            pixels = [backbone.read_pixels(path) for path in paths[start : start + _BATCH]]
            tower(torch.stack(pixels).to(backbone.device)).cpu()


def _vit_b32(setting: Setting) -> Backbone:
    folder = _clip_folder(setting)
    return load_backbone(str(folder), setting.device, torch.float32, Silent())


def _transformers(setting: Setting) -> tuple[CLIPModel, CLIPImageProcessorPil]:
    folder = _clip_folder(setting)
    model: Any = CLIPModel.from_pretrained(folder)
    return model.eval().to(setting.device), CLIPImageProcessorPil.from_pretrained(folder)


def _clip_folder(setting: Setting) -> Path:
    """A CLIP whose image tower is ViT-B/32's, its text tower next to nothing."""
    folder = setting.folder / "vit-b-32"
    if not folder.exists():
        torch.manual_seed(0)
        small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        text = {**small, "num_attention_heads": 2, "vocab_size": VOCABULARY}
        ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        CLIPModel(CLIPConfig(text_config={**text, **ends})).save_pretrained(folder)
        write_tokenizer(folder)
        CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def _plain_clip(model: CLIPModel, processor: CLIPImageProcessorPil, paths: Sequence[Path]) -> None:
    with torch.inference_mode():
        for start in range(0, len(paths), _BATCH):
            opened = [Image.open(path).convert("RGB") for path in paths[start : start + _BATCH]]
            pixels = processor(opened, return_tensors="pt").to(model.device)
            model.get_image_features(**pixels)


ROWS = (Row("pictures", "encoding photographs from JPEG files", encoding),)
