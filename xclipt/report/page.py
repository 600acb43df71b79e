"""How every page is made: from a template, into one file that needs nothing else."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import xclipt
from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.pictures import load_picture
from xclipt.languages import is_right_to_left
from xclipt.languages import name as language_name
from xclipt.search.answer import SearchResult


def page_environment() -> Environment:
    """Templates of ``xclipt/report/templates``; what is put into them is escaped.

    All know ``language_name(code)`` and ``direction(code)``: ``rtl`` or ``ltr``, also of ``None``.
    """
    environment = Environment(
        loader=PackageLoader("xclipt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "language_name": language_name,
        "direction": lambda code: "rtl" if code and is_right_to_left(code) else "ltr",
    }
    return environment


_THUMBNAIL_PIXELS = 336


def search_page(result: SearchResult, backbone: BackboneIdentity) -> str:
    """The page as HTML; every picture is in it once, however many queries found it.

    Raises:
        XcliptError: A picture is gone since it was indexed.
    """
    names = dict.fromkeys(hit.name for answer in result.answers for hit in answer.hits)
    return (
        page_environment()
        .get_template("search.html.j2")
        .render(
            result=result,
            pictures={n: thumbnail(result.index.folder / n, _THUMBNAIL_PIXELS) for n in names},
            backbone=backbone,
            version=xclipt.__version__,
        )
    )


_JPEG_QUALITY = 72


def thumbnail(path: Path, pixels: int) -> str:
    """The picture, at most ``pixels`` wide and high, as a ``data:`` address of a JPEG.

    Raises:
        XcliptError: The file is not a picture.
    """
    picture = load_picture(path)
    picture.thumbnail((pixels, pixels))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
