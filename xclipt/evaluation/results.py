"""The result of ``eval``: what was measured, and how sure it is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from xclipt.alignment.routines import TARGET
from xclipt.backbones.identity import BackboneIdentity
from xclipt.metrics import Disparity, Retrieval
from xclipt.translation.store import FROM_EN, TO_EN


def like_sizes(sizes: Collection[int]) -> bool:
    """Whether recalls among so many pictures compare: the numbers differ by 10 % at most."""
    return max(sizes) <= 1.1 * min(sizes)


@dataclass(frozen=True)
class Gain:
    """A difference of two mean R@1 on the same pictures, with a paired 95 % interval."""

    mean_r1: float
    ci95: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``no clear difference`` where it is not significant."""
        if not self.significant:
            return "no clear difference"
        return "better" if self.mean_r1 > 0 else "worse"

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {"mean_R@1": self.mean_r1, "ci95": list(self.ci95), "verdict": self.verdict}


@dataclass(frozen=True)
class HubCorrected:
    """The figures of a row where pictures are ranked with hub correction (:mod:`xclipt.hubness`).

    From picture to caption nothing changes: all captions of a picture lose the same.

    Attributes:
        texts: How many the bank holds.
        t2i: From caption to picture.
        mean_r1: Mean of both directions' R@1, per cent.
        ci95: Bootstrap interval of ``mean_r1`` over pictures.
        change: Against the row without, on the same pictures; no gain of any delta.
        skew: Skewness of the 10-occurrence, how far few pictures are found by many captions.
        plain_skew: The same without correction.
    """

    texts: int
    t2i: Retrieval
    mean_r1: float
    ci95: tuple[float, float]
    change: Gain
    skew: float
    plain_skew: float

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "texts": self.texts,
            "t2i": self.t2i.as_json(),
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
            "change": self.change.as_json(),
            "N10_skew": {"plain": self.plain_skew, "hub_corrected": self.skew},
        }


@dataclass(frozen=True)
class RecallRow:
    """One language with one delta, or with none.

    Attributes:
        delta: The delta's name; ``None`` is the frozen base.
        text: What was embedded: the language's captions (``target``), their English translations
            (``to-en``), or translations of the English captions (``from-en``).
        translator: Who translated them.
        prompt: What stood before every caption.
        reprompted: Whether the prompt was asked for, and is not what the delta has itself.
        protocol: ``zero-shot`` without a delta, else how much it was trained on: ``50-shot``, or
            ``full``.
        n: Pictures, or in text mode English captions, that are ranked.
        captions: Captions in the language.
        left_out: Pictures that the language's deltas were trained or validated on.
        t2i: From caption to picture (in text mode, to the English caption).
        i2t: From picture (English caption) to caption.
        mean_r1: Mean of both directions' R@1, per cent.
        ci95: Bootstrap interval of ``mean_r1`` over pictures.
        gain: Against the base on the text as it is; ``None`` for that itself.
        gap_closed: Share of the base's gap to the English originals (:class:`EnglishOriginals`)
            that the delta closed, per cent; ``None`` for the base, where there are none, and where
            the base is not behind them.
        gap_closed_ci95: Its bootstrap interval over pictures; ``None`` too where that of the gap
            itself is not above zero.
        hub_corrected: The same with hub correction, where a bank of texts was given.
    """

    language: str
    delta: str | None
    protocol: str
    n: int
    captions: int
    left_out: int
    t2i: Retrieval
    i2t: Retrieval
    mean_r1: float
    ci95: tuple[float, float]
    gain: Gain | None
    gap_closed: float | None = None
    gap_closed_ci95: tuple[float, float] | None = None
    text: str = TARGET
    translator: str | None = None
    prompt: str = ""
    reprompted: bool = False
    hub_corrected: HubCorrected | None = None

    @property
    def system(self) -> str:
        """The delta's name or ``base``, with the text and prompt that are not its own.

        ``base to-en``, ``NAME from-en``, ``NAME "Language:"``, ``base to-en "Language:"``.
        """
        own = (TARGET, TO_EN) if self.delta else (TARGET,)
        parts = [self.delta or "base"]
        if self.text not in own:
            parts.append(self.text)
        if self.reprompted:
            parts.append(self.quoted_prompt)
        return " ".join(parts)

    @property
    def quoted_prompt(self) -> str:
        """The prompt as tables show it."""
        return f'"{self.prompt}"'

    @property
    def as_used(self) -> bool:
        """Whether it is the base, or a delta on the text and with the prompt that are its own."""
        return self.system == (self.delta or "base")

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        plain: dict[str, Any] = {
            "language": self.language,
            "system": self.system,
            "delta": self.delta,
            "text": self.text,
            "prompt": self.prompt or None,
            "protocol": self.protocol,
            "n": self.n,
            "t2i": self.t2i.as_json(),
            "i2t": self.i2t.as_json(),
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
            "captions": self.captions,
            "left_out": self.left_out,
        }
        if self.translator:
            plain["translator"] = self.translator
        if self.gain:
            plain["gain"] = self.gain.as_json()
            plain["gap_closed"] = self.gap_closed
            interval = self.gap_closed_ci95
            plain["gap_closed_ci95"] = list(interval) if interval else None
        if self.hub_corrected:
            plain["hub_corrected"] = self.hub_corrected.as_json()
        return plain

    def figures(self) -> dict[str, float]:
        """All metrics by name: ``t2i R@1`` to ``i2t median_rank``, and ``mean R@1``."""
        named = {
            f"{direction} {metric}": value
            for direction, retrieval in (("t2i", self.t2i), ("i2t", self.i2t))
            for metric, value in retrieval.as_json().items()
        }
        return named | {"mean R@1": self.mean_r1}


