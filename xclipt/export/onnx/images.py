"""The image tower as an ONNX graph, and its preprocessing as a JSON that a few lines follow."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xclipt.backbones.backbone import Backbone
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError
from xclipt.export.onnx import graph

PREPROCESSING = "preprocessor_config.json"
"""In the words of transformers' file of this name."""

_INPUT = "pixels"
_SAME = 1e-4  # pixels are of the order of one


def write_images(backbone: Backbone, folder: Path, format: str, unknown: XcliptError) -> list[Path]:
    """Write ``model.onnx``, pixels ``(batch, 3, height, width)`` -> features, and how pixels come.

    Args:
        backbone: Whose image tower it is.
        folder: An empty one.
        format: The format that asks for it, for messages.
        unknown: Raised where its preprocessing is not one that the JSON can describe.

    Raises:
        FailedError: The tower cannot be exported, or the graph is not equal to PyTorch.
    """
    tower = copy.deepcopy(backbone.image_tower).cpu().eval()
    described = _described(backbone.pixels)
    with TemporaryDirectory() as aside:
        pictures = _pictures(Path(aside), backbone, described, unknown)
    (folder / PREPROCESSING).write_text(json.dumps(described, indent=2), "utf-8")
    shapes = {"pixels": {0: torch.export.Dim("batch")}}
    module = _Pixels(tower)
    program = graph.exported(format, module, [pictures[:2]], [_INPUT], shapes)
    program.model.metadata_props["backbone_fingerprint"] = backbone.identity.fingerprint
    path = folder / graph.GRAPH
    graph.save(program, path, module)
    session = graph.open_session(path)
    differences = []
    for batch in (pictures, pictures[:1]):
        with torch.no_grad():
            ours = module(batch)
        theirs = graph.run(session, {_INPUT: batch.numpy()})
        differences.append(graph.difference(theirs, ours))
    graph.require_close(differences, format)
    return sorted(folder.iterdir())


class _Pixels(torch.nn.Module):
    """A tower whose one argument is called as the graph's input is."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.tower(pixels)
        return features


def _described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in transformers' words, less what is not done; empty where they are in others."""
    try:
        size = settings["size"]
        square = {key: size[key] for key in ("height", "width") if key in size}
        crop = settings.get("crop_size") if settings.get("do_center_crop") else None
        return {
            "size": {"shortest_edge": size["shortest_edge"]} if "shortest_edge" in size else square,
            "resample": settings["resample"],
            "crop_size": {key: (crop or size)[key] for key in ("height", "width")},
            "rescale_factor": settings["rescale_factor"],
            "image_mean": [*settings["image_mean"]],
            "image_std": [*settings["image_std"]],
        }
    except (KeyError, TypeError):
        return {}


def read_described(described: Mapping[str, Any], path: Path) -> NDArray[np.float32]:
    """A picture's pixels ``(3, height, width)`` as the JSON says, with nothing but Pillow.

    It is what :data:`PREPROCESSING` means: what the backbone reads is held against it.
    """
    picture = load_picture(path)
    if edge := described["size"].get("shortest_edge"):
        short = min(picture.size)
        wide, high = (int(edge * side / short) for side in picture.size)
    else:
        wide, high = described["size"]["width"], described["size"]["height"]
    pixels = np.asarray(picture.resize((wide, high), described["resample"]), np.float32)
    height, width = described["crop_size"]["height"], described["crop_size"]["width"]
    top, left = (high - height) // 2, (wide - width) // 2
    pixels = pixels[top : top + height, left : left + width] * described["rescale_factor"]
    pixels = (pixels - described["image_mean"]) / described["image_std"]
    read: NDArray[np.float32] = pixels.transpose(2, 0, 1).astype(np.float32)
    return read


def _pictures(
    folder: Path, backbone: Backbone, described: Mapping[str, Any], unknown: XcliptError
) -> torch.Tensor:
    """Pixels of pictures of several shapes, ``(3, 3, height, width)``, read in both ways."""
    from PIL import Image

    if not described:
        raise unknown
    height, width = described["crop_size"]["height"], described["crop_size"]["width"]
    drawn = np.random.default_rng(0)
    read = []
    # Odd differences, which round in one way or the other, and one that is enlarged.
    for name, wide, high in (
        ("wide", 2 * width + 5, height + 2),
        ("tall", width + 3, 2 * height + 7),
        ("small", width // 2 + 1, height // 3 + 1),
    ):
        blocks = drawn.integers(0, 256, (7, 9, 3), np.uint8)
        path = folder / f"{name}.png"
        Image.fromarray(blocks).resize((wide, high), Image.Resampling.BICUBIC).save(path)
        own = backbone.read_pixels(path)
        if not np.abs(own.numpy() - read_described(described, path)).max() <= _SAME:
            raise unknown
        read.append(own)
    return torch.stack(read).contiguous()
