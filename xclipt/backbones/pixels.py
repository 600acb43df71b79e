"""Pictures as an image tower of transformers wants them, by the settings beside its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from xclipt.backbones.model_files import first_line, read_json
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError

PIXEL_FILES = ("processor_config.json", "preprocessor_config.json")
"""Where the settings stand: transformers 5 writes the first, as ``image_processor`` in it; earlier
versions the second."""

_SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale"),
    *("rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)


@dataclass(frozen=True)
class Pixels:
    """How pictures become pixels.

    Attributes:
        read: One picture's file -> ``(3, height, width)``.
        plain: What decides the pixels, as plain values.
        files: What was read.
    """

    read: Callable[[Path], Tensor]
    plain: Mapping[str, object]
    files: tuple[Path, ...]


def load_pixels(folder: Path, size: int, *, clip: bool) -> Pixels:
    """The preprocessing that a folder describes.

    It is Pillow's whatever else is installed: others round pixels differently.

    Args:
        folder: Of an image tower.
        size: Height and width of the pictures that the tower takes.
        clip: The tower is a CLIP. Where there are no settings it has those of CLIP's paper, as
            transformers gives them to it; other models are refused without.

    Raises:
        XcliptError: There are no settings, they cannot be read, or they are another tower's.
    """
    from PIL import Image
    from transformers import AutoImageProcessor, CLIPImageProcessorPil

    path, settings = _described(folder)
    square = {"height": size, "width": size}
    own: dict[str, Any] = {"size": {"shortest_edge": size}, "crop_size": square} if clip else {}
    own = {name: value for name, value in own.items() if name not in settings}
    if path is None and not clip:
        raise XcliptError(
            f"{folder}: has no {' and no '.join(PIXEL_FILES)}, so how pictures are resized and "
            "normalised is not known; put the model's own there"
        )
    try:
        processor: Any
        automatic: Any = AutoImageProcessor
        if clip and not settings.keys() & {"image_processor_type", "feature_extractor_type"}:
            given = {name: settings[name] for name in _SETTINGS if name in settings}
            processor = CLIPImageProcessorPil(**own, **given)
        else:
            processor = automatic.from_pretrained(
                folder, backend="pil", local_files_only=True, trust_remote_code=False, **own
            )
        shapes = {
            tuple(_pixels(processor, Image.new("RGB", size)).shape) for size in ((48, 64), (64, 40))
        }
    except Exception as error:  # transformers' are as many as the fields of its settings
        raise XcliptError(f"{path}: cannot read ({first_line(error)})") from None
    if shapes != {(3, size, size)}:
        found = " and ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise XcliptError(
            f"{path}: makes pictures of {found}, the image tower takes 3x{size}x{size}; "
            "these are another model's settings"
        )
    return Pixels(
        read=lambda picture: read_pixels(processor, picture),
        plain=_plain(processor),
        files=tuple(folder / name for name in PIXEL_FILES if (folder / name).is_file()),
    )


def read_pixels(processor: Any, path: Path) -> Tensor:
    """One picture as the tower wants it ``(3, height, width)``: resized, cropped, normalised.

    Raises:
        XcliptError: The file is not a picture.
    """
    return _pixels(processor, load_picture(path))


def _pixels(processor: Any, picture: Any) -> Tensor:
    pixels: Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
    return pixels


def _described(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """The file that holds the settings, and they; in the order in which transformers looks."""
    both, alone = (folder / name for name in PIXEL_FILES)
    if both.is_file():
        nested = read_json(both, "; copy it again").get("image_processor")
        if isinstance(nested, dict):
            return both, nested
    if alone.is_file():
        return alone, read_json(alone, "; copy it again")
    return None, {}


def _plain(processor: Any) -> dict[str, object]:
    settings: dict[str, Any] = {name: getattr(processor, name, None) for name in _SETTINGS}
    for name in ("size", "crop_size"):
        if settings[name] is not None:
            settings[name] = {k: v for k, v in dict(settings[name]).items() if v is not None}
    settings["resample"] = None if settings["resample"] is None else int(settings["resample"])
    for name in ("image_mean", "image_std"):
        settings[name] = list(settings[name] or ())
    kind = type(processor).__name__
    # CLIP's goes without saying: fingerprints of many directories do.
    return settings if kind == "CLIPImageProcessorPil" else settings | {"processor": kind}
