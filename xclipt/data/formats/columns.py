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
from xclipt.languages import called, find, resolve

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("filename", "filepath", "file", "path", "imagename", "imagepath", "imagefile"),
        *("imagefilename", "images", "img", "imgname", "imgpath", "picture", "photo"),
    ),
    "caption": (
        *("captions", "text", "texts", "txt", "title", "comment", "sentence", "sentences"),
        *("description", "raw", "alttext", "captiontext"),
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
_PICTURE = r"[^\n]*\.(?:jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|hei[cf]|avif|jxl|jp2)(?:#\d+)?"
_NO_TEXT = re.compile(rf"[\d\W_]*|true|false|https?://.*|{_PICTURE}", re.IGNORECASE)
_PICTURE_NAME = re.compile(rf"(?!https?://){_PICTURE}", re.IGNORECASE)
_WORDS_OF_TEXT = re.compile(r"[^\W\d_][,.!?]?\s+[^\W\d_]|[^\x00-\x7f]")


_USUAL_SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def is_column(role: str, name: str, reading: Reading) -> bool:
    """Whether a column of that name is of one of the :data:`ROLES`."""
    if role in reading.columns:
        return name.strip() == reading.columns[role]
    return _plain(name) in (role, *ROLES[role])


def is_picture_name(value: Any) -> bool:
    """Whether a value is what a picture file may be called, and no text."""
    return isinstance(value, str) and _PICTURE_NAME.fullmatch(value.strip()) is not None


@dataclass(frozen=True)
class Columns:
    """Which column is what.

    Attributes:
        image: Holds the pictures' names.
        captions: Hold captions, in the language that is named; ``None`` where rows name it.
        language: Holds it then.
        split: Holds the split, if one does.
        unread: All others.
        by_value: The column of pictures is known by what it holds, not by its name.
    """

    image: str
    captions: Mapping[str, str | None]
    language: str | None
    split: str | None
    unread: tuple[str, ...]
    by_value: bool = False

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
        said += f", pictures in {self.image}" if self.by_value else ""
        codes = sorted(languages) if self.language else dict.fromkeys(self.captions.values())
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
            captions = tuple(_text(text, column, where) for text in _texts_of(value))
            yield CaptionRow(image.strip(), language or "", captions, split, source, place)


def usual_split(split: str) -> str:
    """The name that a split has here; other names than the usual ones stay as they are."""
    return _USUAL_SPLITS.get(split.lower(), split)


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
    by_name = image or known.role("image")
    image = by_name or known.only_pictures(sample)
    caption, language, split = map(known.role, ("caption", "language", "split"))
    numbered = () if caption else known.numbered("caption")
    texts = (caption,) if caption else numbered
    own = {
        name: _resolved(code, str(source))
        for code, name in reading.columns.items()
        if code not in ROLES
    }
    wide = dict(own)
    if not (texts and language):
        taken = {image, *texts, language, split, *own}
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
    if texts and language:
        reading.refuse(f"{source}: column {language} names the languages and", "caption_lang")
        captions = dict.fromkeys(texts)
    elif texts and reading.caption_lang:
        code = reading.require_language(source)
        if code in wide.values():
            raise XcliptError(f"{source}: two columns of captions in '{code}'; keep one")
        captions |= dict.fromkeys(texts, code)
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
        raise XcliptError(_lacking(names, source, ", ".join(texts)))
    used = {image, *captions, language, split}
    unread = (name for name in names if name not in used and not name.startswith(UNNAMED))
    return Columns(image, captions, language, split, tuple(unread), by_value=by_name is None)


def _lacking(names: Sequence[str], source: Path | str, captions: str) -> str:
    has = f"it has {', '.join(names)}"
    if captions:
        several = "columns" if ", " in captions else "column"
        return (
            f"{source}: nothing says which language the captions in {several} {captions} are in; "
            f"`caption_lang=CODE` does, or a column language (`columns=language=NAME`); {has}"
        )
    doubtful = [(name, code) for name, code in map(_code_in, names) if _may_be_meant(code)]
    perhaps = ""
    if doubtful:
        name, code = doubtful[0]
        perhaps = f", and {name} is taken for no language unless `columns={code}={name}` says so"
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

    def numbered(self, role: str) -> tuple[str, ...]:
        """Columns of one role that are numbered: ``caption_1``, ``caption_2``."""
        plain = {name: _plain(name) for name in self._names if _plain(name)[-1:].isdigit()}
        alike = (role, *ROLES[role])
        return tuple(name for name, text in plain.items() if text.rstrip("0123456789") in alike)

    def only_pictures(self, sample: Sequence[Mapping[str, Any]]) -> str | None:
        """The one column that holds names of picture files, whatever it is called."""
        found = []
        for name in self._names:
            values = [row.get(name) for row in sample]
            if name not in self._said.values() and 2 * sum(map(is_picture_name, values)) > len(
                values
            ):
                found.append(name)
        return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _code_in(name: str) -> tuple[str, str]:
    """A column's name, and what in it may be the code of a language; empty if nothing is."""
    name = name.strip()
    match = next(filter(None, (pattern.fullmatch(name) for pattern in _CAPTION_COLUMN)), None)
    return name, match["code"] if match else ""


def _is_doubtful(code: str) -> bool:
    """Whether a code is a word too, as ``no`` and ``id`` are, or three letters, as ``url`` is."""
    return code.lower() in _WORDS or (len(code) == 3 and code.isalpha())


def _may_be_meant(code: str) -> bool:
    try:
        return _is_doubtful(code) and len(resolve(code)) == 2
    except XcliptError:
        return False


def _language_columns(
    names: Sequence[str], sample: Sequence[Mapping[str, Any]], company: bool
) -> dict[str, str]:
    """Columns that are named by a language and hold text.

    A name that is a word too, as ``no`` and ``id`` are, counts only beside others (``company``);
    so does one of three letters (``deu``), if the language has two as well: ``alt_text`` is no
    text in Southern Altai.
    """
    certain: dict[str, str] = {}
    words: dict[str, str] = {}
    for name in names:
        plain, written = _code_in(name)
        try:
            code = resolve(written) if written else called(plain)
        except XcliptError:
            continue
        values = [value for row in sample for value in _texts_of(row.get(name)) if value]
        if code is None or not all(isinstance(value, str) for value in values):
            continue
        if not _is_doubtful(written):
            if not values or _mostly(values, lambda v: not _NO_TEXT.fullmatch(v)):
                certain[name] = code
        elif len(code) == 2 and _mostly(
            values, lambda v: _WORDS_OF_TEXT.search(v) and not _NO_TEXT.fullmatch(v)
        ):
            (words if written == plain or len(written) == 3 else certain)[name] = code
    together = company or sum(len(name.strip()) == 3 for name in words) > 1
    chosen = certain | words if certain or together else {}
    for code in {code for code in chosen.values() if [*chosen.values()].count(code) > 1}:
        # `in` is an old name of `id`: what is certain stays, and only then there are two.
        for name in words:
            if chosen[name] == code and code in certain.values():
                del chosen[name]
    return {name: chosen[name] for name in names if name in chosen}


def _texts_of(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else (value,)


def _mostly(values: Sequence[str], holds: Any) -> bool:
    return 2 * sum(bool(holds(value.strip())) for value in values) > len(values)


def _resolved(code: str, where: str) -> str:
    if not code.strip():
        raise XcliptError(f"{where}: no language; give its code")
    try:
        return find(code)
    except XcliptError as error:
        raise XcliptError(f"{where}: {error}") from error


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise XcliptError(f"{where}: column '{column}' holds {type(value).__name__}, not text")
    return value.strip()
