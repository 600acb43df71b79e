"""Language codes as people type them, resolved to ISO 639-1."""

import difflib
import itertools
import string
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from xclipt.errors import XcliptError

ALIASES = {
    "bd": "bn",
    "by": "be",
    "cn": "zh",
    "cz": "cs",
    "dk": "da",
    "ge": "ka",
    "gr": "el",
    "il": "he",
    "ir": "fa",
    "jp": "ja",
    "kr": "ko",
    "kz": "kk",
    "np": "ne",
    "ph": "tl",
    "rs": "sr",
    "se": "sv",
    "ua": "uk",
    "vn": "vi",
}
"""Country codes that people type for a language.

Two of them are ISO 639-1 codes of other languages, which keep their three letters here:
Kanuri (``kr``) is ``kau`` and Northern Sami (``se``) is ``sme``.
"""

SEVERAL = "mul"
"""ISO 639's code for several languages: whose deltas are those that were taught them together."""

COMMON = frozenset(
    (
        *("af", "am", "ar", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "da", "de"),
        *("el", "en", "es", "et", "eu", "fa", "fi", "fr", "ga", "gl", "gu", "he", "hi"),
        *("hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "kn", "ko", "lt", "lv"),
        *("mk", "ml", "mn", "mr", "ms", "my", "nb", "ne", "nl", "nn", "no", "pa", "pl"),
        *("pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl"),
        *("tr", "uk", "ur", "uz", "vi", "zh", "zu"),
    )
)
"""Codes that stand for themselves: the registry of all of them takes a while to import."""

_NORWEGIAN = ("no", "nb", "nn")

_RIGHT_TO_LEFT = frozenset(
    ("Adlm", "Arab", "Aran", "Hebr", "Mand", "Mend", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa", "Yezi")
)
_FLORES_LANGUAGE = {
    "ar": "arb",
    "ay": "ayr",
    "az": "azj",
    "fa": "pes",
    "ff": "fuv",
    "kau": "knc",
    "ku": "kmr",
    "lv": "lvs",
    "mg": "plt",
    "mn": "khk",
    "ms": "zsm",
    "ne": "npi",
    "no": "nob",
    "om": "gaz",
    "or": "ory",
    "ps": "pbt",
    "qu": "quy",
    "sq": "als",
    "sw": "swh",
    "tl": "tgl",
    "uz": "uzn",
    "yi": "ydd",
}
"""Macrolanguages, and the member that FLORES-200 stands for them with."""

_FLORES_SCRIPT = {"Kore": "Hang"}
_ALIKE = 15
"""By the measure of CLDR: Malay and Indonesian are 14 apart, Czech and Slovak 24."""
_NO_LANGUAGE = frozenset(("mis", "mul", "root", "und", "zxx"))


def resolve(code: str) -> str:
    """The ISO 639-1 code that ``code`` stands for, in lower case.

    Takes other cases, regions and scripts (``pt-BR``, ``zh_Hans``), three-letter codes (``deu``,
    ``ger``), withdrawn codes (``iw``) and the ``ALIASES``. A language that has no two-letter code
    keeps its three letters (``yue``, ``haw``).

    Raises:
        XcliptError: It is no language. The near ones are named.
    """
    plain = code.strip().replace("_", "-").lower()
    return plain if plain in COMMON else _resolve(plain)


@cache
def find(typed: str) -> str:
    """As :func:`resolve`, also from a language's name in English or its own: ``français``.

    Raises:
        XcliptError: It is no language. The near ones are named.
    """
    try:
        return resolve(typed)
    except XcliptError:
        from langcodes import find as by_name

        if "\0" not in typed:  # its table of names breaks there, in several ways
            with suppress(LookupError):
                return resolve(by_name(typed.strip()).language or "")
        raise


def called(word: str) -> str | None:
    """The common language that ``word`` is the name of, in English or its own; else ``None``.

    Names of rare ones are words of other kinds too: ``Label``, ``Date``.
    """
    word = word.strip().casefold()
    return _common_names().get(word) if len(word) > 3 or not word.isascii() else None


def relatives(code: str) -> tuple[str, ...]:
    """Codes whose deltas serve a language that has none: of Norwegian, its two written forms."""
    return tuple(other for other in _NORWEGIAN if other != code) if code in _NORWEGIAN else ()


def alike(one: str, other: str) -> bool:
    """Whether a text of the one is easily taken for the other: Bosnian and Croatian."""
    if one == other or other in relatives(one):
        return True
    from langcodes import tag_distance

    # As if in one script: Serbian is read as Croatian by its Latin letters alone.
    here, there = f"{one}-Latn", f"{other}-Latn"
    return min(tag_distance(here, there), tag_distance(there, here)) < _ALIKE


def name(code: str) -> str:
    """The language's English name: ``name("de")`` is ``German``.

    Raises:
        XcliptError: It is no language.
    """
    return _name(resolve(code))


def names(codes: Sequence[str]) -> str:
    """The languages' English names: ``German, French and Czech``.

    Raises:
        XcliptError: One is no language.
    """
    *first, last = map(name, codes)
    return f"{', '.join(first)} and {last}" if first else last


def is_right_to_left(code: str) -> bool:
    """Whether the language is usually written from right to left.

    Raises:
        XcliptError: It is no language.
    """
    from langcodes import Language

    return Language.get(resolve(code)).maximize().script in _RIGHT_TO_LEFT


def flores_code(language: str) -> str:
    """FLORES-200's name of a language, as in NLLB's vocabulary: ``fra_Latn`` for ``fr``.

    The script is the one that the language is most often written in.
    """
    from langcodes import Language

    known = Language.get(language)
    script = known.maximize().script or "Latn"
    letters = _FLORES_LANGUAGE.get(language) or known.to_alpha3()
    return f"{letters}_{_FLORES_SCRIPT.get(script, script)}"


@cache
def _resolve(code: str) -> str:
    from langcodes import Language, standardize_tag
    from langcodes.tag_parser import LanguageTagError

    base, *subtags = code.split("-")
    tag = "-".join([ALIASES.get(base, base), *subtags])
    try:
        language = Language.get(tag).language or ""
        valid = Language.get(language or "und").is_valid()
    except LanguageTagError:
        language, valid = "", False
    if not valid or not language or language in _NO_LANGUAGE or "qaa" <= language <= "qtz":
        raise XcliptError(f"'{code}' is no language that ISO 639 knows{_suggestion(code)}")
    if len(language) == 3:
        # The registry folds a macrolanguage's main member into it: cmn is zh, ekk is et.
        wider = standardize_tag(language, macro=True).split("-")[0]
        language = "tl" if language == "fil" else wider if len(wider) == 2 else language
    return Language.get(language).to_alpha3() if language in ALIASES else language


@cache
def _name(code: str) -> str:
    from langcodes import Language

    return Language.get(code).display_name()


@cache
def _common_names() -> dict[str, str]:
    from langcodes import Language

    known = {code: Language.get(code) for code in sorted(COMMON)}
    own = {language.autonym().casefold(): code for code, language in known.items()}
    return own | {language.display_name().casefold(): code for code, language in known.items()}


@cache
def _two_letter_codes() -> tuple[str, ...]:
    from langcodes import tag_is_valid

    letters = itertools.product(string.ascii_lowercase, repeat=2)
    return tuple(pair for pair in map("".join, letters) if tag_is_valid(pair))


def _suggestion(typed: str) -> str:
    known = {_name(code).lower(): code for code in map(_resolve, _two_letter_codes())}
    known |= {code: code for code in known.values()} | ALIASES
    near = difflib.get_close_matches(typed, known, n=5, cutoff=0.6)
    codes = list(dict.fromkeys(known[word] for word in near))[:3]
    if not codes:
        return "; give a code such as fr, tr or zh"
    return "; did you mean " + " or ".join(f"{code} ({_name(code)})" for code in codes) + "?"
