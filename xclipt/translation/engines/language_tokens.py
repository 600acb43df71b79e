"""How translation models are told which languages to read and write."""

from collections.abc import Collection
from dataclasses import dataclass

from xclipt.errors import XcliptError
from xclipt.languages import name as language_name

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
    "uz": "uzn",
    "yi": "ydd",
}
"""Macrolanguages, and the member that FLORES-200 stands for them with."""

_FLORES_SCRIPT = {"Kore": "Hang"}
_MARIAN_LANGUAGE = {"zh": ("cmn_Hans", "cmn", "zho_Hans", "zho"), "no": ("nob",), "ar": ("ara",)}


@dataclass(frozen=True)
class LanguageTokens:
    """What a model has to be told.

    Attributes:
        source: The tokenizer's name of the language to read; ``None`` where it knows only one.
        forced: The token that the translation must begin with, if any.
        prefix: What is put before every text.
    """

    source: str | None = None
    forced: str | None = None
    prefix: str = ""


def language_tokens(
    model: str, kind: str, vocabulary: Collection[str], source: str, target: str
) -> LanguageTokens:
    """What a model has to be told to translate from ``source`` to ``target``.

    Marian models of several target languages read ``>>fra<<`` before the text. NLLB reads
    ``fra_Latn`` and M2M-100 ``__fr__`` before the text, and both begin the translation with the
    like of the other language.

    Args:
        model: Its name, for messages.
        kind: ``model_type`` of its configuration.
        vocabulary: Its tokenizer's tokens.
        source: ISO 639-1 code.
        target: ISO 639-1 code.

    Raises:
        XcliptError: It is of another kind, or does not have one of the languages.
    """
    if kind == "marian":
        return LanguageTokens(prefix=_marian_prefix(model, vocabulary, target))
    if "eng_Latn" in vocabulary:
        reads, writes = flores_code(source), flores_code(target)
        _require(model, vocabulary, {source: reads, target: writes})
        return LanguageTokens(source=reads, forced=writes)
    if "__en__" in vocabulary:
        reads, writes = f"__{source}__", f"__{target}__"
        _require(model, vocabulary, {source: reads, target: writes})
        return LanguageTokens(source=source, forced=writes)
    raise XcliptError(
        f"--model {model}: is of type {kind}; opus-mt (Marian), NLLB-200 and M2M-100 are known"
    )


def flores_code(language: str) -> str:
    """FLORES-200's name of a language, as in NLLB's vocabulary: ``fra_Latn`` for ``fr``.

    The script is the one that the language is most often written in.
    """
    from langcodes import Language

    known = Language.get(language)
    script = known.maximize().script or "Latn"
    letters = _FLORES_LANGUAGE.get(language) or known.to_alpha3()
    return f"{letters}_{_FLORES_SCRIPT.get(script, script)}"


def _marian_prefix(model: str, vocabulary: Collection[str], target: str) -> str:
    from langcodes import Language

    tags = sorted(token for token in vocabulary if token.startswith(">>") and token.endswith("<<"))
    if not tags:
        return ""
    letters = Language.get(target).to_alpha3()
    names = (*_MARIAN_LANGUAGE.get(target, ()), letters, target, flores_code(target))
    for name in names:
        if f">>{name}<<" in vocabulary:
            return f">>{name}<< "
    raise XcliptError(
        f"--model {model}: does not write {language_name(target)} ({target}); it has "
        f"{', '.join(tag.strip('<>') for tag in tags[:12])}{', ...' if len(tags) > 12 else ''}"
    )


def _require(model: str, vocabulary: Collection[str], tokens: dict[str, str]) -> None:
    for language, token in tokens.items():
        if token not in vocabulary:
            raise XcliptError(
                f"--model {model}: does not know {language_name(language)} ({language}, as {token})"
            )
