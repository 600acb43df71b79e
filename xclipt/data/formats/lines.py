"""Caption files that are matched to a list of pictures line by line."""

import gzip
import zlib
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, TranslatedLines
from xclipt.data.pictures import check_picture_name
from xclipt.errors import XcliptError
from xclipt.files import read_regular


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 text file, gzipped if it ends in ``.gz``, without outer white space.

    Only ``\n`` ends a line: captions may hold other characters that Unicode calls line breaks.

    Raises:
        XcliptError: The file is missing, is damaged, or is not UTF-8.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise XcliptError(
            f"{path}: cannot read ({error.strerror}); `download=True` fetches what is missing"
        ) from error
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise XcliptError(
                f"{path}: damaged gzip file; delete it and use `download=True`"
            ) from error
    lines = decode(data, path).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.strip() for line in lines]


def packed_or_not(path: Path) -> Path:
    """``path``, or where that is not there, the same file with or without ``.gz``."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return other if other.is_file() and not path.is_file() else path


def decode(data: bytes, path: Path) -> str:
    """``data`` as UTF-8, with or without a byte order mark.

    Raises:
        XcliptError: It is not UTF-8; the message names the line of ``path``.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise XcliptError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from error


def read_pictures(path: Path) -> list[str]:
    """The picture names in ``path``, one per line.

    Some publishers number the caption: ``a.jpg#367178``. A ``#`` and what follows are left out.

    Raises:
        XcliptError: The file is unusable, or a name is empty, unsafe or there twice.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        image = line.partition("#")[0]
        check_picture_name(image, f"{path}: line {number}")
        if image in seen:
            raise XcliptError(f"{path}: line {number} repeats {image} of line {seen[image]}")
        seen[image] = number
    return list(seen)


def match_captions(images: Path, captions: Path) -> tuple[list[CaptionedPicture], str | None]:
    """Line k of ``captions`` with picture k of ``images``, and a remark if captions were empty.

    Raises:
        XcliptError: A file is unusable, or they do not have as many lines as each other.
    """
    names, texts = read_pictures(images), read_lines(captions)
    if len(names) != len(texts):
        raise XcliptError(
            f"{captions}: {len(texts):,} lines for the {len(names):,} pictures in {images.name}; "
            "delete it and use `download=True`"
        )
    kept = [
        CaptionedPicture(name, (text,)) for name, text in zip(names, texts, strict=True) if text
    ]
    empty = [number for number, text in enumerate(texts, 1) if not text]
    return kept, empty_remark(captions, len(empty), f"line {empty[0]}") if empty else None


def match_translations(captions: Path, translations: Path) -> TranslatedLines:
    """Line k of ``translations`` with line k of ``captions``.

    Raises:
        XcliptError: A file is unusable, or they do not have as many lines as each other.
    """
    sources, texts = read_lines(captions), read_lines(translations)
    if len(sources) != len(texts):
        raise XcliptError(
            f"{translations}: {len(texts):,} lines for the {len(sources):,} captions in "
            f"{captions.name}; translate them again"
        )
    return TranslatedLines(translations, tuple(sources), tuple(texts))


def translations_folder(source: str, target: str) -> tuple[str, str] | None:
    """The folder of translations from or to English, and the language that names its files."""
    if target == "en" and source != "en":
        return "translated_to_en", source
    if source == "en" and target != "en":
        return "translated_from_en", target
    return None


def empty_remark(path: Path | str, count: int, first: str) -> str:
    """The remark that ``count`` captions of a file were empty and are left out."""
    word = "caption" if count == 1 else "captions"
    return f"{path}: {count} empty {word} left out (the first: {first})"
