"""Multilingual disparity: how unequal languages are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Disparity:
    """Disparity over a set of languages, in the metric's own unit.

    Attributes:
        sd: Population standard deviation.
        range: Largest minus smallest.
        english_gap: English minus the mean of the others; ``None`` without English or others.
    """

    sd: float
    range: float
    english_gap: float | None

    def as_json(self) -> dict[str, float | None]:
        """Under the keys that programs rely on."""
        return asdict(self)


def disparity(by_language: Mapping[str, float]) -> Disparity:
    """The three figures over a metric by language code; there is one language at least."""
    values = np.array(list(by_language.values()))
    others = [value for language, value in by_language.items() if language != "en"]
    gap = by_language["en"] - float(np.mean(others)) if "en" in by_language and others else None
    return Disparity(float(values.std()), float(np.ptp(values)), gap)
