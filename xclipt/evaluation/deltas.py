"""Which deltas ``eval`` measures in each language."""

import re
from collections.abc import Sequence

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.errors import FailedError, UsageError, XcliptError

NONE = "none"
_SEED = re.compile(r"-seed\d+$")


def choose_deltas(
    directory: ArtifactDirectory,
    languages: Sequence[str],
    *,
    name: str | None = None,
    against: str | None = None,
    seeds: bool = False,
) -> dict[str, tuple[StoredDelta, ...]]:
    """The deltas of each language that has any to measure; the first is the one asked about.

    Args:
        name: The deltas' name; ``None`` is each language's current one, ``none`` the base alone.
        against: The name of the deltas to compare with.
        seeds: Take all that are called the same but for ``-seedN``.

    Of several languages, those that lack a named delta are measured without one.

    Raises:
        XcliptError: The options contradict each other, no language has what is named, or
            deltas that should differ only in their seed differ in more.
    """
    if seeds and against:
        raise XcliptError("leave it out with `seeds`, which compares the seeds", field="against")
    if name == NONE:
        if seeds or against:
            raise XcliptError(
                "is the base alone; leave out `against` and `seeds`", field="delta", value=NONE
            )
        return {}
    if against is not None and against == name:
        raise XcliptError(
            "is the same delta as `delta`; name another one", field="against", value=against
        )
    chosen = {}
    refused: XcliptError | None = None
    for language in languages:
        try:
            if seeds:
                found = _siblings(directory, language, name)
            else:
                found = _named(directory, language, name, against)
        except _LackingError as error:
            refused = refused or error
            continue
        if found:
            chosen[language] = found
    if refused and not chosen:
        raise refused
    return chosen


def stem(name: str) -> str:
    """A delta's name without ``-seedN``."""
    return _SEED.sub("", name)


class _LackingError(UsageError):
    """One language does not have what is asked; another one may."""


def _named(
    directory: ArtifactDirectory, language: str, name: str | None, against: str | None
) -> tuple[StoredDelta, ...]:
    language = directory.home(language)
    there = directory.names(language)
    current = directory.current(language)
    first = name or (current.manifest.reference if current else None)
    wanted = [one for one in (first, against) if one]
    for one in wanted:
        if one not in there:
            raise _LackingError(
                f"{directory.root}: no delta '{one}' for '{language}' "
                f"(there: {', '.join(there) or 'none'})"
            )
    return tuple(directory.delta(language, one) for one in dict.fromkeys(wanted))


def _siblings(
    directory: ArtifactDirectory, language: str, name: str | None
) -> tuple[StoredDelta, ...]:
    language = directory.home(language)
    current = directory.current(language)
    common = stem(name or (current.manifest.reference if current else ""))
    siblings = [
        directory.delta(language, other)
        for other in directory.names(language)
        if other != common and stem(other) == common
    ]
    if len(siblings) < 2:
        raise _LackingError(
            f"'{language}' has {len(siblings)} deltas named {common or 'NAME'}-seedN; train two at "
            "least, with different `seed`",
            field="seeds",
        )
    _require_alike(siblings)
    return tuple(sorted(siblings, key=lambda delta: (delta.manifest.seed, delta.manifest.name)))


def _require_alike(siblings: Sequence[StoredDelta]) -> None:
    first = siblings[0].manifest
    for other in (delta.manifest for delta in siblings[1:]):
        for what, one, another in (
            ("kind", first.kind, other.kind),
            ("setting", first.setting, other.setting),
            ("routine", first.routine, other.routine),
            ("text", first.text, other.text),
            ("translator", first.translator, other.translator),
            ("recipe", first.recipe, other.recipe),
            ("data set", first.data.dataset, other.data.dataset),
            ("shots", first.data.shots, other.data.shots),
        ):
            if one != another:
                raise FailedError(
                    f"{first.name} and {other.name} of '{first.language}' differ in their {what}, "
                    "not only in the seed; train them alike",
                    field="seeds",
                )
