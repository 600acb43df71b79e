"""Table cells that say how big a delta is and what it measured."""

from collections.abc import Mapping
from typing import Any

from xclipt.cli.terminal import size


def size_cells(parameters: int, percent: float, count: int) -> tuple[str, str, str]:
    """Parameters, their share of the text tower's, and the file's size from its bytes."""
    share = f"{percent:.3f} %" if percent >= 0.001 else f"{percent:.2g} %"
    return f"{parameters:,}", share, size(count)


def validation_cells(validation: Mapping[str, Any]) -> tuple[str, str]:
    """Mean R@1 of the base and of the delta on the validation pictures, ``-`` without any."""
    if "mean_R@1" not in validation:
        return "-", "-"
    return f"{validation['base_mean_R@1']:.1f}", f"{validation['mean_R@1']:.1f}"
