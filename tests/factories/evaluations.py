"""Evaluations with figures of one's choice."""

from xclipt.backbones.identity import BackboneIdentity
from xclipt.evaluation.results import Evaluation, Gain, HubCorrected, MeanGain, RecallRow
from xclipt.metrics import Retrieval, disparity


def row(language, mean_r1, *, delta=None, gain=None, n=1000, **more) -> RecallRow:
    retrieval = Retrieval(mean_r1, min(100, 2 * mean_r1), min(100, 2.5 * mean_r1), 0.25, 4)
    return RecallRow(
        language=language,
        delta=delta,
        protocol="50-shot" if delta else "zero-shot",
        n=n,
        captions=n,
        left_out=0,
        t2i=retrieval,
        i2t=retrieval,
        mean_r1=mean_r1,
        ci95=(mean_r1 - 1, mean_r1 + 1),
        gain=gain,
        **more,
    )


BETTER = Gain(4.0, (2.0, 6.0))
UNCLEAR = Gain(0.4, (-0.7, 1.6))
WORSE = Gain(-9.0, (-12.0, -6.0))


def hub_corrected(mean_r1: float, change: Gain) -> HubCorrected:
    """Figures with hub correction, by a bank of 260 texts."""
    t2i = Retrieval(mean_r1, 70.5, 80.5, 0.5, 1)
    return HubCorrected(260, t2i, mean_r1, (mean_r1 - 2, mean_r1 + 2), change, 1.25, 3.75)


def evaluation(*rows, dataset="xtd", split="test", mode="image") -> Evaluation:
    base = {r.language: r.mean_r1 for r in rows if r.system == "base"}
    gains = {r.language: r.gain for r in rows if r.gain}
    with_delta = base | {r.language: r.mean_r1 for r in rows if r.delta}
    return Evaluation(
        dataset=dataset,
        split=split,
        mode=mode,
        backbone=BackboneIdentity("builtin", "1", "a" * 64),
        rows=rows,
        base=disparity(base),
        deltas=disparity(with_delta) if gains else None,
        mean_gain=MeanGain(tuple(gains), next(iter(gains.values()))) if gains else None,
    )


def three_verdicts() -> Evaluation:
    """French better, German unclear, Spanish worse."""
    return evaluation(
        row("en", 40.0),
        row("fr", 20.0),
        row("fr", 24.0, delta="good", gain=BETTER),
        row("de", 25.0),
        row("de", 25.4, delta="unclear", gain=UNCLEAR),
        row("es", 30.0),
        row("es", 21.0, delta="bad", gain=WORSE),
    )
