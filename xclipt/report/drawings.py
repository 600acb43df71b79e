"""The drawings of the HTML report, as numbers for its template."""

from collections.abc import Mapping
from dataclasses import dataclass

from xclipt.artifacts.directory import StoredDelta

_LETTER = 2.8  # per cent of the line's width on a telephone, where it is narrowest


@dataclass(frozen=True)
class Mark:
    """One language.

    Attributes:
        left: Where it is, per cent of the line's width.
        lane: Where its label is; 0 is next to the line.
    """

    language: str
    value: float
    left: float
    lane: int


def strip(values: Mapping[str, float], top: float) -> list[Mark]:
    """Place the languages' ``values`` on a line from 0 to ``top``, smallest first.

    A label takes the lowest lane where it is clear of the one before.
    """
    marks: list[Mark] = []
    ends: list[float] = []
    for language, value in sorted(values.items(), key=lambda one: (one[1], one[0])):
        left = 100 * min(1.0, value / top)
        half = _LETTER * len(language) / 2
        lane = next((i for i, end in enumerate(ends) if end <= left - half), len(ends))
        ends[lane : lane + 1] = [left + half]
        marks.append(Mark(language, value, left, lane))
    return marks


WIDTH, HEIGHT = 300, 130
_LEFT, _RIGHT, _TOP = 34, 8, 10
_FLOOR = 30  # the lowest value keeps clear of the axis, which is 20 above the bottom


@dataclass(frozen=True)
class LearningCurve:
    """Mean R@1 on validation pictures over training steps, in SVG units.

    Attributes:
        points: ``x,y x,y ...`` of the line.
        base: Height of the base's figure.
        chosen: Where the kept weights are.
        low: Smallest value drawn, per cent; ``high`` the largest.
        last_step: At the right edge.
    """

    language: str
    name: str
    validated_on: str
    points: str
    base: float
    base_value: float
    chosen: tuple[float, float]
    chosen_step: int
    chosen_value: float
    low: float
    high: float
    last_step: int


def learning_curve(delta: StoredDelta) -> LearningCurve | None:
    """The curve of one delta; ``None`` where it was trained without validation."""
    validation = delta.manifest.validation
    history = validation.get("history")
    if not history or "mean_R@1" not in validation:
        return None
    steps = [float(entry["step"]) for entry in history]
    values = [float(entry["mean_R@1"]) for entry in history]
    base = float(validation["base_mean_R@1"])
    low, high = min(*values, base), max(*values, base)
    span, last = (high - low) or 1.0, max(steps) or 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * step / last
        y = HEIGHT - _FLOOR - (HEIGHT - _TOP - _FLOOR) * (value - low) / span
        return round(x, 1), round(y, 1)

    chosen_step, chosen_value = int(validation["step"]), float(validation["mean_R@1"])
    return LearningCurve(
        language=delta.manifest.language,
        name=delta.manifest.name,
        validated_on=delta.manifest.data.validated_on.replace("`", ""),
        points=" ".join(
            f"{x},{y}" for x, y in (place(s, v) for s, v in zip(steps, values, strict=True))
        ),
        base=place(0, base)[1],
        base_value=base,
        chosen=place(chosen_step, chosen_value),
        chosen_step=chosen_step,
        chosen_value=chosen_value,
        low=low,
        high=high,
        last_step=int(last),
    )
