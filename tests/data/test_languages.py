import pytest
from hypothesis import given
from hypothesis import strategies as st

from xclipt.errors import XcliptError
from xclipt.languages import ALIASES, COMMON, _resolve, find, is_right_to_left, name, resolve


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("fr", "fr"),
        ("FR", "fr"),
        (" en ", "en"),
        ("jp", "ja"),
        ("cn", "zh"),
        ("kr", "ko"),
        ("cz", "cs"),
        ("ua", "uk"),
        ("gr", "el"),
        ("dk", "da"),
        ("se", "sv"),
        ("deu", "de"),
        ("ger", "de"),
        ("zho", "zh"),
        ("chi", "zh"),
        ("cmn", "zh"),
        ("tur", "tr"),
        ("pt-BR", "pt"),
        ("pt_br", "pt"),
        ("zh-Hans", "zh"),
        ("zh_CN", "zh"),
        ("sr-Latn", "sr"),
        ("CN-Hans", "zh"),
        ("iw", "he"),
        ("in", "id"),
        ("fil", "tl"),
        ("tl", "tl"),
        ("yue", "yue"),
        ("haw", "haw"),
        ("kau", "kau"),
        ("sme", "sme"),
    ],
)
def test_resolves_what_people_type(typed: str, code: str) -> None:
    assert resolve(typed) == code


@pytest.mark.parametrize(
    "typed", ["", "x", "xx", "zz", "123", "und", "mul", "qaa", "français!", "fr fr", "-", "a" * 500]
)
def test_refuses_what_is_no_language(typed: str) -> None:
    with pytest.raises(XcliptError, match="no language") as caught:
        resolve(typed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["\0", "fr\0", "", "French\0", "\0\U00010000"])
def test_refuses_what_is_no_name(typed: str) -> None:
    with pytest.raises(XcliptError, match=r"is no language|names no language"):
        find(typed)


@pytest.mark.parametrize(("typed", "near"), [("german", "de (German)"), ("frenche", "fr (French)")])
def test_suggests_near_languages(typed: str, near: str) -> None:
    with pytest.raises(XcliptError) as caught:
        resolve(typed)
    assert near in str(caught.value)


def test_aliases_shadow_no_other_code_but_the_two_documented() -> None:
    from langcodes import tag_is_valid

    assert {alias for alias in ALIASES if tag_is_valid(alias)} == {"kr", "se"}
    assert all(resolve(target) == target for target in ALIASES.values())


@given(st.text(max_size=12) | st.from_regex(r"[a-z]{2,3}(-[A-Za-z]{2,4})?", fullmatch=True))
def test_resolving_twice_is_resolving_once(typed: str) -> None:
    try:
        code = find(typed)
    except XcliptError:
        return
    assert resolve(code) == code
    assert 2 <= len(code) <= 3
    assert code == code.lower()


def test_names() -> None:
    assert [name(code) for code in ("de", "jp", "zh-Hans", "yue")] == [
        "German",
        "Japanese",
        "Chinese",
        "Cantonese",
    ]


def test_direction() -> None:
    assert all(map(is_right_to_left, ("ar", "fa", "he", "iw", "ur", "yi")))
    assert not any(map(is_right_to_left, ("de", "ja", "ru", "tr", "zh")))


def test_codes_that_are_known_without_the_registry_stand_for_themselves_in_it():
    assert {_resolve(code) for code in COMMON} == COMMON
    assert not COMMON & ALIASES.keys()
