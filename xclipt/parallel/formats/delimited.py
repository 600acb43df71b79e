"""Two columns of delimited text, or columns that are named by languages."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from xclipt.data.formats.delimited import Delimited, sniff
from xclipt.data.formats.encodings import Advance
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.formats.columns import (
    Sides,
    choose_sides,
    code_of,
    is_side,
    said_columns,
)
from xclipt.parallel.source import RawPair, Source

_SAMPLE_ROWS = 200
_UNTOLD = frozenset(
    (
        *("source", "target", "src", "tgt", "trg", "sentence1", "sentence2", "text1", "text2"),
        *("source_text", "target_text", "sourcetext", "targettext", "original", "translation"),
    )
)
"""Headings of columns of which nothing says the language."""
_ATTRIBUTION = re.compile(r"\W*CC[- ]BY.*|https?://.*|Public domain.*", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_TWO_CODES = re.compile(
    r"(?<![A-Za-z])([a-z]{2,3}(?:_[A-Z][a-z]{3})?)(?:-|_|2)([a-z]{2,3}(?:_[A-Z][a-z]{3})?)(?![A-Za-z])"
)


def open_delimited(path: Path, language: str, reading: Reading) -> Source:
    """A file of delimited text; one without a header has English first, unless its name says else.

    Raises:
        UsageError: A column that was named is not there.
        XcliptError: The file cannot be read, or which columns are the two cannot be told.
    """
    said = said_columns(reading)

    def wanted(name: str) -> bool:
        return name in said.values() or is_side(name, "en") or is_side(name, language)

    file = sniff(path, wanted, reading.encoding, sentences=True)
    if len(file.names) < 2:
        raise XcliptError(
            f"{path}: has one column; parallel sentences need two, English and "
            f"{language_name(language)}, with a tab between them"
        )
    headed = _is_headed(file, language, said)
    if headed:
        sides = choose_sides(file.names, language, reading, path)
        at = file.names.index(sides.english), file.names.index(sides.text)
    else:
        at = _said_places(file, language, said) or _guessed_places(file, language)
        sides = Sides(str(at[0] + 1), str(at[1] + 1))
    return Source.of_files(
        (path,),
        sides.layout,
        lambda advance: _pairs(file, at, headed, advance),
        sides.exchange(language),
    )


def _pairs(
    file: Delimited, at: tuple[int, int], headed: bool, advance: Advance
) -> Iterator[RawPair]:
    english, text = at
    plain = file.separator == "\t"
    for fields in file.rows(lambda fields: [], headed=headed, advance=advance):
        if not fields:
            yield None
        elif plain:
            yield _unquoted(fields[english]), _unquoted(fields[text])
        else:
            yield fields[english], fields[text]


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def _is_headed(file: Delimited, language: str, said: dict[str, str]) -> bool:
    """Whether the first row names columns.

    Raises:
        XcliptError: It does, but not their languages.
    """
    relevant = [said[code] for code in ("en", language) if code in said]
    if relevant:
        return any(name in file.names for name in relevant) or not all(map(_is_place, relevant))
    if any(is_side(name, "en") for name in file.names):
        return True  # whether or not the language that was asked for is there too
    untold = [name for name in file.names if name.lower() in _UNTOLD]
    if len(untold) > 1:
        raise XcliptError(
            f"{file.path}: nothing says which of its columns {' and '.join(untold[:2])} is "
            f"English; `columns=en={untold[0]},{language}={untold[1]}` does"
        )
    return all(len(name) == 2 and code_of(name) for name in file.names)


def _is_place(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _said_places(file: Delimited, language: str, said: dict[str, str]) -> tuple[int, int] | None:
    places = {code: int(said[code]) for code in ("en", language) if code in said}
    if not places:
        return None
    width = len(file.names)
    for code, place in places.items():
        if not 1 <= place <= width:
            raise UsageError(
                f"{file.path} has {width} columns", field="columns", value=f"{code}={place}"
            )
    if len(places) < 2:
        if width != 2:
            raise UsageError(
                f"{file.path} has {width} columns: name both, as en=1,{language}=2", field="columns"
            )
        places |= {
            code: 3 - sum(places.values()) for code in ("en", language) if code not in places
        }
    return places["en"] - 1, places[language] - 1


def _guessed_places(file: Delimited, language: str) -> tuple[int, int]:
    rows = [row for row in islice(file.rows(lambda fields: [], headed=False), _SAMPLE_ROWS) if row]
    columns = list(zip(*rows, strict=True))
    texts = [i for i, values in enumerate(columns) if _is_of_text(values)]
    if len(columns) == 2:
        texts = [0, 1]
    if len(texts) != 2:
        raise XcliptError(
            f"{file.path}: has {len(columns)} columns and no header, and which two are the "
            f"sentences cannot be told; `columns=en=1,{language}=2` says it"
        )
    first, second = texts
    named = _languages_in(file.path)
    if named and language not in named:
        other = language_name(next(code for code in named if code != "en"))
        raise XcliptError(
            f"{file.path}: is {other}, by its name; `columns=en=1,{language}=2` reads it as "
            f"{language_name(language)} all the same"
        )
    attributed = any(_mostly(values, _ATTRIBUTION) for values in columns)
    # In the files that Tatoeba's sentences are published in, English comes first by any name.
    exchanged = named is not None and named[1] == "en" and not attributed
    return (second, first) if exchanged else (first, second)


def _languages_in(path: Path) -> tuple[str, str] | None:
    """English and another language in a file's name, in its order: ``te-en.tsv``."""
    for match in _TWO_CODES.finditer(path.name):
        first, second = map(code_of, match.groups())
        if first and second and (first == "en") != (second == "en"):
            return first, second
    return None


def _is_of_text(values: Sequence[str]) -> bool:
    constant = len(values) > 3 and len(set(values)) == 1
    return not constant and not _mostly(values, _ATTRIBUTION) and _mostly(values, _LETTER)


def _mostly(values: Sequence[str], pattern: "re.Pattern[str]") -> bool:
    return 2 * sum(bool(pattern.search(value)) for value in values) > len(values)
