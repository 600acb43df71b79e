"""Which column of a table is what, from their names and what is in them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.data.formats.collected import CaptionRow
from xclipt.data.formats.delimited import UNNAMED
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import resolve

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("filename", "filepath", "file", "path", "imagename", "imagepath", "imagefile"),
        *("imagefilename", "images", "img", "imgname", "imgpath", "picture", "photo"),
    ),
    "caption": (
        *("captions", "text", "texts", "txt", "title", "comment", "sentence", "sentences"),
        *("description", "raw"),
    ),
    "language": ("lang", "locale", "languagecode", "langcode"),
    "split": (),
}
"""What a column of each kind is called beside its own name; case, ``_``, ``-`` and space aside."""

# Words that head columns of other kinds: a row's number, a key, a flag.
_WORDS = frozenset(
    ("am", "an", "as", "be", "by", "he", "id", "in", "is", "na", "no", "nr", "or", "so", "to")
)
_OF_CAPTIONS = r"(?:caption|captions|text|txt|title|comment|sentence|description)"
_CODE = r"(?P<code>[a-z]{2,3}(?:[-_][a-z]{2,4})?)"
_CAPTION_COLUMN = (
    re.compile(rf"{_CODE}", re.IGNORECASE),
    re.compile(rf"{_OF_CAPTIONS}[._-]{_CODE}", re.IGNORECASE),
    re.compile(rf"{_CODE}[._-]{_OF_CAPTIONS}", re.IGNORECASE),
)
_NO_TEXT = re.compile(r"[\d\W_]*|true|false|https?://.*|.*\.(jpe?g|png|webp|gif)", re.IGNORECASE)
_WORDS_OF_TEXT = re.compile(r"[^\W\d_][,.!?]?\s+[^\W\d_]|[^\x00-\x7f]")


def is_column(role: str, name: str, reading: Reading) -> bool:
    """Whether a column of that name is of one of the :data:`ROLES`."""
    if role in reading.columns:
        return name.strip() == reading.columns[role]
    return _plain(name) in (role, *ROLES[role])


@dataclass(frozen=True)
class Columns:
    """Which column is what.

    Attributes:
        image: Holds the pictures' names.
        captions: Hold captions, in the language that is named; ``None`` where rows name it.
        language: Holds it then.
        split: Holds the split, if one does.
        unread: All others.
    """

    image: str
    captions: Mapping[str, str | None]
    language: str | None
    split: str | None
    unread: tuple[str, ...]

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that hold something."""
        named = (self.image, *self.captions, self.language, self.split)
        return tuple(name for name in named if name is not None)

    def described(self, languages: Iterable[str]) -> str:
        """What of it the user should know: ``captions in tr (column caption)``.

        Args:
            languages: Those that the rows named.
        """
        columns = ", ".join(self.captions)
        several = "columns" if len(self.captions) > 1 else "column"
        said = f", language in {self.language}" if self.language else ""
        codes = sorted(languages) if self.language else self.captions.values()
        return f"captions in {', '.join(filter(None, codes))} ({several} {columns}{said})"

    def rows(
        self,
        fields: Mapping[str, Any],
        image: Any,
        source: Path | str,
        place: str,
        split: str | None = None,
    ) -> Iterator[CaptionRow]:
        """The captions of one row.

        Args:
            fields: Values by column.
            image: The picture's name.
            source: As :class:`CaptionRow` has it.
            place: As :class:`CaptionRow` has it.
            split: The split of rows that name none.

        Raises:
            XcliptError: A value is unusable.
        """
        where = f"{source}: {place}"
        if not isinstance(image, str) or not image.strip():
            raise XcliptError(f"{where}: no picture in column '{self.image}'")
        if self.split is not None:
            split = usual_split(_text(fields.get(self.split), self.split, where)) or split
        for column, fixed in self.captions.items():
            language = fixed
            if language is None and self.language is not None:
                language = _resolved(_text(fields.get(self.language), self.language, where), where)
            value = fields.get(column)
            texts = value if isinstance(value, list) else [value]
            captions = tuple(_text(text, column, where) for text in texts)
            yield CaptionRow(image.strip(), language or "", captions, split, source, place)


def usual_split(split: str) -> str:
    """The name that a split has here."""
    return "val" if split in ("validation", "valid", "dev") else split


