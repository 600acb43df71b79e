"""Backbones by name, hub id or folder."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from xclipt.backbones import builtin
from xclipt.backbones.backbone import Backbone, Blueprint, CaptionTokenizer
from xclipt.backbones.catalogue import CATALOGUE
from xclipt.backbones.clip import image_tower_source, load_image_side
from xclipt.backbones.dual_encoder import DUAL_ENCODER
from xclipt.backbones.family import Family, ImageSide, NamedBackbone
from xclipt.backbones.fingerprint import (
    fingerprint,
    is_finite,
    remembered,
    tokenizer_definition,
    tower_weights,
)
from xclipt.backbones.identity import BackboneIdentity
from xclipt.backbones.mclip import MCLIP
from xclipt.backbones.model_files import (
    HUB_ID,
    fetch,
    first_line,
    read_any_json,
    read_json,
    tokenizer_files,
    weights_files,
)
from xclipt.backbones.open_clip import OPEN_CLIP
from xclipt.backbones.sentence_transformers import (
    MODULES,
    SENTENCE_CLIP,
    SENTENCE_TRANSFORMERS,
)
from xclipt.backbones.text_tower import TextTower
from xclipt.errors import XcliptError
from xclipt.files import cache_dir
from xclipt.progress import Progress, Silent

FAMILIES: tuple[Family, ...] = (
    MCLIP,
    DUAL_ENCODER,
    OPEN_CLIP,
    SENTENCE_TRANSFORMERS,
    SENTENCE_CLIP,
)
"""What is known, in the order in which a model's folder is held against it: a row a family."""

_COPY_AGAIN = "; copy the model's folder again"

_UNCLEAN = "A Cat,  a DOG!"
"""What cleaning a text does is told by what becomes of this one."""


def load_backbone(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress,
    image_tower: str | None = None,
) -> Backbone:
    """Load a backbone, frozen and on ``device``.

    Args:
        name: ``builtin``, the name of a published model (:attr:`Family.named
            <xclipt.backbones.family.Family.named>`), or the folder or hub id of a model of one of
            the :data:`FAMILIES`.
        image_tower: Hub id or folder of the image tower, for a model that was published as a text
            tower alone; ``None`` is the one that is known or beside it.

    Raises:
        XcliptError: There is no such backbone, or its weights cannot be had or are damaged.
    """
    source = None if image_tower is None else image_tower_source(image_tower)
    if name == builtin.NAME:
        if source is not None:
            raise _has_its_own(name, image_tower)
        return builtin.load_builtin(device, dtype, progress)
    known = _published(name)
    if known is not None:
        family, published = known
        folder = fetch(published.text, family.files, family.optional_files)
        with _understood(folder):
            text = family.load_text(folder)
        images = load_image_side(source or published.image)
        files = _described_by(family, folder)
        return _assembled(name, folder.name, source, files, text, images, device, dtype)
    folder = _described(name)
    family = _family_of(folder)
    local = Path(name).is_dir()
    if not local:
        folder = fetch(name, family.files, family.optional_files)
    if source is not None and family.load_with is None:
        raise _has_its_own(name, image_tower)
    with _understood(folder):
        if source is None or family.load_with is None:
            images = family.load_images(folder)
        else:
            images = family.load_with(folder, source)
        text = family.load_text(folder)
    identity = (str(folder.resolve()), "local") if local else (name, folder.name)
    files = _described_by(family, folder)
    return _assembled(*identity, source, files, text, images, device, dtype)


@contextmanager
def _understood(folder: Path) -> Iterator[None]:
    """Whatever stands in a model's files, what is wrong with them is one line."""
    try:
        yield
    except XcliptError:
        raise
    except Exception as error:  # of values that fit no model, transformers' are as many as values
        what = f"{type(error).__name__}: {first_line(error)}"
        raise XcliptError(
            f"{folder}: its files describe no model that can be built ({what})"
        ) from error


def blueprint(name: str) -> Blueprint:
    """A backbone's text tower on the meta device.

    For ``builtin``, the named ones and those of the :data:`~xclipt.backbones.catalogue.CATALOGUE`
    neither weights nor a network are needed, for a folder only its ``config.json``.

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
    elif (config := _catalogued(name)) and not Path(name).exists():
        family = next(family for family in FAMILIES if family.recognises(config))
        with TemporaryDirectory() as aside:
            (Path(aside) / family.config_file).write_text(json.dumps(config), encoding="utf-8")
            tower = family.outline(Path(aside))
    else:
        folder = _described(name)
        with _understood(folder):
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
    with _understood(folder):
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
    family = _family_of(folder)
    if not Path(name).is_dir():
        folder = fetch(name, family.files, family.optional_files)
    return folder / family.checkpoint


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


def _catalogued(name: str) -> Mapping[str, Any]:
    """What the catalogue has of a hub id's configuration; empty where it has nothing."""
    return next((row.config for row in CATALOGUE if row.name == name), {})


