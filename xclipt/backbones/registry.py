"""Backbones by name, hub id or folder."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch

from xclipt.backbones import builtin
from xclipt.backbones.backbone import Backbone, BackboneIdentity, Blueprint, CaptionTokenizer
from xclipt.backbones.clip import CLIP, load_image_side
from xclipt.backbones.family import Family, ImageSide, NamedBackbone
from xclipt.backbones.fingerprint import (
    fingerprint,
    remembered,
    tokenizer_definition,
    tower_weights,
)
from xclipt.backbones.mclip import MCLIP
from xclipt.backbones.model_files import fetch, read_config, weights_file
from xclipt.backbones.text_tower import TextTower
from xclipt.errors import XcliptError
from xclipt.files import cache_dir
from xclipt.progress import Progress, Silent

FAMILIES: tuple[Family, ...] = (MCLIP, CLIP)
"""What is known, in the order in which a ``config.json`` is held against it: a row a family."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_backbone(
    name: str, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Backbone:
    """Load a backbone, frozen and on ``device``.

    Args:
        name: ``builtin``, the name of a published model (:attr:`Family.named
            <xclipt.backbones.family.Family.named>`), or the folder or hub id of a model of one of
            the :data:`FAMILIES`.

    Raises:
        XcliptError: There is no such backbone, or its weights cannot be had or are damaged.
    """
    if name == builtin.NAME:
        return builtin.load_builtin(device, dtype, progress)
    known = _published(name)
    if known is not None:
        family, published = known
        folder = fetch(published.text, family.files, family.optional_files)
        text, images = family.load_text(folder), load_image_side(published.image)
        return _assembled(name, folder.name, folder, text, images, device, dtype)
    folder = _described(name)
    family = _family_of(folder)
    local = Path(name).is_dir()
    images = family.load_images(folder)
    if not local:
        folder = fetch(name, family.files, family.optional_files)
    identity = (str(folder.resolve()), "local") if local else (name, folder.name)
    return _assembled(*identity, folder, family.load_text(folder), images, device, dtype)


def blueprint(name: str) -> Blueprint:
    """A backbone's text tower on the meta device.

    For ``builtin`` and the named ones neither weights nor a network are needed, for a folder only
    its ``config.json``.

    Args:
        name: As :func:`load_backbone` takes it.

    Raises:
        XcliptError: There is no such backbone.
    """
    warm_start = None
    if name == builtin.NAME:
        tower, warm_start = builtin.outline(), builtin.WARM_START
    elif known := _published(name):
        tower = known[1].outline()
    else:
        folder = _described(name)
        tower = _family_of(folder).outline(folder)
    return Blueprint(tower.eval().requires_grad_(False), warm_start)


def load_caption_tokenizer(name: str) -> tuple[CaptionTokenizer, int]:
    """A backbone's tokenizer, and how many tokens of a caption its text tower sees.

    Args:
        name: As :func:`load_backbone` takes it.

    Raises:
        XcliptError: There is no such backbone, or its files cannot be had.
    """
    if name == builtin.NAME:
        tokenizer = builtin.caption_tokenizer()
        return tokenizer, tokenizer.max_length
    known = _published(name)
    folder = text_folder(name)
    family = known[0] if known else _family_of(folder)
    tower, tokenizer = family.load_text(folder)
    return tokenizer, min(tokenizer.max_length, tower.max_length or tokenizer.max_length)


def text_folder(name: str) -> Path:
    """The folder with the checkpoint of a backbone's text tower, in the format it is published in.

    Args:
        name: As :func:`load_backbone` takes it.

    Raises:
        XcliptError: There is no such backbone, or its weights cannot be had.
    """
    if name == builtin.NAME:
        return builtin.converted_text_tower(Silent())
    known = _published(name)
    if known is not None:
        family, published = known
        return fetch(published.text, family.files, family.optional_files)
    folder = _described(name)
    if Path(name).is_dir():
        return folder
    family = _family_of(folder)
    return fetch(name, family.files, family.optional_files)


