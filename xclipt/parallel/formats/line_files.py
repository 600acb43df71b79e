"""Two files of which line k of the one is the translation of line k of the other, as Moses has."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from xclipt.data.formats.encodings import Advance, open_text
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.formats.columns import code_of
from xclipt.parallel.source import RawPair, Source


def line_files(path: Path, language: str) -> tuple[Path, Path] | None:
    """The English file and that of the language, found by either or by what is before their codes.

    ``corpus``, ``corpus.en`` and ``corpus.te.gz`` all stand for ``corpus.en[.gz]`` and
    ``corpus.te[.gz]``; the code may stand elsewhere in the name, as in ``eng_Latn.dev``.
    """
    pieces = _pieces(path)
    if not path.is_file():
        places = [(len(pieces), [*pieces, ""])]
    else:
        known = [i for i, piece in enumerate(pieces) if code_of(piece) in ("en", language)]
        places = [(i, pieces) for i in reversed(known)]
    for place, name in places:
        found = _beside(path, name, place, language)
        if "en" in found and language in found:
            return found["en"], found[language]
    return None


def _pieces(path: Path) -> list[str]:
    return path.name.removesuffix(".gz").split(".")


def _beside(path: Path, name: list[str], place: int, language: str) -> dict[str, Path]:
    """Files whose names are the same but for the piece of the language, by that."""
    found: dict[str, Path] = {}
    try:
        siblings = sorted(path.parent.iterdir())
    except OSError:
        return found
    siblings.sort(key=lambda one: one != path)  # the one that was named before its like in .gz
    for one in siblings:
        pieces = _pieces(one)
        same = len(pieces) == len(name) and all(
            a == b for i, (a, b) in enumerate(zip(pieces, name, strict=True)) if i != place
        )
        if same and (code := code_of(pieces[place])) in ("en", language) and one.is_file():
            found.setdefault(code or "", one)
    return found


def open_line_files(path: Path, language: str, reading: Reading) -> Source:
    """Two aligned files.

    Raises:
        XcliptError: The other file is not there, or one cannot be read.
    """
    found = line_files(path, language)
    if found is None:
        own = next(
            (c for p in reversed(_pieces(path)) if (c := code_of(p)) in ("en", language)), ""
        )
        other = language if own == "en" else "en"
        raise XcliptError(
            f"{path}: no file in {language_name(other)} beside it that has the same name but for "
            f"the language, as corpus.en and corpus.{language} have"
        )
    reading.refuse(f"{path}: a file of lines", "columns")
    return Source.of_files(
        found,
        "line by line",
        lambda advance: _pairs(*found, reading.encoding, advance),
        "exchange the languages in the names of the two files",
    )


def _pairs(english: Path, text: Path, encoding: str | None, advance: Advance) -> Iterator[RawPair]:
    counts = [0, 0]
    sides = (_lines(path, encoding, advance) for path in (english, text))
    for one, other in zip_longest(*sides):
        counts = [counts[0] + (one is not None), counts[1] + (other is not None)]
        if one is not None and other is not None:
            yield one, other
    if counts[0] != counts[1]:
        raise XcliptError(
            f"{english} has {counts[0]:,} lines and {text.name} {counts[1]:,}: line k of the one "
            "must be the translation of line k of the other; fetch both again"
        )


def _lines(path: Path, encoding: str | None, advance: Advance) -> Iterator[str]:
    # Only "\n" ends a line: sentences may hold what Unicode and Python call line ends.
    with open_text(path, encoding, newline="\n", advance=advance) as text:
        yield from text