def _described(name: str) -> Path:
    """The folder that holds the ``config.json`` of a folder's or hub id's model."""
    if Path(name).is_dir():
        return Path(name)
    if HUB_ID.fullmatch(name) and not Path(name).exists():
        for family in FAMILIES:
            if why := family.unreadable.get(name):
                raise XcliptError(why, field="backbone", value=name)
        described = tuple(dict.fromkeys(family.config_file for family in FAMILIES))
        return fetch(name, [described], described)
    names = [short for family in FAMILIES for short in family.named]
    formats = ", ".join(family.name for family in FAMILIES)
    raise XcliptError(
        f"unknown; choose {builtin.NAME}, {', '.join(names)}, or a folder of one of: {formats}",
        field="backbone",
        value=name,
    )


def _family_of(folder: Path) -> Family:
    """The first family of the folder: of several with weights there, where they are."""
    configs = {family.config_file: folder / family.config_file for family in FAMILIES}
    described = {name: _read(path) for name, path in configs.items() if path.is_file()}
    first = configs[next(iter(described), "config.json")]
    if not described:
        read_json(first)  # tells why it cannot
    plain = {name: config for name, config in described.items() if not config.get("auto_map")}
    fitting = [f for f in FAMILIES if f.config_file in plain and f.recognises(plain[f.config_file])]
    # A checkpoint that has modules is more than its config.json says.
    fitting.sort(key=lambda family: family.config_file != MODULES)
    complete = [f for f in fitting if any((folder / name).is_file() for name in f.weights)]
    if fitting:
        return (complete or fitting)[0]
    if first.name not in plain:
        raise XcliptError(
            f"{first}: the model is code that lies beside its weights (auto_map, which "
            "trust_remote_code would run), and xclipt runs no code from a model's folder; choose "
            f"one without, {_formats()}"
        )
    known = " nor ".join(f"{family.name} ({family.marks})" for family in FAMILIES)
    raise XcliptError(f"{first}: neither {known}")


def _read(path: Path) -> dict[str, Any]:
    if path.name != MODULES:
        return read_json(path, _COPY_AGAIN)
    modules = read_any_json(path)
    if not isinstance(modules, list):
        raise XcliptError(f"{path}: not a list of modules{_COPY_AGAIN}")
    return {"modules": modules}


def _formats() -> str:
    return " or ".join(f"{family.name} ({family.marks})" for family in FAMILIES)


def _has_its_own(name: str, image_tower: str | None) -> XcliptError:
    return XcliptError(
        f"{name} has an image tower of its own; leave it out",
        field="image_tower",
        value=image_tower,
    )


def _described_by(family: Family, folder: Path) -> list[Path]:
    return [*weights_files(folder, family.weights), folder / family.config_file]


def _assembled(
    name: str,
    revision: str,
    image_tower: str | Path | None,
    described_by: list[Path],
    text: tuple[TextTower, CaptionTokenizer],
    images: ImageSide,
    device: torch.device,
    dtype: torch.dtype,
) -> Backbone:
    tower, tokenizer = text
    preprocessing: dict[str, object] = {
        "text_prefix": tokenizer.prefix,
        "max_tokens": tokenizer.max_length,
        "pooling": tower.pooling.value,
        "pixels": images.preprocessing,
    }
    if tokenizer.padded:  # without a mask the padding counts
        preprocessing["padding"] = tokenizer.tokenizer.pad_token_id
    if tokenizer.clean is not str:
        preprocessing["cleaning"] = tokenizer.clean(_UNCLEAN)

    def measure() -> str:
        weights = tower_weights(tower, images.tower)
        for where, tensor in weights.items():
            if not is_finite(tensor):
                raise XcliptError(
                    f"{name}: {where} holds values that are not finite; get its weights anew"
                )
        return fingerprint(weights, tokenizer_definition(tokenizer.tokenizer), preprocessing)

    projections = [p for p in tower.head.parameters() if p.ndim == 2]
    dim = projections[-1].shape[0] if projections else images.dim
    if dim != images.dim:
        raise XcliptError(
            f"{name}: the text tower has {dim} dimensions, the image tower {images.dim}; they are "
            "of different models"
        )
    for side in (tower, images.tower):
        side.eval().requires_grad_(False).to(device)
    files = [*described_by, *images.files]
    # Where the tokenizer was read: a folder may leave it to another.
    files += tokenizer_files(Path(tokenizer.tokenizer.name_or_path))
    return Backbone(
        identity=BackboneIdentity(
            name,
            f"{revision[:12]}+{images.revision[:12]}",
            _remembered(files, images, measure),
            None if image_tower is None else str(image_tower),
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
        pixels=images.preprocessing,
    )


def _remembered(files: list[Path], images: ImageSide, measure: Callable[[], str]) -> str:
    if not images.files:  # open_clip does not say where its weights lie
        return measure()
    name = hashlib.sha256("\n".join(str(path.resolve()) for path in files).encode()).hexdigest()
    return remembered(cache_dir() / "fingerprints" / f"{name[:16]}.json", files, measure)
