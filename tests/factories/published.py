"""Published data sets of a few photographs, with translations beside them, for whole runs."""

import gzip
import itertools
from pathlib import Path

from PIL import Image

from xclipt.data.sets import multi30k, xtd

_ENGLISH = [" ".join(w) for w in itertools.permutations(("a", "cat", "dog", "runs", "sleeps"), 3)]
_FRENCH = [
    f"{animal} {adjective} {verb}"
    for animal in ("un chat", "un chien")
    for adjective in ("noir", "blanc", "grand", "petit", "rouge", "vert")
    for verb in ("dort", "court")
]
MOST = len(_FRENCH)


def write_xtd(root: Path, count: int = MOST) -> Path:
    """XTD with so many photographs; every language but English has the French captions."""
    folder = root / xtd.NAME
    names = [f"COCO_val2014_{k:012}.jpg" for k in range(count)]
    _write(folder / xtd.PICTURES_FILE, names)
    for language, path in xtd.CAPTIONS_FILES.items():
        _write(folder / path, _captions(language, 0, count))
        _write(folder / "translated_to_en" / f"{language}.txt", _captions("en", 0, count))
        _write(folder / "translated_from_en" / f"{language}.txt", _captions("fr", 0, count))
    _write_pictures(folder / xtd.IMAGES, names)
    return root


def write_multi30k(root: Path, count: int = MOST) -> Path:
    """Multi30K with a third of so many photographs in each of its splits."""
    task = multi30k.TASK1
    folder, third = root / task.name, count // 3
    for number, split in enumerate([*task.languages][:3]):
        start, stop = number * third, (number + 1) * third
        names = [f"{k}.jpg" for k in range(start, stop)]
        _write(folder / task.pictures_file(split), names)
        for language in task.languages[split]:
            own = _captions(language, start, stop)
            for path, texts in (
                (*task.captions_files(language, split), own),
                (f"translated_to_en/{split}.{language}.gz", _captions("en", start, stop)),
                (f"translated_from_en/{split}.{language}.gz", _captions("fr", start, stop)),
            ):
                _write(folder / path, texts)
        _write_pictures(folder / multi30k.PHOTOGRAPHS, names)
    return root


def _captions(language: str, start: int, stop: int) -> list[str]:
    return (_ENGLISH if language == "en" else _FRENCH)[start:stop]


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        number = int(Path(name).stem.rpartition("_")[2])
        colour = (40 * number % 256, 90 * number % 256, 170 * number % 256)
        Image.new("RGB", (8, 8), colour).save(folder / name)
