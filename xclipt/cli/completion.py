"""What the shell offers after a tab: languages, deltas, data sets, backbones; without torch."""

from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xclipt.errors import XcliptError

if TYPE_CHECKING:
    from xclipt.artifacts.directory import ArtifactDirectory


def languages(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Codes with their names, after what stands before the last comma."""
    from xclipt.languages import COMMON, name

    given, comma, begun = incomplete.rpartition(",")
    before = given + comma
    taken = given.split(",")
    directory = _directory(context)
    with_deltas = directory.languages() if directory else []
    for code in dict.fromkeys((*with_deltas, *sorted(COMMON))):
        if code.startswith(begun) and code not in taken:
            yield before + code, name(code)


def deltas(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Names of the language's deltas, or of all where none is named."""
    directory = _directory(context)
    if directory is None:
        return iter(())
    asked = context.params.get("lang") or context.params.get("language") or "all"
    codes = directory.languages() if asked == "all" else str(asked).split(",")
    names = (name for code in codes for name in directory.names(code))
    return _beginning(names, incomplete)


def datasets(context: typer.Context, incomplete: str) -> Iterator[str]:
    """What is known by name, folders of captions in the data folder, files and folders here."""
    from xclipt.data.formats.known import SUFFIXES
    from xclipt.data.registry import KNOWN, data_at_hand

    root = Path(context.params.get("data_dir") or "data")
    there = [entry.name for entry in data_at_hand(root if root.is_dir() else None)]
    named = (*(known.name for known in KNOWN), *there)
    return _beginning((*named, *_paths(incomplete, SUFFIXES)), incomplete)


def backbones(incomplete: str) -> Iterator[str]:
    """The published backbones that ``xclipt backbones`` lists, and folders."""
    from xclipt.backbones.catalogue import CATALOGUE

    names = (one.name for one in CATALOGUE)
    return _beginning((*names, *_paths(incomplete)), incomplete)


def _paths(incomplete: str, suffixes: Container[str] = ()) -> Iterator[str]:
    """Folders that the word may go on to, and files of these endings."""
    before, slash, begun = incomplete.rpartition("/")
    with suppress(OSError):
        for path in sorted(Path(before + slash or ".").expanduser().iterdir()):
            if path.name.startswith(".") and not begun.startswith("."):
                continue
            if path.is_dir():
                yield f"{before}{slash}{path.name}/"
            elif path.suffix.lower() in suffixes:
                yield f"{before}{slash}{path.name}"


def _beginning(words: Iterable[str], incomplete: str) -> Iterator[str]:
    return (word for word in dict.fromkeys(words) if word.startswith(incomplete))


def _directory(context: typer.Context) -> "ArtifactDirectory | None":
    from xclipt.artifacts.directory import ArtifactDirectory

    root = Path(context.params.get("artifacts") or "xclipt-artifacts")
    with suppress(XcliptError):
        return ArtifactDirectory.open(root) if ArtifactDirectory.is_at(root) else None
    return None
