"""Figures of other systems, to set beside ours where they are of the same task."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from xclipt.alignment.routines import TARGET
from xclipt.data.formats.delimited import sniff
from xclipt.errors import XcliptError
from xclipt.evaluation.results import Evaluation

MEAN = "mean"
"""In place of a language: the mean over all of the data set's languages."""

METRICS = (
    *(f"{way} {metric}" for way in ("t2i", "i2t") for metric in ("R@1", "R@5", "R@10", "MRR")),
    *("t2i median_rank", "i2t median_rank", "mean R@1", "sd of t2i R@10"),
)
_XTD_LANGUAGES = 11
_HERE = "measured here"


@dataclass(frozen=True)
class OtherRow:
    """One system on one language.

    Attributes:
        system: As its authors call it.
        language: ISO 639-1 code, or ``mean``.
        figures: By metric name, recalls in per cent.
        source: Where the figures were published; empty where the file does not say.
        stated: Whether data set, mode and number of candidates are given, and are ours.
    """

    system: str
    language: str
    figures: Mapping[str, float]
    source: str
    stated: bool

    def as_json(self) -> dict[str, Any]:
        """Under the keys of ``compared`` in the JSON of ``eval``."""
        return {
            "system": self.system,
            "language": self.language,
            "figures": dict(self.figures),
            "source": self.source,
            "same_protocol_stated": self.stated,
        }


def published_beside(evaluation: Evaluation) -> list[OtherRow]:
    """The built-in published figures, where ``evaluation`` is of their data and protocol.

    That is XTD10 with photographs, all 1,000 of them ranked; empty for anything else. Means over
    languages come only beside all eleven.
    """
    text = files("xclipt.evaluation").joinpath("published.csv").read_text(encoding="utf-8")
    rows, _ = _rows(csv.DictReader(io.StringIO(text)), Path("published.csv"), evaluation)
    return rows


def read_compared(path: Path, evaluation: Evaluation) -> tuple[list[OtherRow], list[str]]:
    """Other systems' figures from a file of delimited text, and remarks on what was left out.

    Columns: ``system`` (or ``delta``, as in the CSV files of earlier releases), ``language``, any
    of :data:`METRICS`, and, as far as they are known, ``dataset``, ``mode``, ``n``, ``source``.
    Rows of another data set, mode or number of candidates are left out.

    Raises:
        XcliptError: The file cannot be read, or a row has no language or no number where one
            is due.
    """
    try:
        table = sniff(path, lambda name: name == "language")
        entries = [dict(zip(table.names, values, strict=True)) for values in table.rows()]
    except XcliptError as error:
        # An encoding is proposed where one can be named, which is for data sets alone.
        why, guess, _ = error.message.removeprefix(f"{path}: ").partition(" but perhaps ")
        why += "; save the file as UTF-8" if guess else ""
        raise XcliptError(why, field="compare", value=path) from None
    columns = set(table.names)
    if "language" not in columns or not columns & {"system", "delta"} or not columns & {*METRICS}:
        raise XcliptError(
            f"must have the columns system, language and some of {', '.join(METRICS)}",
            field="compare",
            value=path,
        )
    rows, unlike = _rows(entries, path, evaluation)
    remark = f"`compare={path}`: {unlike} rows are of another data set, mode or size and left out"
    return rows, [remark] if unlike else []


def ours_beside(evaluation: Evaluation, others: Iterable[OtherRow]) -> list[OtherRow]:
    """Our own rows of the languages that ``others`` are of, and our mean where they have one."""
    asked = {row.language for row in others}
    ours = f"xclipt {evaluation.backbone.id}"
    rows = [
        OtherRow(f"{ours}, {row.system}", row.language, row.figures(), _HERE, True)
        for row in evaluation.rows
        if row.language in asked
    ]
    if MEAN in asked:
        systems = {"base": [evaluation.base_row(one).figures() for one in evaluation.languages]}
        if evaluation.deltas:
            systems["deltas"] = [evaluation.with_deltas(one) for one in evaluation.languages]
        rows += [
            OtherRow(f"{ours}, {name}", MEAN, _mean_figures(figures), _HERE, True)
            for name, figures in systems.items()
        ]
    return rows


def _mean_figures(languages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = {metric: float(np.mean([one[metric] for one in languages])) for metric in languages[0]}
    return means | {"sd of t2i R@10": float(np.std([one["t2i R@10"] for one in languages]))}


def _rows(
    entries: Iterable[Mapping[str, str | None]], path: Path, evaluation: Evaluation
) -> tuple[list[OtherRow], int]:
    sizes = {row.language: row.n for row in evaluation.rows}
    rows, unlike = [], 0
    for number, entry in enumerate(entries, 2):
        plain = {name: (text or "").strip() for name, text in entry.items() if name}
        language = plain.get("language", "")
        if not language:
            raise XcliptError(f"row {number} has no language", field="compare", value=path)
        size = sizes.get(language) or (
            next(iter(sizes.values())) if len({*sizes.values()}) == 1 else None
        )
        ours = {"dataset": evaluation.dataset, "mode": evaluation.mode, "n": str(size)}
        if any(plain.get(name) and plain[name] != value for name, value in ours.items()):
            unlike += 1
            continue
        whole = len(sizes) == _XTD_LANGUAGES or evaluation.dataset != "xtd"
        if language not in sizes and not (language == MEAN and whole):
            continue
        rows.append(
            OtherRow(
                system=plain.get("system") or plain.get("delta") or _base(plain.get("text", "")),
                language=language,
                figures={
                    metric: _number(plain[metric], metric, number, path)
                    for metric in METRICS
                    if plain.get(metric)
                },
                source=plain.get("source", ""),
                stated=all(plain.get(name) for name in ours),
            )
        )
    return rows, unlike


def _base(text: str) -> str:
    return "base" if text in ("", TARGET) else f"base {text}"


def _number(text: str, metric: str, row: int, path: Path) -> float:
    try:
        value = float(text.replace(",", "."))  # as half of the world's spreadsheets write it
    except ValueError:
        value = -1.0
    limit = {"R": 100.0, "M": 1.0}.get(metric.split(" ")[-1][0], float("inf"))
    if not 0 <= value <= limit:
        raise XcliptError(
            f"row {row}: {metric} is '{text}', not a number up to {limit:g}",
            field="compare",
            value=path,
        )
    return value
