"""``eval``: the frozen base and the deltas of an artifact directory, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.directory import StoredDelta
from xclipt.data.dataset import Dataset
from xclipt.evaluation.deltas import stem
from xclipt.evaluation.english import EnglishMeasures, EnglishScore
from xclipt.evaluation.queries import (
    EvaluationRequest,
    LanguageQueries,
    Queries,
    Subject,
    select_queries,
)
from xclipt.evaluation.results import (
    Evaluation,
    Gain,
    HubCorrected,
    MeanGain,
    PairedDifference,
    RecallRow,
    SeedSummary,
)
from xclipt.hubness import biased_pictures, biased_queries
from xclipt.metrics import (
    Ranks,
    bootstrap_mean_r1,
    disparity,
    gap_closed,
    gap_closed_interval,
    interval95,
    mean_r1,
    occurrences,
    retrieval_ranks,
    skewness,
    summarise,
)
from xclipt.progress import Whole
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
    english = EnglishMeasures(workspace)
    texts = sum(
        len(subject.texts.captions) + len(_bank_texts(language, subject))
        for language in queries.languages
        for subject in language.subjects()
    )
    whole = Whole(workspace.progress, "Encoding captions", texts)
    for language in queries.languages:
        measured = _measure_language(workspace, language, whole)
        if queries.mode == "image" and language.language != "en":
            measured = _with_gap_closed(measured, english.measure(language))
        base, deltas = measured[0], [one for one in measured if one.row.delta and one.row.as_used]
        rows += [one.row for one in measured]
        pairs += _pairs(measured)
        subject[language.language] = base.row.mean_r1
        if over_seeds and len(deltas) > 1:
            every_draw = [one.draws - base.draws for one in deltas]
            seeds.append(_over_seeds([one.row for one in deltas], every_draw))
            subject[language.language] = seeds[-1].mean_r1
            gains[language.language] = (base.ranks, [one.ranks for one in deltas])
        elif deltas:
            subject[language.language] = deltas[0].row.mean_r1
            gains[language.language] = (base.ranks, [deltas[0].ranks])
    whole.finish()
    base_figures = {row.language: row.mean_r1 for row in rows if row.system == "base"}
    return Evaluation(
        dataset=queries.dataset,
        split=queries.split,
        caption=queries.caption,
        mode=queries.mode,
        backbone=workspace.backbone.identity,
        rows=tuple(rows),
        base=disparity(base_figures),
        deltas=disparity(subject) if gains else None,
        mean_gain=_mean_gain(gains) if gains else None,
        pairs=tuple(pairs),
        seeds=tuple(seeds),
        english=english.originals,
    )


@dataclass(frozen=True)
class _Measured:
    row: RecallRow
    ranks: Ranks
    draws: _Draws

    def less(self, other: "_Measured") -> PairedDifference:
        difference = _difference(self.row.mean_r1, other.row.mean_r1, self.draws - other.draws)
        return PairedDifference(self.row.language, self.row.system, other.row.system, difference)


def _measure_language(
    workspace: Workspace, queries: LanguageQueries, whole: Whole
) -> list[_Measured]:
    """The base first, and what has a prompt of the request after the same without."""
    workspace = replace(workspace, progress=whole)
    measured: list[_Measured] = []
    for subject in queries.subjects():
        texts = subject.texts
        captions = workspace.encode_texts(
            texts.captions,
            subject.delta,
            prompt=subject.prompt,
            language=queries.language_of(texts),
        )
        whole.end_part(len(texts.captions))
        ranks = retrieval_ranks(queries.targets, captions, texts.picture_index)
        draws = bootstrap_mean_r1(ranks)
        row = _row(queries, subject, ranks, draws, measured[0] if measured else None)
        plain = _Measured(row, ranks, draws)
        corrected = _hub_corrected(workspace, queries, subject, captions, plain)
        whole.end_part(len(_bank_texts(queries, subject)))
        measured.append(replace(plain, row=replace(row, hub_corrected=corrected)))
    return measured


def _bank_texts(queries: LanguageQueries, subject: Subject) -> Sequence[str]:
    """The texts that correct a subject's ranking; none for texts of another language."""
    bank = queries.hub_bank
    return bank.texts if bank and subject.texts.text != TO_EN else ()


