"""Parallel sentences in files, and what xclipt keeps of them."""

from pathlib import Path

from tests.factories.noting import Noting
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.identity import BackboneIdentity
from xclipt.parallel.sources import ParallelRequest
from xclipt.parallel.store import store_pairs
from xclipt.parallel.stored import StoredPairs

ENGLISH = (
    "A dog runs through the snow.",
    "Two men sit on a bench.",
    "The red house stands near a river.",
    "A woman reads a newspaper.",
)
TELUGU = (
    "ఒక కుక్క మంచులో పరుగెడుతుంది.",
    "ఇద్దరు మనుషులు బెంచీపై కూర్చున్నారు.",
    "ఎర్ర ఇల్లు నది దగ్గర ఉంది.",
    "ఒక స్త్రీ వార్తాపత్రిక చదువుతోంది.",
)
GERMAN = (
    "Ein Hund läuft durch den Schnee.",
    "Zwei Männer sitzen auf einer Bank.",
    "Das rote Haus steht an einem Fluss.",
    "Eine Frau liest eine Zeitung.",
)
PAIRS = frozenset(zip(ENGLISH, TELUGU, strict=True))
GERMAN_PAIRS = frozenset(zip(ENGLISH, GERMAN, strict=True))


def empty_directory(root: Path) -> ArtifactDirectory:
    """An artifact directory of a backbone that nothing here looks at."""
    return ArtifactDirectory(root, BackboneIdentity("none", "none", "0" * 64))


def read(
    directory: Path,
    *sources: object,
    language: str = "te",
    told: list[str] | None = None,
    **request: object,
) -> StoredPairs:
    """What is kept of sources, and in ``told`` what is said of it."""
    noting = Noting()
    named = ParallelRequest(tuple(map(str, sources)), language, **request)  # type: ignore[arg-type]
    pairs = store_pairs(empty_directory(directory / "artifacts"), named, noting)
    if told is not None:
        told += noting.notes
    return pairs


def texts(pairs: StoredPairs) -> frozenset[tuple[str, str]]:
    """The two sides of every pair."""
    return frozenset((pair.english, pair.text) for pair in pairs)