@dataclass(frozen=True)
class PairedDifference:
    """Two systems of one language on the same pictures: the first less the second.

    ``delta`` and ``against`` are called as :attr:`RecallRow.system`.
    """

    language: str
    delta: str
    against: str
    difference: Gain

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "language": self.language,
            "delta": self.delta,
            "against": self.against,
            **self.difference.as_json(),
        }


@dataclass(frozen=True)
class SeedSummary:
    """Deltas of one language that differ only in their seed.

    Attributes:
        delta: What their names have in common, without ``-seedN``.
        seeds: How many there are.
        mean_r1: Mean over seeds of mean R@1.
        sd: Sample standard deviation over seeds of mean R@1.
        gain: Mean over seeds of the gain against the base; its interval is over pictures.
        metrics: Mean and sample standard deviation over seeds of every metric, by its name.
    """

    language: str
    delta: str
    seeds: int
    mean_r1: float
    sd: float
    gain: Gain
    metrics: Mapping[str, tuple[float, float]]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "language": self.language,
            "delta": self.delta,
            "seeds": self.seeds,
            "mean_R@1": self.mean_r1,
            "sd": self.sd,
            "gain": self.gain.as_json(),
            "metrics": {
                name: {"mean": mean, "sd": sd} for name, (mean, sd) in self.metrics.items()
            },
        }


@dataclass(frozen=True)
class MeanGain:
    """The mean over languages of :class:`Gain`."""

    languages: tuple[str, ...]
    gain: Gain

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {"languages": list(self.languages), **self.gain.as_json()}


@dataclass(frozen=True)
class EnglishCeiling:
    """How far captions go that were written independently, told by those in English.

    Attributes:
        captions: How many of each picture were taken, one at a time.
        mean_r1: Mean R@1 with a single English caption of each picture, in the mean over which one:
            what a language with one caption a picture would reach if it were read as well as
            English, and its captions said as much.
        ci95: Bootstrap interval of ``mean_r1`` over pictures.
        text_to_text: R@1, per cent, of an English caption finding another one of the same picture
            among one of each picture, in the mean over all pairs.
    """

    captions: int
    mean_r1: float
    ci95: tuple[float, float]
    text_to_text: float

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "captions": self.captions,
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
            "text_to_text_R@1": self.text_to_text,
        }


@dataclass(frozen=True)
class EnglishOriginals:
    """What the frozen base reaches with the English captions of a language's pictures.

    Attributes:
        languages: Those that rank these pictures.
        n: Pictures.
        captions: English captions; every one is a query.
        mean_r1: Mean of both directions' R@1, per cent.
        ci95: Bootstrap interval of ``mean_r1`` over pictures.
        ceiling: Where every picture has two English captions at least.
    """

    languages: tuple[str, ...]
    n: int
    captions: int
    mean_r1: float
    ci95: tuple[float, float]
    ceiling: EnglishCeiling | None

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "languages": list(self.languages),
            "n": self.n,
            "captions": self.captions,
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
            "english_ceiling": self.ceiling.as_json() if self.ceiling else None,
        }


