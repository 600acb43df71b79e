"""Which language a text is in: py3langid, an optional extra."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from xclipt.errors import XcliptError
from xclipt.languages import alike, resolve

LEAST_CONFIDENCE = 0.2
"""Below it a language is a guess among many, and none is better. py3langid's own suggestion."""

_HARDLY = 0.05
"""Below it texts are not in the language: in 36 sets of captions ten that were in it never fell
there, and two once in 720 times."""
_LEAST_LETTERS = 50
_SAMPLE = 100


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


def mistaken_for(language: str, texts: Sequence[str]) -> str | None:
    """The language that texts plainly are in, taken together, where they are said to be in another.

    Args:
        language: Which they are said to be in.
        texts: Of these the first hundred are looked at.

    Returns:
        ``None`` where they are in it, and where nobody can tell: without the extra, of a few words,
        and of languages that the detector does not know or hardly tells apart.
    """
    text = " ".join(texts[:_SAMPLE])
    if sum(map(str.isalpha, text)) < _LEAST_LETTERS:
        return None
    try:
        probabilities = _probabilities(_identifier().rank(text))
    except XcliptError:
        return None
    own = [p for code, p in probabilities.items() if code and alike(language, code)]
    likeliest = max(probabilities, key=lambda code: probabilities[code])
    return likeliest if own and sum(own) < _HARDLY else None


def load_detector() -> None:
    """Have the detector in memory before it is needed.

    Raises:
        XcliptError: The extra is not installed.
    """
    _identifier()


def _likeliest(ranking: Sequence[tuple[str, float]]) -> Detection:
    probabilities = _probabilities(ranking)
    language = max(probabilities, key=lambda code: probabilities[code])
    confidence = probabilities[language]
    return Detection(language if confidence >= LEAST_CONFIDENCE else None, confidence)


def _probabilities(ranking: Sequence[tuple[str, float]]) -> dict[str | None, float]:
    total: defaultdict[str | None, float] = defaultdict(float)
    for label, probability in ranking:
        total[_code(label)] += probability
    return total


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
