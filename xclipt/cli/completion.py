"""What the shell offers after a tab: languages, deltas, data sets, backbones; without torch."""

from collections.abc import Iterable, Iterator
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
    """The data sets that are known by name, and the folders of captions in the data folder."""
    from xclipt.data.registry import KNOWN, data_at_hand

    root = Path(context.params.get("data_dir") or "data")
    there = [entry.name for entry in data_at_hand(root if root.is_dir() else None)]
    return _beginning((*(known.name for known in KNOWN), *there), incomplete)


def backbones(incomplete: str) -> Iterator[str]:
    """The published backbones that ``xclipt backbones`` lists."""
    from xclipt.backbones.catalogue import CATALOGUE

    return _beginning((one.name for one in CATALOGUE), incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> Iterator[str]:
    return (word for word in dict.fromkeys(words) if word.startswith(incomplete))


def _directory(context: typer.Context) -> "ArtifactDirectory | None":
    from xclipt.artifacts.directory import ArtifactDirectory

    root = Path(context.params.get("artifacts") or "xclipt-artifacts")
    with suppress(XcliptError):
        return ArtifactDirectory.open(root) if ArtifactDirectory.is_at(root) else None
    return None
