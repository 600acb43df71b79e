"""JSON: COCO's captions, Karpathy's splits, and tables as a list or as lines."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.data.formats.columns import is_column, is_picture_name
from xclipt.data.formats.encodings import Advance, open_text
from xclipt.data.formats.reading import Reading
from xclipt.data.formats.table import Rows, TableDataset
from xclipt.documents import parse_json
from xclipt.errors import XcliptError

_RESTVAL = "restval"


@dataclass(frozen=True)
class Layout:
    """What a JSON document may be.

    Attributes:
        recognises: Whether a document is of this layout.
        rows: Its rows by column, with their places.
        said: What it is called, for the remark on what was understood.
    """

    recognises: Callable[[Any], bool]
    rows: Callable[[Any], Iterator[tuple[str, Mapping[str, Any]]]]
    said: str = ""


def _holds(document: Any, name: str, *fields: str) -> bool:
    entries = document.get(name) if isinstance(document, dict) else None
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and all(field in first for field in fields)


def _karpathy(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, entry in enumerate(document["images"], 1):
        folder = f"{entry['filepath']}/" if entry.get("filepath") else ""
        split = entry.get("split")
        yield (
            f"image {number}",
            {
                "image": folder + str(entry["filename"]),
                "caption": [sentence["raw"] for sentence in entry["sentences"]],
                "split": "train" if split == _RESTVAL else split,
            },
        )


def _coco(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    names = {image["id"]: image["file_name"] for image in document["images"]}
    for number, annotation in enumerate(document["annotations"], 1):
        place = f"annotation {number}"
        if annotation["image_id"] not in names:
            raise XcliptError(f"{place}: no image has the id {annotation['image_id']}")
        yield (
            place,
            {"image": names[annotation["image_id"]], "caption": annotation["caption"]},
        )


def _records(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, dict):
            raise XcliptError(f"entry {number}: not an object with a picture and a caption")
        yield f"entry {number}", entry


def _is_mapping(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(map(is_picture_name, document))


def _mapped(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, captions in document.items():
        yield name, {"image": name, "caption": captions}


LAYOUTS: Sequence[Layout] = (
    Layout(lambda d: _holds(d, "images", "filename", "sentences"), _karpathy, "Karpathy's layout"),
    Layout(
        lambda d: (
            _holds(d, "images", "id", "file_name")
            and _holds(d, "annotations", "image_id", "caption")
        ),
        _coco,
        "COCO's layout",
    ),
    Layout(_is_mapping, _mapped, "a picture and its captions each"),
    Layout(lambda d: isinstance(d, list) and bool(d), _records),
)
"""The layouts of a document, a row each."""


def open_document(path: Path, reading: Reading) -> TableDataset:
    """Captions of a ``.json`` file; raises as :func:`document_rows`, or for a column or value."""
    return TableDataset.of(path, [document_rows(path, reading)], reading)


def document_rows(path: Path, reading: Reading) -> Rows:
    """The rows of a ``.json`` file.

    Raises:
        XcliptError: It is no JSON, of none of the :data:`LAYOUTS`, or an entry is unusable.
    """
    document = _read(path, reading.encoding)
    layout = _layout_of(document)
    if layout is None:
        raise XcliptError(
            f"{path}: neither COCO's captions (images and annotations with captions) nor "
            "Karpathy's (images with sentences) nor a list of objects, nor an object of pictures' "
            "names and their captions"
        )
    rows = list(_naming(path, layout.rows(document)))
    names = tuple(dict.fromkeys(name for _, fields in rows for name in fields))
    return Rows(path, names, rows, said=layout.said)


def is_of_captions(path: Path) -> bool:
    """Whether a ``.json`` file is of one of the :data:`LAYOUTS` and has a column of pictures.

    Raises:
        XcliptError: It is no JSON.
    """
    document = _read(path, None)
    if _layout_of(document) is None:
        return False
    first = document[0] if isinstance(document, list) else {"image": ""}
    return isinstance(first, dict) and any(is_column("image", name, Reading()) for name in first)


_LARGEST = 1 << 30
"""So many characters of JSON are held in memory at once."""


def _read(path: Path, encoding: str | None) -> Any:
    with open_text(path, encoding) as text:
        data = text.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise XcliptError(
            f"{path}: is JSON of more than {_LARGEST >> 20:,} MB; JSON lines (.jsonl) are read "
            "piece by piece"
        )
    try:
        return parse_json(data)
    except ValueError as error:
        raise XcliptError(f"{path}: is not JSON ({error})") from error


def _layout_of(document: Any) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognises(document)), None)


def line_rows(path: Path, reading: Reading) -> Rows:
    """The rows of a ``.jsonl`` file, an object a line.

    Raises:
        XcliptError: A line is no JSON object.
    """
    rows = list(read_objects(path, reading.encoding))
    return Rows(path, tuple(dict.fromkeys(name for _, fields in rows for name in fields)), rows)


def open_lines(path: Path, reading: Reading) -> TableDataset:
    """Captions of a ``.jsonl`` file; raises as :func:`line_rows` does, or for a column or value."""
    return TableDataset.of(path, [line_rows(path, reading)], reading)


def read_objects(
    path: Path, encoding: str | None, advance: Advance | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a ``.jsonl`` file, one by one, with their places.

    Args:
        path: The file.
        encoding: As :func:`~xclipt.data.formats.encodings.open_text` takes it.
        advance: As there.

    Raises:
        XcliptError: A line is no JSON object, or the file cannot be read.
    """
    with open_text(path, encoding, advance=advance) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise XcliptError(f"{path}: line {number} is not JSON ({error})") from error
            if not isinstance(entry, dict):
                raise XcliptError(f"{path}: line {number}: not an object")
            yield f"line {number}", entry


def _naming(
    path: Path, rows: Iterator[tuple[str, Mapping[str, Any]]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows, with the file named in what goes wrong."""
    last = "its first entry"
    try:
        for place, fields in rows:
            last = f"what follows {place}"
            yield place, fields
    except XcliptError as error:
        raise XcliptError(f"{path}: {error.message}") from error
    except KeyError as error:
        raise XcliptError(f"{path}: {last} has no {error}, as the rest have") from error
    except (TypeError, AttributeError) as error:
        raise XcliptError(f"{path}: {last} is not as the rest ({error!r})") from error
