"""``align`` of parallel sentences: how far apart their two sides are before any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xclipt.alignment.similarity import PairSimilarity, measure_similarity
from xclipt.backbones.identity import BackboneIdentity
from xclipt.errors import UsageError
from xclipt.parallel.sources import ParallelRequest
from xclipt.parallel.store import store_pairs
from xclipt.parallel.stored import StoredPairs
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class LanguageSentences:
    """One language's pairs, those that were measured, and how alike their sides are."""

    pairs: StoredPairs
    measured: StoredPairs
    similarity: PairSimilarity

    @property
    def language(self) -> str:
        """The one that is not English."""
        return self.pairs.language

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on, as those of captions have them."""
        return {
            "language": self.language,
            "name": self.pairs.folder.name,
            "path": str(self.pairs.folder),
            "sha256": self.measured.sha256,
            "source": self.pairs.source,
            "there": len(self.pairs),
            "translator": None,
            "left_out": dict(self.pairs.left_out),
            **self.similarity.as_json(),
        }


@dataclass(frozen=True)
class SentencesReport:
    """What ``align`` measured of parallel sentences."""

    backbone: BackboneIdentity
    rows: tuple[LanguageSentences, ...]

    @property
    def source(self) -> str:
        """What the pairs were read from."""
        return ",".join(dict.fromkeys(row.pairs.source for row in self.rows))

    def similarities(self) -> list[tuple[str, PairSimilarity]]:
        """The languages as they were asked for."""
        return [(row.language, row.similarity) for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on, as those of captions have them."""
        return {
            "dataset": self.source,
            "split": None,
            "routine": None,
            "text": "target",
            "backbone": {"id": self.backbone.id, "fingerprint": self.backbone.fingerprint},
            "rows": [row.as_json() for row in self.rows],
            "refused": {},
            "english": None,
        }


def align_sentences(
    workspace: Workspace,
    requests: Sequence[ParallelRequest],
    shots: int | None = 1000,
    *,
    up_to: bool = False,
) -> SentencesReport:
    """Keep the parallel sentences of several languages, and measure them in the frozen tower.

    Args:
        workspace: Where they are kept, and the tower.
        requests: One a language.
        shots: So many pairs are measured, the first of their order; ``None`` is all.
        up_to: Where there are fewer, take those.

    Raises:
        UsageError: A source is unusable, or has fewer pairs than ``shots``.
    """
    rows = []
    for request in requests:
        pairs = store_pairs(workspace.directory, request, workspace.progress)
        if shots is not None and shots > len(pairs) and not up_to:
            raise UsageError(
                f"{pairs.source} has {len(pairs):,} pairs in '{pairs.language}' to use; give at "
                "most that, or all",
                field="shots",
                value=shots,
            )
        measured = pairs[:shots]
        texts, english = zip(*((pair.text, pair.english) for pair in measured), strict=True)
        similarity = measure_similarity(workspace, texts, english, pairs.language)
        rows.append(LanguageSentences(pairs, measured, similarity))
    return SentencesReport(workspace.backbone.identity, tuple(rows))
