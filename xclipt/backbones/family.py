"""What a family of published dual encoders is to the rest of xclipt: one row a family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.model_files import WEIGHTS
from xclipt.backbones.text_tower import TextTower


@dataclass(frozen=True)
class ImageSide:
    """An image tower with the preprocessing that belongs to it.

    Attributes:
        tower: Pixels ``(batch, 3, height, width)`` -> features ``(batch, dim)``.
        read_pixels: One picture's file -> ``(3, height, width)``.
        preprocessing: What decides the pixels, as plain values.
        dim: Width of the features.
        revision: The repository's, or ``local``.
        files: The files that all this came from.
    """

    tower: nn.Module
    read_pixels: Callable[[Path], Tensor]
    preprocessing: Mapping[str, object]
    dim: int
    revision: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class NamedBackbone:
    """A published model that xclipt knows by a short name.

    Attributes:
        text: Hub id of the text tower.
        image: Hub id of the image tower, or its name at open_clip.
        outline: Makes the text tower on the meta device; needs neither weights nor a network.
    """

    text: str
    image: str
    outline: Callable[[], TextTower]


@dataclass(frozen=True)
class Family:
    """One family: how it is recognised by its ``config.json``, fetched and loaded.

    Attributes:
        name: What people call it, for messages.
        marks: The entries of ``config.json`` that it is recognised by, for messages.
        recognises: Whether a ``config.json`` is of this family.
        files: What a folder must hold; of a tuple the first that is there.
        optional_files: What is taken along where it is there.
        load_text: Text tower and tokenizer from a folder.
        load_images: The image tower that belongs to the folder.
        load_with: The same where the folder is a text tower's alone, and its image tower is that of
            a hub id or another folder; ``None`` where the folder has its own.
        outline: The text tower on the meta device, from the folder's ``config.json`` alone.
        named: Published models by the name that ``backbone`` takes.
        unreadable: Hub ids of published models that cannot be read, and why not.
        config_file: What is written about the model in, by which it is recognised; of a list
            ``recognises`` is given a mapping in which it is ``modules``.
        weights: The names of its weights, in the order in which they are looked for.
        checkpoint: The folder within a model's folder that holds the text tower's checkpoint.
    """

    name: str
    marks: str
    recognises: Callable[[Mapping[str, Any]], bool]
    files: tuple[str | tuple[str, ...], ...]
    optional_files: tuple[str, ...]
    load_text: Callable[[Path], tuple[TextTower, CaptionTokenizer]]
    load_images: Callable[[Path], ImageSide]
    outline: Callable[[Path], TextTower]
    load_with: Callable[[Path, str | Path], ImageSide] | None = None
    named: Mapping[str, NamedBackbone] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    config_file: str = "config.json"
    weights: tuple[str, ...] = WEIGHTS
    checkpoint: str = ""
