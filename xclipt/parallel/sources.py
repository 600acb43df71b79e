"""From what the user names to opened sources."""

from dataclasses import dataclass, field
from pathlib import Path

from xclipt.data.formats.arrow import is_hub_id
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.formats.arrow import open_hub
from xclipt.parallel.formats.columns import code_of
from xclipt.parallel.formats.known import FORMATS, format_of
from xclipt.parallel.formats.line_files import line_files, open_line_files
from xclipt.parallel.source import Source


@dataclass(frozen=True)
class ParallelRequest:
    """Which parallel sentences are wanted.

    Attributes:
        sources: Files and ``owner/name`` on the hub, as they were named; ``de=corpus.tsv`` is for
            German alone.
        language: ISO 639-1 code of the language that is not English.
        seed: Decides the order.
        reading: What the user said of the sources.
    """

    sources: tuple[str, ...]
    language: str
    seed: int = 1
    reading: Reading = field(default_factory=Reading)


def open_sources(request: ParallelRequest) -> list[Source]:
    """The sources of the request's language, understood but not read.

    Raises:
        UsageError: The language is English, no source is for it, or what is said of one is wrong.
        XcliptError: A source is not there, is in no known format, or does not hold both languages.
    """
    language = request.language
    if language == "en":
        raise UsageError(
            "English is the partner of every sentence: name the other language",
            field="language",
            value=language,
        )
    request.reading.refuse("parallel sentences: their languages are known and", "caption_lang")
    named = [place for tie, place in map(_tied, request.sources) if tie in (None, language)]
    if not named:
        raise UsageError(
            f"no source is for {language_name(language)}", field="parallel", value=language
        )
    opened: list[Source] = []
    for place in named:
        lines = _lines(place, language)
        if lines and any(set(lines) & set(source.files) for source in opened):
            continue  # the other of two files that were both named
        opened.append(_open(place, language, request.reading))
    return opened


def _tied(named: str) -> tuple[str | None, str]:
    """The language that a source is tied to, and the source."""
    before, equals, place = named.partition("=")
    code = code_of(before) if equals and place and not _path(named).exists() else None
    if code == "en":
        raise UsageError(
            f"English is the partner in every source; tie one to its other language, as de={place}",
            field="parallel",
            value=named,
        )
    return (code, place) if code else (None, named)


def _lines(place: str, language: str) -> tuple[Path, Path] | None:
    path = _path(place)
    known = format_of(path)
    plain = path.name.removesuffix(".gz").endswith(".txt")
    return line_files(path, language) if known is None or plain else None


def _open(place: str, language: str, reading: Reading) -> Source:
    path = _path(place)
    if lines := _lines(place, language):
        return open_line_files(lines[0], language, reading)
    if path.is_dir():
        raise _refused(place, f"is a folder; name its files, such as {place}/corpus.tsv")
    known = format_of(path)
    if path.is_file():
        if known:
            return known.open(path, language, reading)
        if any(code_of(piece) in ("en", language) for piece in path.name.split(".")):
            return open_line_files(path, language, reading)
        endings = ", ".join(suffix for known in FORMATS for suffix in known.suffixes)
        raise _refused(
            place,
            f"a file of another kind; it may end in {endings}, or be two files of lines that end "
            f"in their languages, .en and .{language}",
        )
    if path.is_symlink():
        raise _refused(place, "is a link that leads nowhere")
    if path.exists():
        raise _refused(place, "is a device or pipe, which can be read but once; make it a file")
    if known is None and is_hub_id(place):
        return open_hub(place, language, reading)
    raise _refused(place, "no such file")


def _path(place: str) -> Path:
    try:
        path = Path(place).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL
        raise _refused(place, "no such file") from None
    if not place.strip():
        raise _refused(place, "no such file")
    return path


def _refused(named: str, why: str) -> XcliptError:
    return XcliptError(why, field="parallel", value=named)
