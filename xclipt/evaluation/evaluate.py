"""``eval``: the frozen base and the deltas of an artifact directory, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from xclipt.alignment.routines import TARGET, TO_EN
from xclipt.artifacts.directory import StoredDelta
from xclipt.data.dataset import Dataset
from xclipt.evaluation.deltas import stem
from xclipt.evaluation.queries import (
    EvaluationRequest,
    LanguageQueries,
    Queries,
    TranslatedCaptions,
    select_queries,
)
from xclipt.evaluation.results import (
    Evaluation,
    Gain,
    MeanGain,
    PairedDifference,
    RecallRow,
    SeedSummary,
    like_sizes,
)
from xclipt.metrics import (
    Ranks,
    bootstrap_mean_r1,
    disparity,
    gap_closed,
    interval95,
    mean_r1,
    retrieval_ranks,
    summarise,
)
from xclipt.workspace import Workspace

_Draws = NDArray[np.float64]


def evaluate(workspace: Workspace, dataset: Dataset, request: EvaluationRequest) -> Evaluation:
    """Measure retrieval in every language, with the frozen base and with its deltas.

    A delta is never measured on pictures that it was trained or validated on, whichever data set
    they come by: they are left out of all of the language's rows and counted.

    >>> import xclipt
    >>> workspace = xclipt.open_workspace("xclipt-artifacts")
    >>> request = xclipt.EvaluationRequest(["fr"], limit=100)
    >>> result = xclipt.evaluate(workspace, xclipt.open_dataset("emoji"), request)
    >>> [row.system for row in result.rows]
    ['base', 'lora-10shot-seed1']

    Raises:
        XcliptError: The data does not hold what is asked.
    """
    queries = select_queries(workspace, dataset, request)
    return measure(workspace, queries, over_seeds=request.over_seeds)


def measure(workspace: Workspace, queries: Queries, *, over_seeds: bool = False) -> Evaluation:
    """As :func:`evaluate`, of queries that were chosen before."""
    rows: list[RecallRow] = []
    pairs: list[PairedDifference] = []
    seeds: list[SeedSummary] = []
    subject: dict[str, float] = {}
    gains: dict[str, tuple[Ranks, list[Ranks]]] = {}
    for language in queries.languages:
        base = _ranks(workspace, language, language.captions)
        base_draws = bootstrap_mean_r1(base)
        base_row = _row(language, None, base, base_draws, None)
        subject[language.language] = base_row.mean_r1
        to_en = []
        for translated in language.translated:
            ranks = _ranks(workspace, language, translated.captions)
            draws = bootstrap_mean_r1(ranks)
            row = _row(language, None, ranks, draws, (base_row, base_draws), translated)
            to_en.append((row, draws))
        measured = []
        for delta in language.deltas:
            ranks = _ranks(workspace, language, language.texts(delta), delta)
            draws = bootstrap_mean_r1(ranks)
            own = language.translations_for(delta) if delta.manifest.text == TO_EN else None
            row = _row(language, delta, ranks, draws, (base_row, base_draws), own)
            measured.append((row, ranks, draws))
        rows += [base_row, *(row for row, _ in to_en), *(row for row, _, _ in measured)]
        # What a delta for translated text adds to the translating itself.
        pairs += [
            PairedDifference(
                row.language,
                row.delta or "",
                base_to_en.system,
                _difference(row.mean_r1, base_to_en.mean_r1, draws - to_en_draws),
            )
            for row, _, draws in measured
            for base_to_en, to_en_draws in to_en
            if row.translator == base_to_en.translator
        ]
        pairs += [
            PairedDifference(
                one.language,
                one.delta or "",
                other.delta or "",
                _difference(one.mean_r1, other.mean_r1, draws - other_draws),
            )
            for (one, _, draws), (other, _, other_draws) in combinations(measured, 2)
        ]
        if over_seeds and len(measured) > 1:
            every_draw = [draws - base_draws for _, _, draws in measured]
            seeds.append(_over_seeds([row for row, _, _ in measured], every_draw))
            subject[language.language] = seeds[-1].mean_r1
            gains[language.language] = (base, [ranks for _, ranks, _ in measured])
        elif measured:
            subject[language.language] = measured[0][0].mean_r1
            gains[language.language] = (base, [measured[0][1]])
    base_figures = {row.language: row.mean_r1 for row in rows if row.system == "base"}
    return Evaluation(
        dataset=queries.dataset,
        split=queries.split,
        caption=queries.caption,
        mode=queries.mode,
        backbone=workspace.backbone.identity,
        rows=_with_gap_closed(rows),
        base=disparity(base_figures),
        deltas=disparity(subject) if gains else None,
        mean_gain=_mean_gain(gains) if gains else None,
        pairs=tuple(pairs),
        seeds=tuple(seeds),
    )


def _ranks(
    workspace: Workspace,
    queries: LanguageQueries,
    texts: Sequence[str],
    delta: StoredDelta | None = None,
) -> Ranks:
    captions = workspace.encode_texts(texts, delta)
    return retrieval_ranks(queries.targets, captions, queries.picture_index)


def _row(
    queries: LanguageQueries,
    delta: StoredDelta | None,
    ranks: Ranks,
    draws: _Draws,
    base: tuple[RecallRow, _Draws] | None,
    translated: TranslatedCaptions | None = None,
) -> RecallRow:
    figure = mean_r1(ranks)
    return RecallRow(
        language=queries.language,
        delta=delta.manifest.reference if delta else None,
        protocol=_protocol(delta),
        n=len(queries.images),
        captions=len(queries.captions),
        left_out=queries.left_out,
        t2i=summarise(ranks.t2i),
        i2t=summarise(ranks.i2t),
        mean_r1=figure,
        ci95=interval95(draws),
        gain=_difference(figure, base[0].mean_r1, draws - base[1]) if base else None,
        text=TO_EN if translated else TARGET,
        translator=translated.translator.name if translated else None,
    )


def _protocol(delta: StoredDelta | None) -> str:
    if delta is None:
        return "zero-shot"
    shots = delta.manifest.data.shots
    return f"{shots}-shot" if shots else "full"


def _difference(one: float, other: float, draws: _Draws) -> Gain:
    return Gain(one - other, interval95(draws))


def _over_seeds(rows: Sequence[RecallRow], gain_draws: Sequence[_Draws]) -> SeedSummary:
    figures = {name: [row.figures()[name] for row in rows] for name in rows[0].figures()}
    metrics = {
        name: (float(np.mean(values)), float(np.std(values, ddof=1)))
        for name, values in figures.items()
    }
    mean, sd = metrics["mean R@1"]
    gains = [row.gain.mean_r1 for row in rows if row.gain]
    return SeedSummary(
        language=rows[0].language,
        delta=stem(rows[0].delta or ""),
        seeds=len(rows),
        mean_r1=mean,
        sd=sd,
        gain=Gain(float(np.mean(gains)), interval95(np.mean(gain_draws, axis=0))),
        metrics=metrics,
    )


def _with_gap_closed(rows: Sequence[RecallRow]) -> tuple[RecallRow, ...]:
    base = {row.language: row for row in rows if row.system == "base"}
    english = base.get("en")
    if english is None:
        return tuple(rows)
    return tuple(
        replace(
            row, gap_closed=gap_closed(base[row.language].mean_r1, row.mean_r1, english.mean_r1)
        )
        if row.delta and like_sizes((row.n, english.n))
        else row
        for row in rows
    )


def _mean_gain(gains: Mapping[str, tuple[Ranks, list[Ranks]]]) -> MeanGain:
    # The languages' pictures overlap in ways that differ from set to set; drawing each language's
    # samples on its own treats them as independent.
    # A single language keeps the draws, and so the interval, of its own gain.
    first = 0 if len(gains) == 1 else 1
    draws, means = [], []
    for seed, (base, trained) in enumerate(gains.values(), start=first):
        with_delta = np.mean([bootstrap_mean_r1(ranks, seed=seed) for ranks in trained], axis=0)
        draws.append(with_delta - bootstrap_mean_r1(base, seed=seed))
        means.append(np.mean([mean_r1(ranks) for ranks in trained]) - mean_r1(base))
    gain = Gain(float(np.mean(means)), interval95(np.mean(draws, axis=0)))
    return MeanGain(tuple(gains), gain)