def _hub_corrected(
    workspace: Workspace,
    queries: LanguageQueries,
    subject: Subject,
    captions: Tensor,
    plain: _Measured,
) -> HubCorrected | None:
    """The same with hub correction; ``None`` without a bank, or for texts of another language."""
    bank = queries.hub_bank
    if bank is None or not _bank_texts(queries, subject):
        return None
    pictures, captions = F.normalize(queries.targets, dim=-1), F.normalize(captions, dim=-1)
    bias = bank.bias(workspace, pictures, subject.delta, subject.prompt)
    corrected = biased_pictures(pictures, bias), biased_queries(captions)
    found = retrieval_ranks(*corrected, subject.texts.picture_index, normalise=False)
    ranks = replace(plain.ranks, t2i=found.t2i)
    draws, figure = bootstrap_mean_r1(ranks), mean_r1(ranks)
    return HubCorrected(
        texts=len(bank.texts),
        t2i=summarise(ranks.t2i),
        mean_r1=figure,
        ci95=interval95(draws),
        change=_difference(figure, plain.row.mean_r1, draws - plain.draws),
        skew=skewness(occurrences(*corrected)),
        plain_skew=skewness(occurrences(pictures, captions)),
    )


def _row(
    queries: LanguageQueries,
    subject: Subject,
    ranks: Ranks,
    draws: _Draws,
    base: _Measured | None,
) -> RecallRow:
    figure = mean_r1(ranks)
    delta, texts = subject.delta, subject.texts
    return RecallRow(
        language=queries.language,
        delta=delta.manifest.reference if delta else None,
        protocol=_protocol(delta),
        n=len(queries.images),
        captions=len(texts.captions),
        left_out=queries.left_out,
        t2i=summarise(ranks.t2i),
        i2t=summarise(ranks.i2t),
        mean_r1=figure,
        ci95=interval95(draws),
        gain=_difference(figure, base.row.mean_r1, draws - base.draws) if base else None,
        text=texts.text,
        translator=texts.translator.name if texts.translator else None,
        prompt=subject.effective_prompt,
        reprompted=subject.prompt is not None,
    )


def _pairs(measured: Sequence[_Measured]) -> Iterator[PairedDifference]:
    with_own_prompt = [one for one in measured if not one.row.reprompted]
    # What a delta adds to the translating itself.
    for one, base in product(with_own_prompt, with_own_prompt):
        translated, same = ((each.text, each.translator) for each in (one.row, base.row))
        if one.row.delta and one.row.translator and not base.row.delta and translated == same:
            yield one.less(base)
    deltas = [one for one in measured if one.row.delta and one.row.as_used]
    for one, other in combinations(deltas, 2):
        yield one.less(other)
    # What a prompt adds; the base's gain tells it already.
    without = measured[0]
    for one in measured:
        if not one.row.reprompted:
            without = one
        elif without is not measured[0]:
            yield one.less(without)


def _protocol(delta: StoredDelta | None) -> str:
    if delta is None:
        return "zero-shot"
    data = delta.manifest.data
    amount = "full" if data.shots is None else f"{data.shots}-shot"
    if data.sentences:
        pairs = f"{sum(data.sentences.pairs.values()):,} sentence pairs"
        return f"{amount} and {pairs}" if data.pairs else pairs
    return amount


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


def _with_gap_closed(
    measured: Sequence[_Measured], english: EnglishScore | None
) -> list[_Measured]:
    if english is None:
        return list(measured)
    base = measured[0]
    return [
        replace(
            one,
            row=replace(
                one.row,
                gap_closed=gap_closed(base.row.mean_r1, one.row.mean_r1, english.mean_r1),
                gap_closed_ci95=gap_closed_interval(base.draws, one.draws, english.draws),
            ),
        )
        if one.row.delta and one.row.as_used
        else one
        for one in measured
    ]


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
