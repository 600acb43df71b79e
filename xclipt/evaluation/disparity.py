"""Multilingual disparity: how unequal languages are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Disparity:
    """Disparity over a set of languages, in the metric's own unit.

    Attributes:
        sd: Population standard deviation.
        range: Largest minus smallest.
        english_gap: English minus the mean of the others; ``None`` without English or others.
        worst_language: The language with the smallest value.
        languages: The set that the figures are over.
    """

    sd: float
    range: float
    english_gap: float | None
    worst_language: str
    languages: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "sd": self.sd,
            "range": self.range,
            "english_gap": self.english_gap,
            "worst_language": self.worst_language,
            "languages": list(self.languages),
        }


def disparity(by_language: Mapping[str, float]) -> Disparity:
    """The figures over a metric by language code; there is one language at least."""
    values = np.array(list(by_language.values()))
    others = [value for language, value in by_language.items() if language != "en"]
    gap = by_language["en"] - float(np.mean(others)) if "en" in by_language and others else None
    return Disparity(
        sd=float(values.std()),
        range=float(np.ptp(values)),
        english_gap=gap,
        worst_language=min(by_language, key=by_language.__getitem__),
        languages=tuple(by_language),
    )


def gap_closed(base: float, delta: float, english: float) -> float | None:
    """The share, per cent, of the gap between ``base`` and ``english`` that ``delta`` closed.

    Above 100 the language is ahead of English; below 0 the gap has grown. ``None`` where the base
    is not behind English, so that there is no gap to close.
    """
    return 100 * (delta - base) / (english - base) if base < english else None
