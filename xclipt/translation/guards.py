"""Signs that a translation is none: pure functions of a text and its translation."""

from functools import cache

import regex
from langcodes import Language

MOST_TIMES_LONGER = 3.0
"""So many times longer or shorter than its source a translation may be.

Between human captions of Multi30K and XTD and their translations, the ratio that `length_ratio`
measures stays within 0.4 and 2.3.
"""

_SMALL_CHANGE = 10.0
_LETTERS_IN = (
    (regex.compile(r"\p{Script=Han}"), 3.0),
    (regex.compile(r"[\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}ー]"), 2.0),
)
_SCRIPTS = {
    "Hang": ("Hangul",),
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
}
_ALSO_LATIN = frozenset(("az", "bs", "sr", "tk", "uz"))
_WORD = regex.compile(r"\w+")
_WORDS_AGAIN = regex.compile(r"\b(\w+(?:\W+\w+){0,5}?)(?:\W+\1\b){2,}")
_CHARACTERS_AGAIN = regex.compile(r"([^\W\d]{2,12}?)\1{3,}|([^\W\d])\2{5,}")


def find_faults(source_text: str, text: str, source: str, target: str) -> tuple[str, ...]:
    """Names of the guards that find fault with ``text`` as a translation of ``source_text``.

    Args:
        source_text: What was translated.
        text: Its translation.
        source: ISO 639-1 code of the one.
        target: ISO 639-1 code of the other.

    Returns:
        Those of ``empty``, ``copied``, ``length``, ``script`` and ``repeated`` that apply, in this
        order; ``empty`` alone where there is nothing to look at.
    """
    if not text.strip():
        return ("empty",)
    found = {
        "copied": is_copied(source_text, text) and source != target,
        "length": not 1 / MOST_TIMES_LONGER <= length_ratio(source_text, text) <= MOST_TIMES_LONGER,
        "script": not is_in_script(text, target),
        "repeated": is_repetitive(text) and not is_repetitive(source_text),
    }
    return tuple(name for name, is_so in found.items() if is_so)


def is_copied(source_text: str, text: str) -> bool:
    """Whether the translation is the text itself but for case, white space and punctuation.

    A single word may well be the same in two languages (pizza, taxi), so that does not count.
    """
    folded, source_folded = text.casefold(), source_text.casefold()
    first, source_first = _WORD.search(folded), _WORD.search(source_folded)
    if not (first and source_first) or first[0] != source_first[0]:
        return False  # as nearly always, and then the rest need not be looked at
    words = _WORD.findall(folded)
    return len(words) > 1 and words == _WORD.findall(source_folded)


def length_ratio(source_text: str, text: str) -> float:
    """How many times longer the translation is, in letters of an alphabet.

    A Chinese character counts for three letters, a syllable of Korean or Japanese for two. Ten
    are added on both sides, so that short texts are free to differ.
    """
    return (_letters(text) + _SMALL_CHANGE) / (_letters(source_text) + _SMALL_CHANGE)


def is_in_script(text: str, language: str) -> bool:
    """Whether at least half of the letters belong to a script that the language is written in.

    Text without letters, such as a number, is in every script.
    """
    letters = sum(map(str.isalpha, text))
    return 2 * sum(map(len, _expected(language).findall(text))) >= letters


def is_repetitive(text: str) -> bool:
    """Whether one to six words follow on themselves twice or more, as when decoding goes astray.

    Within a word, two to twelve letters must come four times, or one letter six times.
    """
    folded = text.casefold()
    words = _WORD.findall(folded)
    # What cannot match is not searched: a word must come three times, or letters within one.
    return bool(
        (len(words) - len(set(words)) > 1 and _WORDS_AGAIN.search(folded))
        or any(len(w) - len(set(w)) > 4 and _CHARACTERS_AGAIN.search(w) for w in words)
    )


def _letters(text: str) -> float:
    if text.isascii():
        return len(text)
    return len(text) + sum((worth - 1) * len(kind.findall(text)) for kind, worth in _LETTERS_IN)


@cache
def _expected(language: str) -> "regex.Pattern[str]":
    script = Language.get(language).maximize().script or "Latn"
    names = _SCRIPTS.get(script, (script,))
    if language in _ALSO_LATIN:
        names = (*names, "Latn", "Cyrl")
    one_of = "".join(rf"\p{{Script={name}}}" for name in names)
    return regex.compile(rf"(?:(?=\p{{L}})[{one_of}])+")
