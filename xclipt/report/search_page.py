"""``search --html``: what queries found, as one page of thumbnails that needs nothing else."""

from jinja2 import Environment, PackageLoader, StrictUndefined

import xclipt
from xclipt.backbones.backbone import BackboneIdentity
from xclipt.languages import is_right_to_left
from xclipt.languages import name as language_name
from xclipt.report.thumbnail import thumbnail
from xclipt.search.search import SearchResult

_THUMBNAIL_PIXELS = 336


def search_page(result: SearchResult, backbone: BackboneIdentity) -> str:
    """The page as HTML; every picture is in it once, however many queries found it.

    Raises:
        XcliptError: A picture is gone since it was indexed.
    """
    environment = Environment(
        loader=PackageLoader("xclipt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = dict.fromkeys(hit.name for answer in result.answers for hit in answer.hits)
    return environment.get_template("search.html.j2").render(
        result=result,
        pictures={n: thumbnail(result.index.folder / n, _THUMBNAIL_PIXELS) for n in names},
        backbone=backbone,
        language_name=language_name,
        direction=lambda code: "rtl" if code and is_right_to_left(code) else "ltr",
        version=xclipt.__version__,
    )
