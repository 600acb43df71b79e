"""An image tower by itself: CLIP's as transformers or open_clip has it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones import dual_encoder
from xclipt.backbones.family import ImageSide
from xclipt.backbones.model_files import (
    HUB_ID,
    WEIGHTS,
    fetch,
    first_line,
    from_pretrained,
    read_config,
    weights_files,
)
from xclipt.backbones.pixels import PIXEL_FILES, load_pixels
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError

OPEN_CLIP = "open_clip:"
"""What an image tower's source starts with when open_clip has it: ``open_clip:MODEL/WEIGHTS``."""


class _Embeddings(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model(pixel_values=pixels).image_embeds
        return features


def load_image_side(source: str | Path) -> ImageSide:
    """An image tower from a folder, a hub id, or open_clip.

    A folder may hold a CLIP's image tower alone, or a whole dual encoder.

    Args:
        source: A path is a folder.

    Raises:
        XcliptError: Its weights cannot be had, are damaged, or are not an image tower's.
    """
    if isinstance(source, str) and source.startswith(OPEN_CLIP):
        return _from_open_clip(*source.removeprefix(OPEN_CLIP).split("/"))
    if isinstance(source, Path):
        return _from_folder(source)
    folder = fetch(source, ["config.json", WEIGHTS], PIXEL_FILES, field="image_tower")
    return replace(_from_folder(folder), revision=folder.name)


def image_tower_source(name: str) -> str | Path:
    """What :func:`load_image_side` takes for the name that a user gave: a folder where it is one.

    Raises:
        XcliptError: It is neither a folder nor the name of a published model.
    """
    if Path(name).is_dir():
        return Path(name).resolve()
    if HUB_ID.fullmatch(name) and not Path(name).exists():
        return name
    if name.startswith(OPEN_CLIP) and name.count("/") == 1:
        return name
    raise XcliptError(
        f"no folder, and no hub id; choose one such as openai/clip-vit-base-patch32, or "
        f"{OPEN_CLIP}MODEL/WEIGHTS",
        field="image_tower",
        value=name,
    )


def _from_folder(folder: Path) -> ImageSide:
    weights = weights_files(folder)
    if read_config(folder).get("model_type") in dual_encoder.TYPES:
        return dual_encoder.load_images(folder)
    from transformers import CLIPVisionModelWithProjection

    model = from_pretrained(CLIPVisionModelWithProjection, folder, "CLIP")
    pixels = load_pixels(folder, model.config.image_size, clip=True)
    return ImageSide(
        tower=_Embeddings(model),
        read_pixels=pixels.read,
        preprocessing=pixels.plain,
        dim=model.config.projection_dim,
        revision="local",
        files=(*weights, folder / "config.json", *pixels.files),
    )


def import_open_clip(what: str) -> Any:
    """The ``open_clip`` module.

    Args:
        what: What needs it, for the message.

    Raises:
        XcliptError: It is not installed, or cannot be imported.
    """
    try:
        import open_clip
    except ImportError:
        raise XcliptError(f"{what} needs open_clip: pip install 'xclipt[open-clip]'") from None
    except Exception as error:  # torchvision's, where its build is not that of torch
        raise XcliptError(
            f"{what} needs open_clip, which cannot be imported ({first_line(error)}); install the "
            f"torchvision that belongs to torch {torch.__version__}"
        ) from None
    return open_clip


def _from_open_clip(name: str, weights: str) -> ImageSide:
    open_clip = import_open_clip(f"the image tower {name}")
    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=weights)
    except Exception as error:  # its errors are as many as its sources of weights
        raise XcliptError(
            f"open_clip {name}/{weights}: cannot load ({first_line(error)}); fetch it once where "
            "there is a network and copy the hub's cache"
        ) from None
    return ImageSide(
        tower=model.visual,
        read_pixels=lambda path: transform(load_picture(path)),
        preprocessing=model.visual.preprocess_cfg,
        dim=model.visual.output_dim,
        revision=weights,
        files=(),
    )
