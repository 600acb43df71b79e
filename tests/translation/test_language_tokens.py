"""Languages as models name them, against the lists that the models are published with."""

import pytest
from langcodes import Language
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from xclipt.errors import XcliptError
from xclipt.languages import _two_letter_codes, flores_code, resolve
from xclipt.translation.engines.hub_model import LanguageTokens, language_tokens


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("fr", "fra_Latn"), ("zh", "zho_Hans"), ("ja", "jpn_Jpan"), ("ko", "kor_Hang"),
        ("ar", "arb_Arab"), ("fa", "pes_Arab"), ("no", "nob_Latn"), ("sw", "swh_Latn"),
        ("sr", "srp_Cyrl"), ("hi", "hin_Deva"), ("el", "ell_Grek"), ("yue", "yue_Hant"),
        ("he", "heb_Hebr"), ("et", "est_Latn"), ("lv", "lvs_Latn"), ("tl", "tgl_Latn"),
    ],
)  # fmt: skip
def test_flores_codes(language, code):
    assert flores_code(language) == code


def test_every_language_of_nllb_with_two_letters_is_reached():
    reached = {flores_code(resolve(code)) for code in _two_letter_codes()} & set(NLLB)
    assert len(reached) > 120
    left = [
        code
        for code in set(NLLB) - reached
        if len(resolve(code.split("_")[0])) == 2
        and Language.get(code).maximize().script == code.split("_")[1]
    ]
    # A dialect of Persian, and second scripts of Chinese and Kashmiri.
    assert sorted(left) == ["kas_Deva", "prs_Arab", "zho_Hant"]


def test_what_models_are_told():
    vocabulary = {f"__{code}__" for code in M2M["m2m100"]}
    assert language_tokens("m", "m2m_100", vocabulary, "fr", "ja") == LanguageTokens(
        "fr", "__ja__", ""
    )
    assert language_tokens("n", "m2m_100", set(NLLB), "ko", "en") == LanguageTokens(
        "kor_Hang", "eng_Latn", ""
    )
    assert language_tokens("o", "marian", {"a", "b"}, "fr", "en") == LanguageTokens()
    assert language_tokens("o", "marian", {">>cmn_Hans<<"}, "en", "zh").prefix == ">>cmn_Hans<< "


def test_other_models_and_unknown_languages_are_refused():
    with pytest.raises(XcliptError, match="model 't': is of type t5"):
        language_tokens("t", "t5", {"a"}, "fr", "en")
    with pytest.raises(XcliptError, match=r"does not know Volapük \(vo, as vol_Latn\)"):
        language_tokens("n", "m2m_100", set(NLLB), "en", "vo")
