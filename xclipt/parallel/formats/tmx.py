"""Translation memories: TMX, of any version, as it streams in."""

import codecs
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, XMLParser, iterparse

from xclipt.data.formats.encodings import Advance, open_bytes
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.formats.columns import code_of
from xclipt.parallel.source import RawPair, Source

_LANG = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")  # the latter before TMX 1.4
_CODE_OF_PROGRAMS = frozenset(("bpt", "ept", "ut"))
_STANDS_ALONE = frozenset(("it", "ph"))
_DEEPEST = 50
_ENTITY = b"<!ENTITY"


def open_tmx(path: Path, language: str, reading: Reading) -> Source:
    """A translation memory; of its languages, English and the one that is asked for.

    Raises:
        XcliptError: The file cannot be looked at; while it is read, that it is broken, no TMX, or
            has not the two languages.
    """
    reading.refuse(f"{path}: a translation memory", "columns")
    return Source.of_files(
        (path,),
        "its units",
        lambda advance: _pairs(path, language, reading.encoding, advance),
        "put right the languages of its segments (xml:lang)",
    )


def _pairs(path: Path, language: str, encoding: str | None, advance: Advance) -> Iterator[RawPair]:
    there: Counter[str] = Counter()
    matching = 0
    for segments in _units(path, encoding, advance):
        there.update(segments.keys())
        if "en" in segments and language in segments:
            matching += 1
            yield segments["en"], segments[language]
    if not matching:
        has = ", ".join(code for code, _ in there.most_common(12)) or "no units of translation"
        raise XcliptError(
            f"{path}: has no unit in English and {language_name(language)}; it has {has}"
        )


def _units(path: Path, encoding: str | None, advance: Advance) -> Iterator[dict[str, str]]:
    """The segments of every unit by language, the first of each."""
    source = None
    above: list[Element] = []
    try:
        parser = XMLParser(encoding=encoding and codecs.lookup(encoding).name)
    except LookupError:
        raise UsageError(
            "no encoding that Python knows", field="encoding", value=encoding
        ) from None
    with open_bytes(path, advance) as file:
        try:
            for event, element in iterparse(_Checked(file, path), ("start", "end"), parser):
                tag = _local(element)
                if event == "start":
                    if not above and tag != "tmx":
                        raise XcliptError(f"{path}: is XML but no TMX (it begins with <{tag}>)")
                    if len(above) > _DEEPEST:
                        raise XcliptError(f"{path}: is no TMX (elements lie {_DEEPEST} deep)")
                    above.append(element)
                    continue
                above.pop()
                if tag == "header":
                    source = element.get("srclang")
                if tag == "tu":
                    yield _segments(element, source)
                    above[-1].clear()  # else the whole file would gather here
        except ParseError as error:
            line, _ = error.position
            raise XcliptError(
                f"{path}: line {line}: broken XML ({str(error).partition(':')[0]}); "
                "is the file whole, and its encoding what its first line says?"
            ) from error
        except (LookupError, ValueError) as error:
            raise XcliptError(f"{path}: cannot be decoded ({error}); save it as UTF-8") from error


def _segments(unit: Element, source: str | None) -> dict[str, str]:
    segments: dict[str, str] = {}
    variants = [child for child in unit if _local(child) == "tuv"]
    for number, variant in enumerate(variants):
        said = next(filter(None, map(variant.get, _LANG)), None)
        if said is None and number == 0:
            said = unit.get("srclang") or source
        code = code_of(said) if said else None
        segment = next((child for child in variant if _local(child) == "seg"), None)
        if code and segment is not None:
            segments.setdefault(code, _text(segment))
    return segments


def _text(element: Element) -> str:
    """What a person reads: without the mark-up of other programs that inline elements hold."""
    parts = [element.text or ""]
    for child in element:
        tag = _local(child)
        if tag in _STANDS_ALONE:
            parts.append(" ")
        elif tag not in _CODE_OF_PROGRAMS:
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _local(element: Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


class _Checked:
    """The file as the parser reads it, refused when it declares entities.

    They can make gigabytes of a few lines, and no translation memory has them. (Text that only
    looks like it has ``&lt;``.)
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._before = b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        seen = self._before + data.replace(b"\0", b"")  # in UTF-16 too
        if _ENTITY in seen:
            raise XcliptError(
                f"{self._path}: declares XML entities, which are refused: remove them"
            )
        self._before = seen[-len(_ENTITY) :]
        return data
