"""An evaluation as one HTML file that needs nothing else."""

import math
from collections.abc import Sequence
from typing import Any

import xclipt
from xclipt.artifacts.directory import StoredDelta
from xclipt.evaluation.published import OtherRow, ours_beside
from xclipt.evaluation.results import Evaluation, Gain, RecallRow
from xclipt.languages import name as language_name
from xclipt.report.drawings import HEIGHT, WIDTH, learning_curve, strip
from xclipt.report.gallery import LanguageGallery
from xclipt.report.interchange import figure_text, gain_text, share_text
from xclipt.report.page import page_environment, render

HEAT = (
    *(("t2i R@1", "t2i R@5", "t2i R@10", "t2i MRR")),
    *(("i2t R@1", "i2t R@5", "i2t R@10", "i2t MRR", "mean R@1")),
)
_CLASSES = {"better": "better", "worse": "worse", "no clear difference": "unclear"}


def as_html(
    evaluation: Evaluation,
    *,
    deltas: Sequence[StoredDelta] = (),
    gallery: Sequence[LanguageGallery] = (),
    compared: Sequence[OtherRow] = (),
    remarks: Sequence[str] = (),
) -> str:
    """The report as HTML: styles, drawings and pictures are inside, nothing is fetched.

    Args:
        deltas: Those measured; their learning curves are drawn.
        gallery: Retrievals to show, from :func:`~xclipt.report.gallery.build_gallery`.
        compared: Other systems' figures to show beside.
        remarks: What the reader should know of the data.
    """
    environment = page_environment()
    environment.filters["percent"] = _percent
    environment.globals |= {
        "gain_text": gain_text,
        "share_text": share_text,
        "figure_text": figure_text,
        "gain_class": lambda gain: _CLASSES[gain.verdict],
    }
    curves = [curve for curve in map(learning_curve, deltas) if curve]
    top = _scale(evaluation)
    return render(
        environment,
        "report.html.j2",
        evaluation=evaluation,
        title=evaluation.data,
        headline=_headline(evaluation),
        sizes=_sizes(evaluation),
        unlike_sizes=evaluation.unlike_sizes,
        top=top,
        strips=_strips(evaluation, top),
        heat=_heat(evaluation),
        heat_columns=HEAT,
        hub_corrected=[(row, row.hub_corrected) for row in evaluation.rows if row.hub_corrected],
        curves=curves,
        curve_size=(WIDTH, HEIGHT),
        gallery=gallery,
        compared=[*ours_beside(evaluation, compared), *compared],
        compared_metrics=list(dict.fromkeys(m for row in compared for m in row.figures)),
        remarks=remarks,
        version=xclipt.__version__,
    )


def _headline(evaluation: Evaluation) -> tuple[str, Gain | None]:
    if evaluation.mean_gain is None:
        return "The frozen base: none of these languages has a delta.", None
    gain, languages = evaluation.mean_gain.gain, evaluation.mean_gain.languages
    if len(languages) == 1:
        where = language_name(languages[0])
    else:
        where = f"{len(languages)} languages on average"
    several = len(languages) > 1
    the_delta = "The deltas are" if several else "The delta is"
    verdict = {
        "better": f"{the_delta} better than the base",
        "worse": f"{the_delta} worse than the base",
        "no clear difference": f"No clear difference between delta{'s' * several} and base",
    }[gain.verdict]
    return f"{verdict} in {where}", gain


def _sizes(evaluation: Evaluation) -> str:
    sizes = sorted({row.n for row in evaluation.rows})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def _scale(evaluation: Evaluation) -> float:
    most = max(row.ci95[1] for row in evaluation.rows)
    return float(min(100, 10 * math.ceil(max(most, 1) / 10)))


def _percent(value: float, whole: float) -> str:
    return f"{100 * max(0.0, min(1.0, value / whole)):.2f}%"


def _strips(evaluation: Evaluation, top: float) -> list[dict[str, Any]]:
    base = {one: evaluation.base_row(one).mean_r1 for one in evaluation.languages}
    strips = [{"name": "base", "marks": strip(base, top), "gains": {}}]
    if evaluation.deltas:
        deltas = {one: evaluation.with_deltas(one)["mean R@1"] for one in evaluation.languages}
        gains = {one: evaluation.gain(one) for one in evaluation.languages}
        strips.append({"name": "deltas", "marks": strip(deltas, top), "gains": gains})
    return strips


def _heat(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = evaluation.rows
    best = {name: max(row.figures()[name] for row in rows) for name in HEAT}
    return [
        {
            "row": row,
            "system": _system(evaluation, row),
            "cells": [
                {
                    "text": figure_text(name, row.figures()[name]),
                    "shade": round(60 * row.figures()[name] / best[name]) if best[name] else 0,
                }
                for name in HEAT
            ],
        }
        for row in rows
    ]


def _system(evaluation: Evaluation, row: RecallRow) -> str:
    if row.delta is None:
        return row.system.removeprefix("base").strip()
    return row.system if len(evaluation.delta_rows(row.language)) > 1 else "delta"
