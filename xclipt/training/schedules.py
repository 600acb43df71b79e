"""Learning rate schedules: shares of the peak rate, as pure functions of the step."""

import math
from collections.abc import Callable


def cosine_schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear over ``warmup`` of the steps, then half a cosine."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def constant_schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear over ``warmup`` of the steps, then the peak."""
    return min(1.0, (step + 1) / (warmup * total + 1))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": cosine_schedule,
    "constant": constant_schedule,
}
"""Schedules by the name that a recipe knows."""