def hub_id(name: str) -> str | None:
    """The hub's name of what a backbone's text tower was published as; ``None`` for a folder."""
    if name == builtin.NAME:
        return builtin.HUB_ID
    if Path(name).is_absolute():
        return None
    known = _published(name)
    return known[1].text if known else name


def _published(name: str) -> tuple[Family, NamedBackbone] | None:
    for family in FAMILIES:
        for short, published in family.named.items():
            if name == short or (name == published.text and not Path(name).exists()):
                return family, published
    return None


def _described(name: str) -> Path:
    """The folder that holds the ``config.json`` of a folder's or hub id's model."""
    if Path(name).is_dir():
        return Path(name)
    if _HUB_ID.fullmatch(name) and not Path(name).exists():
        for family in FAMILIES:
            if why := family.unreadable.get(name):
                raise XcliptError(why, field="backbone", value=name)
        return fetch(name, ["config.json"])
    names = [short for family in FAMILIES for short in family.named]
    formats = " or ".join(f"{family.name}'s" for family in FAMILIES)
    raise XcliptError(
        f"unknown; choose {builtin.NAME}, {', '.join(names)}, or a folder in {formats} format",
        field="backbone",
        value=name,
    )


def _family_of(folder: Path) -> Family:
    config = read_config(folder)
    for family in FAMILIES:
        if family.recognises(config):
            return family
    known = " nor ".join(f"{family.name} ({family.marks})" for family in FAMILIES)
    raise XcliptError(f"{folder / 'config.json'}: neither {known}")


def _assembled(
    name: str,
    revision: str,
    folder: Path,
    text: tuple[TextTower, CaptionTokenizer],
    images: ImageSide,
    device: torch.device,
    dtype: torch.dtype,
) -> Backbone:
    tower, tokenizer = text
    preprocessing = {
        "text_prefix": tokenizer.prefix,
        "max_tokens": tokenizer.max_length,
        "pooling": "its own" if tower.pools_itself else "masked mean",
        "pixels": images.preprocessing,
    }

    def measure() -> str:
        weights = tower_weights(tower, images.tower)
        for where, tensor in weights.items():
            if not tensor.isfinite().all():
                raise XcliptError(
                    f"{name}: {where} holds values that are not finite; get its weights anew"
                )
        return fingerprint(weights, tokenizer_definition(tokenizer.tokenizer), preprocessing)

    dim = sum(p.shape[0] for n, p in tower.head.named_parameters() if n == "weight")
    if dim != images.dim:
        raise XcliptError(
            f"{name}: the text tower has {dim} dimensions, the image tower {images.dim}; they are "
            "of different models"
        )
    for side in (tower, images.tower):
        side.eval().requires_grad_(False).to(device)
    files = [weights_file(folder), folder / "config.json", *images.files]
    # Where the tokenizer was read: a folder may leave it to another.
    tokenizer_file = Path(tokenizer.tokenizer.name_or_path) / "tokenizer.json"
    files += [p for p in [tokenizer_file] if p.is_file()]
    return Backbone(
        identity=BackboneIdentity(
            name, f"{revision[:12]}+{images.revision[:12]}", _remembered(files, images, measure)
        ),
        text_tower=tower,
        image_tower=images.tower,
        tokenizer=tokenizer,
        read_pixels=images.read_pixels,
        text_parameters=sum(parameter.numel() for parameter in tower.parameters()),
        dim=dim,
        device=device,
        dtype=dtype,
        measure_fingerprint=measure,
    )


def _remembered(files: list[Path], images: ImageSide, measure: Callable[[], str]) -> str:
    if not images.files:  # open_clip does not say where its weights lie
        return measure()
    name = hashlib.sha256("\n".join(str(path.resolve()) for path in files).encode()).hexdigest()
    return remembered(cache_dir() / "fingerprints" / f"{name[:16]}.json", files, measure)
