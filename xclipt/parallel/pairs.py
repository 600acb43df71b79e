"""What text alone is learnt from: a sentence and its translation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SentencePair:
    """An English sentence, and the same in another language."""

    english: str
    text: str
