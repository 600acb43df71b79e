"""Figures as a table of 80 columns, and as JSON."""

import platform
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.measuring import Figure, Measured, Row, Setting, Target, cores

WIDTH = 80
_HEADER = f"{'what':<28} {'against':<27} {'found':>9} {'target':>9}"


@dataclass(frozen=True)
class Found:
    """A row with what it found, and the seconds that this took."""

    row: Row
    measured: Measured
    seconds: float


def lines_of(found: Found) -> Iterator[str]:
    """The row's part of the table."""
    figures = found.measured.figures
    yield f"{found.row.name}: {found.row.about} ({found.seconds:.0f} s)"
    for figure in figures:
        mark = "" if _held(figure) is not False else " !"
        yield (
            f"  {figure.what:<26.26} {figure.against:<27.27} {_value(figure):>9} "
            f"{_target(figure.target, figure.unit):>9}{mark}"
        ).rstrip()
    for remark in dict.fromkeys(figure.remark for figure in figures if figure.remark):
        yield from textwrap.wrap(
            remark, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )


def heading(setting: Setting) -> str:
    """What stands above the table: the machine, and what the signs mean."""
    about = textwrap.wrap(
        ", ".join(f"{name} {value}" for name, value in machine(setting).items())
        + f"; medians of {setting.rounds} interleaved rounds at {setting.scale:g} of full size;"
        " ! marks a target that does not hold",
        WIDTH,
    )
    return "\n".join([*about, "", _HEADER, "-" * WIDTH])


def machine(setting: Setting) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(setting.device)
        if setting.device.type == "cuda"
        else _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in ("torch", "transformers")},
    }


def as_json(setting: Setting, found: Sequence[Found]) -> dict[str, Any]:
    """Everything that was found."""
    return {
        "machine": machine(setting),
        "rounds": setting.rounds,
        "scale": setting.scale,
        "data": "public sets" if setting.data else "emoji",
        "rows": [
            {
                "row": one.row.name,
                "seconds": one.seconds,
                "figures": [
                    {**asdict(figure), "held": _held(figure)} for figure in one.measured.figures
                ],
                "curves": [asdict(curve) for curve in one.measured.curves],
            }
            for one in found
        ],
    }


def _held(figure: Figure) -> bool | None:
    if figure.target is None or figure.value is None:
        return None
    return figure.target.held(figure.value)


def _value(figure: Figure) -> str:
    return "-" if figure.value is None else _number(figure.value, figure.unit)


def _target(target: Target | None, unit: str) -> str:
    if target is None:
        return ""
    return f"{'>=' if target.least else '<='} {_number(target.bound, unit)}"


def _number(value: float, unit: str) -> str:
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits}x" if unit == "x" else f"{digits} {unit}".strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
