"""``align``: the pairs of several languages, stored and measured beside English."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xclipt.alignment.alignment_set import AlignmentRequest, AlignmentSet, build_alignment
from xclipt.alignment.gap import Gap, english_reference, measure_gap
from xclipt.alignment.routines import inference_text
from xclipt.alignment.stored import store_alignment
from xclipt.backbones.backbone import BackboneIdentity
from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class LanguageAlignment:
    """One language's pairs, where they are stored, and their gap."""

    language: str
    alignment: AlignmentSet
    gap: Gap
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
            **self.gap.as_json(),
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
    refused: dict[str, str]
    english: Gap | None
    english_is_itself: bool

    def gaps(self) -> list[tuple[str, Gap]]:
        """English first, then the languages as they were asked for."""
        english = [("en", self.english)] if self.english else []
        return english + [(row.language, row.gap) for row in self.rows]

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
            "refused": self.refused,
            "english": english,
        }


def align(
    workspace: Workspace,
    dataset: Dataset,
    languages: Sequence[str],
    *,
    routine: int | None = 1,
    shots: int | None = 1000,
    up_to: bool = False,
    seed: int = 1,
    split: str | None = None,
    floor: float | None = None,
    translator: str | None = None,
    pictures: bool = False,
) -> AlignmentReport:
    """Build, store and measure the alignment sets of several languages.

    Args:
        routine: 1, 2 or 3: :mod:`xclipt.alignment.routines`.
        shots: Pictures with one caption each; ``None`` is every caption of every picture.
        up_to: Where there are fewer pictures than ``shots``, take those.
        seed: Of the choice of pictures.
        split: ``None`` is ``train``, or everything where there is no such split.
        floor: Least cosine of a pair's texts.
        translator: Engine, model or folder of the translations to take.
        pictures: Only pictures whose files are there; otherwise texts alone.

    Raises:
        XcliptError: The data does not hold what is asked, or texts were never translated.
    """
    rows: list[LanguageAlignment] = []
    refused: dict[str, XcliptError] = {}
    for language in languages:
        request = AlignmentRequest(
            language=language,
            shots=shots,
            routine=routine,
            text=inference_text(routine),
            seed=seed,
            split=split,
            allow_missing=pictures,
            translator=translator,
            floor=floor,
        )
        try:
            alignment = build_alignment(workspace, dataset, request, pictures=pictures, up_to=up_to)
        except XcliptError as error:
            refused[language] = error
            continue
        gap = measure_gap(workspace, alignment.pairs)
        path = store_alignment(workspace.directory, alignment, gap)
        rows.append(LanguageAlignment(language, alignment, gap, path))
    if not rows:
        raise next(iter(refused.values()))
    for language, why in refused.items():
        workspace.progress.note(f"'{language}' is left out: {why}")
    used = rows[0].alignment.split
    reference = english_reference(dataset, used, seed, max(row.gap.pairs for row in rows))
    return AlignmentReport(
        dataset=dataset.name,
        split=used,
        routine=routine,
        backbone=workspace.backbone.identity,
        rows=tuple(rows),
        refused={language: str(why) for language, why in refused.items()},
        english=measure_gap(workspace, reference.pairs) if reference else None,
        english_is_itself=reference is not None and reference.itself,
    )