@dataclass(frozen=True)
class Evaluation:
    """The result of one ``eval``.

    Attributes:
        rows: The base, the base on translated text where that was measured, and then the deltas of
            each language; with a prompt that was asked for, right after without.
        base: Disparity of mean R@1 without deltas.
        deltas: The same with each language's delta, the base where it has none; ``None`` where
            no language has one. Of several deltas it is the first, of seeds their mean.
        mean_gain: Over the languages with a delta.
        pairs: Differences between the deltas of a language that has several, between a delta and
            the base on the same translated text, and of what a prompt makes of anything but the
            base, whose gain tells it.
        seeds: Over deltas that differ only in their seed.
        caption: Number of the one caption that every picture has; ``None`` where it has all.
        english: What the languages' pictures are found with in English, where every one of them
            has an English caption; of pictures alone, since in text mode these find themselves.
    """

    dataset: str
    split: str | None
    mode: str
    backbone: BackboneIdentity
    rows: tuple[RecallRow, ...]
    base: Disparity
    deltas: Disparity | None
    mean_gain: MeanGain | None
    pairs: tuple[PairedDifference, ...] = ()
    seeds: tuple[SeedSummary, ...] = ()
    caption: int | None = None
    english: tuple[EnglishOriginals, ...] = ()

    @property
    def data(self) -> str:
        """What was measured on, for titles: data set, split, and number of the caption."""
        split = f", split {self.split}" if self.split else ""
        return f"{self.dataset}{split}" + (f", caption {self.caption}" if self.caption else "")

    @property
    def languages(self) -> tuple[str, ...]:
        """In the order that they were asked for."""
        return tuple(dict.fromkeys(row.language for row in self.rows))

    @property
    def unlike_sizes(self) -> bool:
        """Whether the languages' recalls are of unlike tasks: see :func:`like_sizes`."""
        return not like_sizes([row.n for row in self.rows])

    @property
    def english_is_trivial(self) -> bool:
        """Whether English is 100 by construction: in text mode its captions find themselves."""
        return self.mode == "text" and "en" in self.languages

    def base_row(self, language: str) -> RecallRow:
        """The language's row without a delta, on the text as it is."""
        return next(r for r in self.rows if r.language == language and r.system == "base")

    def delta_rows(self, language: str) -> tuple[RecallRow, ...]:
        """The language's rows with a delta; none where it has none."""
        return tuple(r for r in self.rows if r.language == language and r.delta)

    def with_deltas(self, language: str) -> dict[str, float]:
        """The language's metrics by name as :attr:`deltas` takes them.

        Those of its first delta, their mean where deltas differ only in their seed, and those of
        the base where it has no delta.
        """
        for summary in self.seeds:
            if summary.language == language:
                return {name: mean for name, (mean, _) in summary.metrics.items()}
        return (self.delta_rows(language) or (self.base_row(language),))[0].figures()

    def gain(self, language: str) -> Gain | None:
        """What :meth:`with_deltas` gains on the base; ``None`` where there is no delta."""
        for summary in self.seeds:
            if summary.language == language:
                return summary.gain
        return next((row.gain for row in self.delta_rows(language)), None)

    def as_json(self) -> dict[str, Any]:
        """The document of the design's contract."""
        translated = {
            text: [row.as_json() for row in self.rows if not row.delta and row.text == text]
            for text in (TO_EN, FROM_EN)
        }
        plain: dict[str, Any] = {
            "command": "eval",
            "dataset": self.dataset,
            "split": self.split,
            "caption": self.caption,
            "mode": self.mode,
            "backbone": {"id": self.backbone.id, "fingerprint": self.backbone.fingerprint},
            "rows": [row.as_json() for row in self.rows if row.delta or row.text == TARGET],
            "disparity": {
                "base": self.base.as_json(),
                "delta": self.deltas.as_json() if self.deltas else None,
            },
        }
        for text, rows in translated.items():
            if rows:
                plain[f"base_{text.replace('-', '_')}"] = rows
        if self.english:
            plain["english_originals"] = [one.as_json() for one in self.english]
        if self.mean_gain:
            plain["mean_gain"] = self.mean_gain.as_json()
        if self.pairs:
            plain["pairs"] = [pair.as_json() for pair in self.pairs]
        if self.seeds:
            plain["seeds"] = [summary.as_json() for summary in self.seeds]
        return plain
