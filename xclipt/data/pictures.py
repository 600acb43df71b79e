"""Picture files: which are there, which are broken, and one as an RGB image."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.errors import XcliptError
from xclipt.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 89_478_485
"""The largest picture that is opened: 256 MiB as RGB, the limit that Pillow warns at."""

_PLUGINS = (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None), ("pillow_avif", None))
"""Packages that teach Pillow a format, where they are installed, and what has to be called."""

_NO_PHOTOGRAPHS = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))
"""Formats that Pillow lists and opens only with programs of others, or not as pictures."""

UNREAD = "Pillow alone cannot read"
"""How the reason begins where another package would read the file."""

_HEIF, _JXL = "`pip install pillow-heif`", "`pip install pillow-jxl-plugin`"
_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), _HEIF),
    ".jxl": _JXL,
    ".avif": "`pip install pillow-avif-plugin`",
    ".svg": "convert it to PNG",
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"), "convert it to JPEG"
    ),
}
"""What helps where Pillow does not open files of an ending that are pictures all the same."""

_CONTENTS = (
    (re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|mif1|msf1)", re.DOTALL), ".heic"),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), ".jxl"),
)
"""By what they begin with: telephones call HEIC files .jpg too."""

_SCALES = {
    "I;16": ((65535, 1 / 256),),
    "I": ((255, 1), (65535, 1 / 256)),
    "F": ((1, 255), (255, 1)),
}
"""What white may be, and what makes it 255: 32 bits do not say, but the samples do."""

_NO_NAME = re.compile(r"^$|[\x00-\x1f\x7f\ud800-\udfff]")
_NO_UTF8 = re.compile(r"[\ud800-\udfff]")
_UNSAFE_NAME = re.compile(rf"{_NO_NAME.pattern}|^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")


@dataclass(frozen=True)
class BrokenPicture:
    """A file that is not a usable picture, and why."""

    path: Path
    reason: str


def check_picture_name(image: str, where: str, *, anywhere: bool = False) -> None:
    """Refuse a name that is not a relative path inside its folder.

    Args:
        image: The name.
        where: File and line; opens the message.
        anywhere: The file is the user's own: its pictures may lie in other folders.

    Raises:
        XcliptError: It is absolute, holds ``..`` or a backslash; or, wherever it may lie, it is
            empty, is not UTF-8 or holds control characters.
    """
    if _NO_UTF8.search(image):
        raise XcliptError(f"{where}: picture name {image!r} is not UTF-8; rename the file")
    if anywhere:
        if _NO_NAME.search(image):
            raise XcliptError(f"{where}: picture name {image!r} is empty or no name of a file")
    elif _UNSAFE_NAME.search(image):
        raise XcliptError(
            f"{where}: picture name {image!r} must be a relative path without '..' or backslashes"
        )


@cache
def picture_suffixes() -> frozenset[str]:
    """The endings of files that are pictures and can be opened here, in lower case."""
    from PIL import Image

    _register_plugins()
    Image.init()
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NO_PHOTOGRAPHS
    )


def is_unread_picture(path: Path) -> bool:
    """Whether a file is a picture by its ending, and of a kind that cannot be opened here."""
    suffix = path.suffix.lower()
    return suffix in _REMEDIES and suffix not in picture_suffixes()


def pictures_in(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """The pictures of a folder and of those below it, sorted, by the endings of their names.

    Links to folders and hidden names are passed by.

    Returns:
        Those that can be opened here, and how many others there are, by their endings.
    """
    found: list[Path] = []
    unread: Counter[str] = Counter()
    readable = picture_suffixes()
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(where, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in readable:
                found.append(path)
            elif is_unread_picture(path):
                unread[path.suffix.lower()] += 1
    return sorted(found), dict(unread)


def unread_remark(counts: Mapping[str, int]) -> str:
    """How many files are not opened, by their endings, and what helps.

    Args:
        counts: Files by ending; those that :func:`is_unread_picture` finds.
    """
    found = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))
    remedies = dict.fromkeys(_REMEDIES[suffix] for suffix in sorted(counts))
    return f"pictures that {UNREAD}: {found}; {', '.join(remedies)}"


@cache
def _register_plugins() -> None:
    for name, register in _PLUGINS:
        try:
            module = import_module(name)
            if register:
                getattr(module, register)()
        except Exception:  # not installed, or not for this Pillow: its files are counted as unread
            continue


def _unread_kind(path: Path) -> str | None:
    try:
        with open_regular(path) as file:
            head = file.read(16)
    except OSError:
        return None
    found = next((suffix for pattern, suffix in _CONTENTS if pattern.match(head)), None)
    suffix = found or path.suffix.lower()
    return suffix if suffix in _REMEDIES and suffix not in picture_suffixes() else None


def split_present(
    dataset: Dataset, items: Iterable[CaptionedPicture]
) -> tuple[list[CaptionedPicture], list[CaptionedPicture]]:
    """Those whose picture file exists, and those whose file does not, both in the given order."""
    present: list[CaptionedPicture] = []
    missing: list[CaptionedPicture] = []
    for item in items:
        (present if dataset.picture_path(item.image).is_file() else missing).append(item)
    return present, missing


def require_pictures(
    dataset: Dataset, items: Sequence[CaptionedPicture], allow_missing: bool
) -> list[CaptionedPicture]:
    """Those whose picture file exists, in the given order; all of them unless ``allow_missing``.

    What is left out is counted in the data set's notes.

    Raises:
        XcliptError: Pictures are missing and ``allow_missing`` is off, or not one is there.
    """
    present, missing = split_present(dataset, items)
    if not missing:
        return present
    first = ", ".join(item.image for item in missing[:3]) + (", ..." if len(missing) > 3 else "")
    folder = dataset.picture_path(missing[0].image).parent
    count = f"{len(missing):,} of {len(items):,} pictures are missing from {folder}"
    if not present:
        raise XcliptError(
            f"{dataset.name}: all {len(items):,} pictures are missing from {folder} ({first}); "
            "put them there"
        )
    if not allow_missing:
        raise XcliptError(
            f"{dataset.name}: {count} ({first}); "
            f"`allow_missing=True` goes on with the other {len(present):,}"
        )
    remark = f"{dataset.name}: {count}; going on with the other {len(present):,}"
    if remark not in dataset.notes:
        dataset.notes.append(remark)
    return present


def load_picture(path: Path) -> "Image.Image":
    """The picture as RGB, turned as its EXIF orientation says, transparency on white.

    Raises:
        XcliptError: The file is missing, is no image, is cut off, or has more than ``MAX_PIXELS``.
    """
    from PIL import Image, UnidentifiedImageError

    _register_plugins()
    # Ours is the limit that Pillow only warns at, and of damaged EXIF beside sound pixels it tells
    # too. `catch_warnings` is not safe between threads.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with open_regular(path) as file, Image.open(file) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            opened.load()
            return _as_rgb(_upright(opened))
    except Image.DecompressionBombError as error:
        raise XcliptError(
            f"{path}: more than {MAX_PIXELS:,} pixels; make the picture smaller"
        ) from error
    except UnidentifiedImageError as error:
        if kind := _unread_kind(path):
            raise XcliptError(f"{path}: {UNREAD} {kind}; {_REMEDIES[kind]}") from error
        raise XcliptError(f"{path}: not an image; replace or remove it") from error
    except FileNotFoundError as error:
        raise XcliptError(f"{path}: no such picture") from error
    except (IsADirectoryError, PermissionError) as error:
        raise XcliptError(f"{path}: cannot read the picture ({error.strerror})") from error
    except Exception as error:  # a decoder raises almost anything on damaged bytes
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise XcliptError(f"{path}: broken image ({reason}); replace or remove it") from error


def find_broken(paths: Iterable[Path]) -> list[BrokenPicture]:
    """The files among ``paths`` that `load_picture` refuses, in the given order."""
    broken = []
    for path in paths:
        try:
            load_picture(path)
        except XcliptError as error:
            broken.append(BrokenPicture(path, str(error).removeprefix(f"{path}: ")))
    return broken


def _upright(image: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # cameras and editors write damaged EXIF beside sound pixels
        return image


def _as_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = _as_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _as_grey(image: "Image.Image") -> "Image.Image":
    """Samples of more than 8 bits, which Pillow would clip at 255 instead of scaling them."""
    import numpy as np
    from PIL import Image

    samples = np.asarray(image).astype(np.float32)
    low, high = samples.min(), samples.max()  # NaN if any sample is
    if image.mode == "F" and low == high:
        raise ValueError(f"every sample is {low:g}")
    for white, scale in _SCALES[image.mode[:4]]:
        if low >= 0 and high <= white:
            return Image.fromarray((samples * scale).astype(np.uint8))
    raise ValueError(f"its samples go from {low:g} to {high:g}; save it with 8 or 16 bits")
