"""Translations on disk, found by the text that was translated."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.documents import parse_json, read_yaml
from xclipt.errors import XcliptError
from xclipt.files import content_hash, read_regular, sweep, text_key, write_bytes, write_text

FORMAT = 1
TO_EN, FROM_EN = "to-en", "from-en"
FROM_FILE = "file"
"""The engine of translations that somebody made elsewhere."""
_CARD = "translator.yaml"
_SUM = "sum"
"""Over text, flags and ``dropped``: what is edited by hand is noticed."""


@dataclass(frozen=True)
class Direction:
    """A way to translate: from one language into another, ISO 639-1 codes."""

    source: str
    target: str

    @classmethod
    def of(cls, language: str, name: str) -> "Direction":
        """``to-en`` or ``from-en`` of a language."""
        return cls(language, "en") if name == TO_EN else cls("en", language)

    @property
    def name(self) -> str:
        """``to-en`` or ``from-en``."""
        return TO_EN if self.target == "en" else FROM_EN

    @property
    def language(self) -> str:
        """The one of the two that is not English."""
        return self.source if self.target == "en" else self.target


@dataclass(frozen=True)
class Translator:
    """Who made translations.

    Attributes:
        engine: Name of the engine, such as ``transformers`` or ``file``.
        model: What the engine ran: a hub id, a chain of pairs, a file's name.
        revision: Which state of the model it was: a commit, or a hash of its content.
        setting: What else decides the output, such as ``beams=4``.
    """

    engine: str
    model: str
    revision: str
    setting: str = ""

    @property
    def name(self) -> str:
        """A folder name that only this translator has, readable as far as that can be."""
        digest = hashlib.sha256(json.dumps(list(asdict(self).values())).encode()).hexdigest()
        model = re.sub(r"[^A-Za-z0-9._-]+", "--", self.model).strip("-.")[:60]
        return f"{self.engine}-{model}-{digest[:8]}"


@dataclass(frozen=True)
class Translation:
    """One text and its translation.

    Attributes:
        source: The text as it was given.
        text: Its translation.
        flags: Names of the guards that found fault with it.
        dropped: Whether it is kept from use.
    """

    source: str
    text: str
    flags: tuple[str, ...] = ()
    dropped: bool = False


class TranslationStore:
    """All translations of one direction by one translator: ``translations/fr-en/TRANSLATOR/``.

    ``translator.yaml`` says who it was. A batch of translations is one shard, a file of JSON lines
    named by a hash of its texts: several processes can write at once, and a run that is killed and
    taken up again leaves the same files as one that was left alone. A damaged line is as good as
    absent.
    """

    def __init__(
        self, directory: ArtifactDirectory, translator: Translator, source: str, target: str
    ) -> None:
        self.translator = translator
        self.source = source
        self.target = target
        self.folder = _direction(directory, source, target) / translator.name
        self._known: dict[str, Translation] = {}
        self._shards: dict[Path, list[Translation]] = {}
        self._may_write = False
        for shard in sorted(self.folder.glob("*.jsonl")):
            self._remember(shard, _read_shard(shard))

    def __contains__(self, text: str) -> bool:
        return text in self._known

    def __len__(self) -> int:
        return len(self._known)

    def get(self, text: str) -> Translation | None:
        """The translation of a text, dropped or not; ``None`` where there is none."""
        return self._known.get(text)

    def add(self, batch: Sequence[Translation]) -> None:
        """Keep a batch of translations in memory and, as one shard, on disk.

        Raises:
            XcliptError: The folder cannot be written to.
        """
        keys = b"".join(text_key(translation.source) for translation in batch)
        shard = self.folder / f"{hashlib.sha256(keys).hexdigest()[:16]}.jsonl"
        self._write(shard, batch)
        self._remember(shard, batch)

    def revise(self, judge: Callable[[Translation], Translation]) -> int:
        """Let ``judge`` set flags and ``dropped`` anew; tells how many translations changed.

        Raises:
            XcliptError: The folder cannot be written to.
        """
        changed = 0
        for shard, old in list(self._shards.items()):
            new = [judge(translation) for translation in old]
            if new != old:
                changed += sum(a != b for a, b in zip(new, old, strict=True))
                self._write(shard, new)
                self._remember(shard, new)
        return changed

    def _write(self, shard: Path, batch: Sequence[Translation]) -> None:
        if not self._may_write:
            sweep(self.folder)
            card = {"format": FORMAT, "source": self.source, "target": self.target}
            card |= asdict(self.translator)
            text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
            if not (self.folder / _CARD).exists():
                write_text(self.folder / _CARD, text)
            self._may_write = True
        lines = "".join(f"{_line(translation)}\n" for translation in batch)
        write_text(shard, lines, swept=True)

    def _remember(self, shard: Path, batch: Sequence[Translation]) -> None:
        self._shards[shard] = list(batch)
        self._known |= {translation.source: translation for translation in batch}


def stores(directory: ArtifactDirectory, source: str, target: str) -> list[TranslationStore]:
    """The stores of one direction, by the names of their folders.

    Raises:
        XcliptError: A ``translator.yaml`` cannot be read, or is of a newer format.
    """
    cards = sorted(_direction(directory, source, target).glob(f"*/{_CARD}"))
    return [TranslationStore(directory, _read_card(card), source, target) for card in cards]


def _direction(directory: ArtifactDirectory, source: str, target: str) -> Path:
    return directory.root / "translations" / f"{source}-{target}"


def _line(translation: Translation) -> str:
    # U+2028 and the like stay as they are: only "\n" ends a line here, and JSON escapes that one.
    entry: dict[str, Any] = {
        "source": translation.source,
        "sha256": text_key(translation.source).hex(),
        "text": translation.text,
    }
    if translation.flags:
        entry |= {"flags": list(translation.flags), "dropped": translation.dropped}
    return json.dumps(entry | {_SUM: _sum(translation)}, ensure_ascii=False)


def _sum(translation: Translation) -> str:
    plain = [translation.text, list(translation.flags), translation.dropped]
    return content_hash(json.dumps(plain, ensure_ascii=False).encode())[:16]


def _read_shard(path: Path) -> list[Translation]:
    return [translation for line in _lines(path) if (translation := _read_line(line))]


def _read_line(line: bytes, *, accept: bool = False) -> Translation | None:
    try:
        entry = parse_json(line)
        source, text = entry["source"], entry["text"]
        flags, dropped = tuple(entry.get("flags", ())), entry.get("dropped", False)
        if entry["sha256"] != text_key(source).hex():
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(text, str) or not all(isinstance(flag, str) for flag in flags):
        return None
    translation = Translation(source, text, flags, dropped is True)
    # Lines of earlier releases have no sum.
    return translation if accept or entry.get(_SUM) in (None, _sum(translation)) else None


def damaged_lines(shard: Path) -> list[int]:
    """Numbers of the lines of a shard that were edited or are damaged, and so are not used.

    Raises:
        XcliptError: The file cannot be read.
    """
    return [n for n, line in enumerate(_lines(shard), 1) if line and _read_line(line) is None]


def accept_lines(shard: Path) -> int:
    """Take the edited lines of a shard as they are; tells how many. Damaged ones stay damaged.

    Raises:
        XcliptError: The file cannot be read or written.
    """
    accepted, lines = 0, []
    for line in _lines(shard):
        edited = None if _read_line(line) else _read_line(line, accept=True)
        lines.append(_line(edited).encode() if edited else line)
        accepted += edited is not None
    if accepted:
        write_bytes(shard, b"\n".join(lines))
    return accepted


def _lines(path: Path) -> list[bytes]:
    try:
        return read_regular(path).split(b"\n")
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from None


def check_translator(path: Path) -> str:
    """What is wrong with a ``translator.yaml``; empty where nothing is."""
    try:
        _read_card(path)
    except XcliptError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _read_card(path: Path) -> Translator:
    try:
        card = read_yaml(path)
        made_by = card.pop("format")
        translator = Translator(
            *(str(card[key]) for key in ("engine", "model", "revision", "setting"))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise XcliptError(
            f"{path}: cannot read ({str(error).splitlines()[0]}); delete the folder, and its "
            "translations are made again"
        ) from None
    if made_by != FORMAT:
        raise XcliptError(f"{path}: format {made_by}, this xclipt reads {FORMAT}: upgrade it")
    if translator.name != path.parent.name:
        raise XcliptError(
            f"{path}: is {translator.name}'s, not {path.parent.name}'s; remove the folder"
        )
    return translator
