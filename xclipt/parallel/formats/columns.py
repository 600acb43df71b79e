"""Which columns of a table, or fields of a record, are the two sides."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.languages import resolve

_CODE = r"(?P<code>[a-z]{2,3}(?:[-_][a-z]{2,4})?)"
_OF_TEXT = r"(?:captions?|sentences?|source|src|target|texts?|tgt|transcript|translations?|trg|txt)"
_SIDE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (_CODE, rf"{_OF_TEXT}[._-]{_CODE}", rf"{_CODE}[._-]{_OF_TEXT}")
)


@dataclass(frozen=True)
class Sides:
    """The columns of English and of the other language."""

    english: str
    text: str

    @property
    def layout(self) -> str:
        """As the user is told."""
        return f"columns {self.english} and {self.text}"

    def exchange(self, language: str) -> str:
        """How to say that they are the other way round."""
        return f"`columns=en={self.text},{language}={self.english}` exchanges them"


def code_of(text: str) -> str | None:
    """The language that a code stands for; ``None`` where it is none."""
    try:
        return resolve(text)
    except XcliptError:
        return None


def is_side(name: str, language: str) -> bool:
    """Whether a column called ``te``, ``tel_Telu``, ``text_te`` or ``Telugu`` is in a language."""
    name = name.strip()
    if name.lower() == language_name(language).lower():
        return True
    matches = filter(None, (pattern.fullmatch(name) for pattern in _SIDE))
    return any(code_of(match["code"]) == language for match in matches)


def said_columns(reading: Reading) -> dict[str, str]:
    """What the user said of columns, by the language.

    Raises:
        UsageError: Something else than a language is named.
    """
    said = {}
    for code, name in reading.columns.items():
        language = code_of(code)
        if language is None:
            raise UsageError(
                f"parallel sentences have no {code}: name the columns of two languages, as "
                "en=source,te=target",
                field="columns",
                value=f"{code}={name}",
            )
        said[language] = name
    return said


def choose_sides(names: Sequence[str], language: str, reading: Reading, where: Path | str) -> Sides:
    """The columns of English and of ``language``, by what the user says and what they are called.

    Raises:
        UsageError: A column that was named is not there.
        XcliptError: One of the two is not there, or may be several.
    """
    said = said_columns(reading)
    for code in ("en", language):
        if code in said and said[code] not in names:
            raise UsageError(
                f"{where} has no such column; it has {_listed(names)}",
                field="columns",
                value=f"{code}={said[code]}",
            )
    taken = [said[code] for code in ("en", language) if code in said]
    free = [name for name in names if name not in taken]
    return Sides(*(said.get(code) or _only(free, code, where) for code in ("en", language)))


def _only(names: Sequence[str], language: str, where: Path | str) -> str:
    found = [name for name in names if is_side(name, language)]
    exact = [name for name in found if name.strip().lower() == language]
    if len(found) > 1 and len(exact) != 1:
        raise XcliptError(
            f"{where}: {' and '.join(found[:3])} are all {language_name(language)}; "
            f"`columns={language}={found[0]}` says which"
        )
    if not found:
        english = "English, the partner of every sentence" if language == "en" else ""
        raise XcliptError(
            f"{where}: has no column of {english or language_name(language)}; it has "
            f"{_listed(names)}; `columns={language}=NAME` names it"
        )
    return (exact or found)[0]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def flat(fields: Mapping[str, object]) -> dict[str, object]:
    """A record with what is within it: of ``{"translation": {"en": ...}}`` ``translation.en``."""
    flattened: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flattened |= {f"{name}.{part}": within for part, within in value.items()}
        else:
            flattened[name] = value
    return flattened


def sides_of(fields: Mapping[str, object], sides: Sides, where: str) -> tuple[str, str]:
    """The two texts of a record; one that is not there is empty.

    Raises:
        XcliptError: A value is something else than text.
    """
    flattened = flat(fields)
    texts = []
    for column in (sides.english, sides.text):
        value = flattened.get(column)
        if value is not None and not isinstance(value, str):
            raise XcliptError(f"{where}: '{column}' holds {type(value).__name__}, not text")
        texts.append(value or "")
    return texts[0], texts[1]
