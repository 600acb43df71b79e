"""Which language a text is in: py3langid, an optional extra."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from xclipt.errors import XcliptError
from xclipt.languages import resolve

LEAST_CONFIDENCE = 0.2
"""Below it a language is a guess among many, and none is better. py3langid's own suggestion."""


@dataclass(frozen=True)
class Detection:
    """The likeliest language of a text.

    Attributes:
        language: As :func:`xclipt.languages.resolve` writes it; ``None`` below
            :data:`LEAST_CONFIDENCE`, as for numbers.
        confidence: Its probability among all languages that the detector knows, 0 to 1.
    """

    language: str | None
    confidence: float


def detect(texts: Sequence[str]) -> list[Detection]:
    """The language of every text.

    Variants that one code stands for (Egyptian and Moroccan Arabic are ``ar``) are counted
    together.

    Raises:
        XcliptError: The extra is not installed.
    """
    if not texts:
        return []
    identifier = _identifier()
    return [_likeliest(identifier.rank(text)) for text in texts]


def load_detector() -> None:
    """Have the detector in memory before it is needed.

    Raises:
        XcliptError: The extra is not installed.
    """
    _identifier()


def _likeliest(ranking: Sequence[tuple[str, float]]) -> Detection:
    total: defaultdict[str | None, float] = defaultdict(float)
    for label, probability in ranking:
        total[_code(label)] += probability
    language = max(total, key=lambda code: total[code])
    confidence = total[language]
    return Detection(language if confidence >= LEAST_CONFIDENCE else None, confidence)


@cache
def _code(label: str) -> str | None:
    try:
        return resolve(label)
    except XcliptError:  # zxx, "no linguistic content"
        return None


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise XcliptError(
            "language 'auto': needs py3langid; `pip install 'xclipt[detect]'`, or name the language"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
