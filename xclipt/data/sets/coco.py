"""MS-COCO 2014's photographs, which other data sets take theirs from: where they lie."""

from pathlib import Path

IMAGES = "images"
_PARTS = ("train2014", "val2014")


def find_coco(folder: Path) -> Path:
    """``images/`` in a data set's folder, else what holds COCO's ``train2014/`` beside it.

    That is the parent folder, or one in it that is called after COCO. Where neither is there,
    ``images/`` is given: the place to put them.
    """
    images, beside = folder / IMAGES, folder.resolve().parent
    if images.is_dir():
        return images
    called_coco = sorted(path for path in beside.glob("*") if "coco" in path.name.lower())
    for coco in (beside, *called_coco):
        if any((coco / part).is_dir() for part in _PARTS):
            return coco
    return images


def coco_path(coco: Path, image: str) -> Path:
    """Where a photograph is, or would be: in COCO's own folders, or right in ``coco``."""
    in_part = coco / _PARTS["_val2014_" in image] / image
    return in_part if in_part.is_file() else coco / image