def choose_columns(
    names: Sequence[str],
    sample: Sequence[Mapping[str, Any]],
    source: Path | str,
    reading: Reading,
    *,
    image: str | None = None,
) -> Columns:
    """What the columns of a table are.

    Args:
        names: All columns.
        sample: Some rows, by column: a column called ``no`` is Norwegian only by what is in it.
        source: Opens messages.
        reading: What the user said of it.
        image: The column of pictures, where the table itself says it.

    Raises:
        UsageError: ``reading`` names a column that is not there, or says what the table says.
        XcliptError: There is no column of pictures or of captions, or two that may be it.
    """
    known = _Known(names, source, reading)
    image = image or known.role("image")
    caption, language, split = map(known.role, ("caption", "language", "split"))
    own = {
        name: _resolved(code, str(source))
        for code, name in reading.columns.items()
        if code not in ROLES
    }
    wide = dict(own)
    if not (caption and language):
        taken = {image, caption, language, split, *own}
        free = [name for name in names if name not in taken]
        for name, code in _language_columns(free, sample, bool(own)).items():
            if code in own.values():
                continue
            if code in wide.values():
                raise XcliptError(
                    f"{source}: two columns of captions in '{code}', {name} and another; keep one, "
                    f"or say which with `columns={code}=NAME`"
                )
            wide[name] = code
    captions: dict[str, str | None] = dict(wide)
    if caption and language:
        reading.refuse(f"{source}: column {language} names the languages and", "caption_lang")
        captions = {caption: None}
    elif caption and reading.caption_lang:
        code = reading.require_language(source)
        if code in wide.values():
            raise XcliptError(f"{source}: two columns of captions in '{code}'; keep one")
        captions[caption] = code
        language = None
    elif captions:
        reading.refuse(f"{source}: its columns name the languages and", "caption_lang")
        language = None
    if image is None:
        raise XcliptError(
            f"{source}: needs the columns image, caption and language (or image and a column "
            f"named by its code for each language); it has {', '.join(names)}, none of them called "
            "image, filename, file_name, path or the like; `columns=image=NAME` names it"
        )
    if not captions:
        raise XcliptError(_lacking(names, source, caption))
    used = {image, *captions, language, split}
    unread = (name for name in names if name not in used and not name.startswith(UNNAMED))
    return Columns(image, captions, language, split, tuple(unread))


def _lacking(names: Sequence[str], source: Path | str, caption: str | None) -> str:
    has = f"it has {', '.join(names)}"
    if caption:
        return (
            f"{source}: nothing says which language the captions in column {caption} are in; "
            f"`caption_lang=CODE` does, or a column language; {has}"
        )
    words = [name for name in names if name.strip().lower() in _WORDS]
    perhaps = ""
    if words:
        code = words[0].strip()
        perhaps = f", and {code} is taken for no language unless `columns={code}={code}` says so"
    return (
        f"{source}: needs the columns image, caption and language (or image and a column named by "
        f"its code for each language); {has}{perhaps}; `columns=caption=NAME` names the captions"
    )


class _Known:
    """Columns by what their names say, and by what the user says of them."""

    def __init__(self, names: Sequence[str], source: Path | str, reading: Reading) -> None:
        self._names, self._source, self._said = names, source, reading.columns
        for role, name in self._said.items():
            if name not in names:
                raise UsageError(
                    f"{source} has no such column; it has {', '.join(names)}",
                    field="columns",
                    value=f"{role}={name}",
                )

    def role(self, role: str) -> str | None:
        if role in self._said:
            return self._said[role]
        free = [name for name in self._names if name not in self._said.values()]
        named = [name for name in free if _plain(name) == role]
        found = named or [name for name in free if _plain(name) in ROLES[role]]
        if len(found) > 1:
            raise XcliptError(
                f"{self._source}: {' and '.join(found)} may both be the column of the {role}; "
                f"`columns={role}={found[0]}` says which"
            )
        return found[0] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _language_columns(
    names: Sequence[str], sample: Sequence[Mapping[str, Any]], company: bool
) -> dict[str, str]:
    """Columns that are named by a language and hold text.

    A name that is a word too, as ``no`` and ``id`` are, counts only beside others (``company``).
    """
    certain: dict[str, str] = {}
    words: dict[str, str] = {}
    for name in names:
        match = next(filter(None, (p.fullmatch(name.strip()) for p in _CAPTION_COLUMN)), None)
        if match is None:
            continue
        bare = match["code"] == match[0]
        if bare and len(match["code"]) == 3:
            continue  # url, img, src, ...
        try:
            code = resolve(match["code"])
        except XcliptError:
            continue
        values = [value for row in sample if isinstance(value := row.get(name), str) and value]
        if bare and match["code"].lower() in _WORDS:
            if _mostly(values, lambda v: _WORDS_OF_TEXT.search(v) and not _NO_TEXT.fullmatch(v)):
                words[name] = code
        elif not values or not bare or _mostly(values, lambda v: not _NO_TEXT.fullmatch(v)):
            certain[name] = code
    chosen = certain | words if certain or company else {}
    for code in {code for code in chosen.values() if [*chosen.values()].count(code) > 1}:
        # `in` is an old name of `id`: what is certain stays, and only then there are two.
        for name in words:
            if chosen[name] == code and code in certain.values():
                del chosen[name]
    return {name: chosen[name] for name in names if name in chosen}


def _mostly(values: Sequence[str], holds: Any) -> bool:
    return 2 * sum(bool(holds(value.strip())) for value in values) > len(values)


def _resolved(code: str, where: str) -> str:
    if not code.strip():
        raise XcliptError(f"{where}: no language; give its code")
    try:
        return resolve(code)
    except XcliptError as error:
        raise XcliptError(f"{where}: {error}") from error


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise XcliptError(f"{where}: column '{column}' holds {type(value).__name__}, not text")
    return value.strip()
