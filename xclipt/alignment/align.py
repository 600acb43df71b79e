"""``align``: the pairs of several languages, stored and measured beside English."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xclipt.alignment.build import AlignmentRequest, AlignmentSet, build_alignment
from xclipt.alignment.routines import inference_text
from xclipt.alignment.similarity import (
    PairSimilarity,
    caption_sides,
    english_reference,
    measure_similarity,
)
from xclipt.alignment.store import store_alignment
from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class LanguageAlignment:
    """One language's pairs, where they are stored, and how alike their texts are."""

    language: str
    alignment: AlignmentSet
    similarity: PairSimilarity
    path: Path

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        translator = self.alignment.translator
        return {
            "language": self.language,
            "name": self.path.name,
            "path": str(self.path),
            "sha256": self.alignment.sha256,
            "translator": asdict(translator) if translator else None,
            "left_out": self.alignment.left_out.counts(),
            **self.similarity.as_json(),
        }


@dataclass(frozen=True)
class AlignmentReport:
    """What ``align`` measured.

    Attributes:
        refused: Why a language has no row; of one language alone it is an error.
        english: English captions with others of the same pictures, or with themselves; ``None``
            where the data set has no English.
        english_is_itself: There were no others.
    """

    dataset: str
    split: str | None
    routine: int | None
    backbone: BackboneIdentity
    rows: tuple[LanguageAlignment, ...]
    refused: dict[str, XcliptError]
    english: PairSimilarity | None
    english_is_itself: bool

    def similarities(self) -> list[tuple[str, PairSimilarity]]:
        """English first, then the languages as they were asked for."""
        english = [("en", self.english)] if self.english else []
        return english + [(row.language, row.similarity) for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        english = None
        if self.english:
            partner = "itself" if self.english_is_itself else "another English caption"
            english = {"partner": partner, **self.english.as_json()}
        return {
            "dataset": self.dataset,
            "split": self.split,
            "routine": self.routine,
            "text": inference_text(self.routine),
            "backbone": {"id": self.backbone.id, "fingerprint": self.backbone.fingerprint},
            "rows": [row.as_json() for row in self.rows],
            "refused": {language: str(why) for language, why in self.refused.items()},
            "english": english,
        }


def align(
    workspace: Workspace, dataset: Dataset, requests: Sequence[AlignmentRequest]
) -> AlignmentReport:
    """Build, store and measure the alignment sets of several languages.

    >>> import xclipt
    >>> workspace = xclipt.open_workspace("xclipt-artifacts")
    >>> requests = [xclipt.AlignmentRequest(code, shots=100) for code in ("fr", "de")]
    >>> report = xclipt.align(workspace, xclipt.open_dataset("emoji"), requests)
    >>> [(row.language, round(row.similarity.cosine, 1)) for row in report.rows]
    [('fr', 0.6), ('de', 0.5)]

    Args:
        requests: One a language, alike but for that. A language whose data does not hold what is
            asked is left out, unless it is the only one.

    Raises:
        XcliptError: No language's data holds what is asked, or texts were never translated.
    """
    rows: list[LanguageAlignment] = []
    refused: dict[str, XcliptError] = {}
    for request in requests:
        try:
            alignment = build_alignment(workspace, dataset, request)
        except XcliptError as error:
            refused[request.language] = error
            continue
        similarity = measure_similarity(
            workspace,
            *caption_sides(alignment.pairs),
            request.text_language,
            request.partner_language,
        )
        path = store_alignment(workspace.directory, alignment, similarity)
        rows.append(LanguageAlignment(request.language, alignment, similarity, path))
    if not rows:
        raise next(iter(refused.values()))
    for language, why in refused.items():
        workspace.progress.note(f"'{language}' is left out: {why}")
    first = rows[0].alignment
    reference = english_reference(
        dataset, first.split, first.request.seed, max(row.similarity.pairs for row in rows)
    )
    return AlignmentReport(
        dataset=dataset.name,
        split=first.split,
        routine=first.request.routine,
        backbone=workspace.backbone.identity,
        rows=tuple(rows),
        refused=refused,
        english=(
            measure_similarity(workspace, *caption_sides(reference.pairs)) if reference else None
        ),
        english_is_itself=reference is not None and reference.itself,
    )
