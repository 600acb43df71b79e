"""Which pairs are fit to learn from, and what is wrong with the others."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from xclipt.detection import mistaken_for
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.pairs import SentencePair
from xclipt.parallel.source import RawPair
from xclipt.translation.guards import find_faults, is_in_script

DUPLICATES = "duplicates"
REASONS: Mapping[str, str] = {
    "columns": "with other columns",
    "empty": "empty",
    "damaged": "with damaged characters",
    "long": "too long",
    "wordless": "without letters",
    "copied": "copied",
    "length": "of very different length",
    "script": "in another script",
    "repeated": "repeating themselves",
    DUPLICATES: "duplicates",
}
"""Why pairs are left out, and how the user is told; the first that applies counts."""

MOST_CHARACTERS = 4000
"""Longer ones are no sentences, and every text tower cuts them long before."""

_MOST = 0.9
_SAMPLE = 100
_DAMAGED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ufffd\ud800-\udfff]")


class Screen:
    """Looks at one pair after another of one source.

    Attributes:
        left_out: How many, by their reason.
        kept: How many.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._foreign = self._exchanged = 0
        self._sample: list[SentencePair] = []
        self.left_out: Counter[str] = Counter()
        self.kept = 0

    def __call__(self, pair: RawPair) -> SentencePair | None:
        """The pair without outer and repeated white space, in NFC; ``None`` if it is left out."""
        clean = SentencePair(tidy(pair[0]), tidy(pair[1])) if pair else None
        reason = self._fault(clean) if clean else "columns"
        if reason:
            self.left_out[reason] += 1
            return None
        self.kept += 1
        if clean and len(self._sample) < _SAMPLE:
            self._sample.append(clean)
        return clean

    def _fault(self, pair: SentencePair) -> str | None:
        english, text = pair.english, pair.text
        if not (english and text):
            return "empty"
        if _DAMAGED.search(english) or _DAMAGED.search(text):
            return "damaged"
        if max(len(english), len(text)) > MOST_CHARACTERS:
            return "long"
        if not (any(map(str.isalpha, english)) and any(map(str.isalpha, text))):
            return "wordless"
        faults = find_faults(english, text, "en", self._language)
        foreign = "script" in faults or not is_in_script(english, "en")
        if foreign:
            self._foreign += 1
            self._exchanged += is_in_script(english, self._language) and is_in_script(text, "en")
        return faults[0] if faults else "script" if foreign else None

    def require_fit(self, name: str, exchanged: str) -> None:
        """Refuse a source that is not what it was taken for.

        Args:
            name: The source, for messages.
            exchanged: The remedy where its sides are exchanged.

        Raises:
            XcliptError: Hardly a pair is in the scripts of the two languages, the sides are the
                wrong way round, or no pair is left.
        """
        language = language_name(self._language)
        total = self.kept + self.left_out.total()
        if not total:
            raise XcliptError(f"{name}: empty: it has no pairs")
        if self._exchanged > total / 2 or self._looks_exchanged():
            raise XcliptError(
                f"{name}: its sides are exchanged: what was taken for English is {language}, and "
                f"the other way round; {exchanged}"
            )
        if self._foreign > _MOST * (total - self.left_out["empty"]):
            raise XcliptError(
                f"{name}: is not in English and {language}: {self._foreign:,} of "
                f"{total:,} pairs are in another script; check the language and the columns"
            )
        if not self.kept or self.left_out["columns"] > total / 2:
            raise XcliptError(f"{name}: no pairs to use: of {total:,}, {told(self.left_out)}")

    def _looks_exchanged(self) -> bool:
        """Whether the sides are in each other's language; in one script, only detection tells."""
        english, texts = _sides(self._sample)
        return (
            is_in_script(" ".join(english), self._language)
            and mistaken_for("en", english) == self._language
            and mistaken_for(self._language, texts) == "en"
        )


def find_doubt(pairs: Sequence[SentencePair], language: str) -> str | None:
    """What the pairs look like, where it is not English and the language; ``None`` if they do.

    Args:
        pairs: All, of which some are looked at.
        language: Of the other side.
    """
    some = pairs[:_SAMPLE]
    english, texts = _sides(some)
    for said, side in (("en", english), (language, texts)):
        if found := mistaken_for(said, side):
            return f"what was taken for {language_name(said)} looks like {language_name(found)}"
    if sum(map(_in_the_same_words, some)) > len(some) / 2:
        return f"what was taken for {language_name(language)} has the same words as the English"
    return None


def _sides(pairs: Sequence[SentencePair]) -> tuple[list[str], list[str]]:
    return [pair.english for pair in pairs], [pair.text for pair in pairs]


def _in_the_same_words(pair: SentencePair) -> bool:
    """Whether half of the words are: names alone are the same in most languages."""
    words, english = (set(side.casefold().split()) for side in (pair.text, pair.english))
    return 2 * len(words & english) >= len(words)


def tidy(text: str) -> str:
    """In NFC, with single spaces for all white space between words."""
    text = " ".join(text.split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def told(left_out: Mapping[str, int]) -> str:
    """``12 empty, 40 copied``."""
    counts = {said: left_out.get(reason, 0) for reason, said in REASONS.items()}
    counted = [f"{count:,} {said}" for said, count in counts.items() if count]
    return ", ".join("1 duplicate" if one == "1 duplicates" else one for one in counted)
