"""How every page is made: from a template, into one file that needs nothing else."""

import base64
import hashlib
import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import xclipt
from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.pictures import load_picture
from xclipt.languages import is_right_to_left
from xclipt.languages import name as language_name
from xclipt.printable import visible
from xclipt.search.answer import SearchResult

_POLICY = "{{ the policy }}"
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"


def render(environment: Environment, template: str, **fields: Any) -> str:
    """A page that may do nothing but show itself, by a content security policy of its own.

    It runs no script and fetches nothing; of styles it takes those alone that the template wrote:
    the style sheet, and what ``{{ styled(...) }}`` puts into an attribute.
    """
    styles: dict[str, None] = {}

    def styled(style: str) -> str:
        styles[_source(style)] = None
        return style

    def sheet(*names: str) -> Markup:
        loaded = [environment.get_template(name).render() for name in names]
        text = "\n" + "\n".join(loaded) + "\n"
        return Markup(f"<style>{styled(text)}</style>")

    page = environment.get_template(template).render(
        fields | {"policy": Markup(_POLICY), "styled": styled, "sheet": sheet}
    )
    allowed = " ".join(["'unsafe-hashes'", *styles])
    return page.replace(_POLICY, f"{_NOTHING}; style-src {allowed}", 1)


def _source(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def page_environment() -> Environment:
    """Templates of ``xclipt/report/templates``; what is put into them is escaped, and made visible.

    All know ``language_name(code)`` and ``direction(code)``: ``rtl`` or ``ltr``, also of ``None``.
    """
    environment = Environment(
        loader=PackageLoader("xclipt.report"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
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
_EXAMPLE_PIXELS = 192


def search_page(result: SearchResult, backbone: BackboneIdentity, folder: Path) -> str:
    """The page as HTML, to be written into ``folder``.

    Every thumbnail is in it once, however many queries found the picture, and links to the file,
    by a relative path where there is one.

    Raises:
        XcliptError: A picture is gone since it was indexed.
    """
    names = dict.fromkeys(hit.name for answer in result.answers for hit in answer.hits)
    examples = dict.fromkeys(answer.like for answer in result.answers if answer.like)
    paths = {name: result.index.folder / name for name in names}
    return render(
        page_environment(),
        "search.html.j2",
        result=result,
        pictures={name: thumbnail(path, _THUMBNAIL_PIXELS) for name, path in paths.items()},
        links={name: _link(path, folder) for name, path in paths.items()},
        examples={path: thumbnail(path, _EXAMPLE_PIXELS) for path in examples},
        example_links={path: _link(path, folder) for path in examples},
        backbone=backbone,
        version=xclipt.__version__,
    )


def _link(path: Path, folder: Path) -> str:
    """The address of a file, for a page that is opened from ``folder``."""
    path = path.resolve()
    try:
        relative = Path(os.path.relpath(path, folder.resolve()))
    except ValueError:  # on another drive
        return path.as_uri()
    return quote(relative.as_posix().encode("utf-8", "surrogateescape"))


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
