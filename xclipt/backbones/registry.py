"""Backbones by name, hub id or folder."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch

from xclipt.artifacts.cache import cache_dir
from xclipt.backbones.backbone import (
    Backbone,
    BackboneIdentity,
    CaptionTokenizer,
    TextTower,
)
from xclipt.backbones.builtin import (
    NAME,
    converted_text_tower,
    empty_text_tower,
    load_builtin,
)
from xclipt.backbones.clip import (
    WEIGHTS,
    ImageSide,
    empty_clip_text,
    load_clip_text,
    load_image_side,
    weights_file,
)
from xclipt.backbones.fingerprint import (
    fingerprint,
    remembered,
    tokenizer_definition,
    tower_weights,
)
from xclipt.backbones.hub import fetch
from xclipt.backbones.mclip import (
    FILES,
    IMAGE_TOWER_OF_WIDTH,
    NAMED,
    OPTIONAL_FILES,
    NamedBackbone,
    empty_mclip_text,
    encoder_config,
    is_mclip,
    load_mclip_text,
    read_config,
)
from xclipt.errors import XcliptError
from xclipt.progress import Progress, Silent

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_IMAGE_FOLDER = "image"
_CLIP_FILES = ("config.json", "tokenizer.json", WEIGHTS)
_CLIP_OPTIONAL = (*OPTIONAL_FILES, "preprocessor_config.json")


def load_backbone(
    name: str, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Backbone:
    """Load a backbone, frozen and on ``device``.

    Args:
        name: ``builtin``, a name of :data:`~xclipt.backbones.mclip.NAMED`, a folder in M-CLIP's
            format (its image tower is the folder ``image`` in it, else the published one of its
            width), a CLIP folder of transformers, or the hub id of either.

    Raises:
        XcliptError: There is no such backbone, or its weights cannot be had or are damaged.
    """
    if name == NAME:
        return load_builtin(device, dtype, progress)
    row, folder = _find(name)
    if row is not None:
        folder = fetch(row.text, FILES, OPTIONAL_FILES)
        text, images = load_mclip_text(folder), load_image_side(row.image)
        return _assembled(name, folder.name, "bert", folder, text, images, device, dtype)
    assert folder is not None
    config = read_config(folder)
    revision = "local" if Path(name).is_dir() else folder.name
    stays = str(folder.resolve()) if Path(name).is_dir() else name
    if is_mclip(config):
        beside = folder / _IMAGE_FOLDER
        source = beside if beside.is_dir() else IMAGE_TOWER_OF_WIDTH.get(config["numDims"])
        if source is None:
            raise XcliptError(
                f"{folder}: no published image tower has {config['numDims']} dimensions; put one "
                f"into {beside}"
            )
        if not Path(name).is_dir():
            folder = fetch(name, FILES, OPTIONAL_FILES)
        text, images = load_mclip_text(folder), load_image_side(source)
        return _assembled(stays, revision, "bert", folder, text, images, device, dtype)
    if not Path(name).is_dir():
        folder = fetch(name, _CLIP_FILES, _CLIP_OPTIONAL)
    text, images = load_clip_text(folder), load_image_side(folder)
    return _assembled(stays, revision, "clip", folder, text, images, device, dtype)


def empty_tower(name: str) -> tuple[TextTower, str]:
    """The text tower of a backbone on the meta device, and its family.

    For ``builtin`` and the named ones neither weights nor a network are needed, for a folder only
    its ``config.json``.

    Raises:
        XcliptError: There is no such backbone.
    """
    if name == NAME:
        return empty_text_tower(), "bert"
    row, folder = _find(name)
    if row is not None:
        return empty_mclip_text(row.encoder, row.dim), "bert"
    assert folder is not None
    config = read_config(folder)
    if is_mclip(config):
        known = {row.encoder["hidden_size"]: row.encoder["vocab_size"] for row in NAMED.values()}
        vocabulary = known.get(config["transformerDimensions"], 0)
        return empty_mclip_text(encoder_config(config, vocabulary), config["numDims"]), "bert"
    return empty_clip_text(folder), "clip"


def text_folder(name: str) -> Path:
    """The folder with the checkpoint of a backbone's text tower, in the format it is published in.

    Args:
        name: As :func:`load_backbone` takes it.

    Raises:
        XcliptError: There is no such backbone, or its weights cannot be had.
    """
    if name == NAME:
        return converted_text_tower(Silent())
    row, folder = _find(name)
    if row is not None:
        return fetch(row.text, FILES, OPTIONAL_FILES)
    assert folder is not None
    if Path(name).is_dir():
        return folder
    if is_mclip(read_config(folder)):
        return fetch(name, FILES, OPTIONAL_FILES)
    return fetch(name, _CLIP_FILES, _CLIP_OPTIONAL)


def _find(name: str) -> tuple[NamedBackbone | None, Path | None]:
    """The row of a published model, or the folder with the ``config.json`` of another."""
    if name in NAMED:
        return NAMED[name], None
    if Path(name).is_dir():
        folder = Path(name)
    elif _HUB_ID.fullmatch(name) and not Path(name).exists():
        for row in NAMED.values():
            if row.text == name:
                return row, None
        folder = fetch(name, ["config.json"])
    else:
        raise XcliptError(
            f"--backbone {name}: unknown; choose {NAME}, {', '.join(NAMED)}, or a folder in "
            "M-CLIP's or CLIP's format"
        )
    config = read_config(folder)
    if not is_mclip(config) and config.get("model_type") != "clip":
        raise XcliptError(
            f"{folder / 'config.json'}: neither M-CLIP (numDims, transformerDimensions) nor CLIP "
            "(model_type clip)"
        )
    return None, folder


def _assembled(
    name: str,
    revision: str,
    family: str,
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
    files += [p for p in [folder / "tokenizer.json"] if p.is_file()]
    return Backbone(
        identity=BackboneIdentity(
            name, f"{revision[:12]}+{images.revision[:12]}", _remembered(files, images, measure)
        ),
        family=family,
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
