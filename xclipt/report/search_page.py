"""``search --html``: what queries found, as one page of thumbnails that needs nothing else."""

import xclipt
from xclipt.backbones.backbone import BackboneIdentity
from xclipt.report.page import page_environment
from xclipt.report.thumbnail import thumbnail
from xclipt.search.search import SearchResult

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
