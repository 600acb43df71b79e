"""Small pictures inside a page."""

import base64
import io
from pathlib import Path

from xclipt.data.pictures import load_picture

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
