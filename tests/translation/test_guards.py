"""Guards: what each catches, and what it must leave alone."""

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from xclipt.data.registry import open_dataset
from xclipt.translation.guards import (
    find_faults,
    is_copied,
    is_in_script,
    is_repetitive,
    length_ratio,
)

LONG = "a man in a red shirt is standing on a wooden bridge over a small river"


@pytest.mark.parametrize(
    ("source_text", "text", "source", "target", "faults"),
    [
        ("a cat", "un chat", "en", "fr", ()),
        ("a cat", " \n", "en", "fr", ("empty",)),
        ("pizza", "pizza", "en", "it", ()),
        ("a black cat", "A black cat.", "en", "fr", ("copied",)),
        ("a black cat", "un gatto nero", "en", "ko", ("script",)),
        ("a black cat", "검은 고양이", "en", "ko", ()),
        ("一只黑猫", "a black cat", "zh", "en", ()),
        (LONG, "一名身穿红衬衫的男子站在小河上的木桥上", "en", "zh", ()),
        (LONG, "ein Mann", "en", "de", ("length",)),
        ("a man", f"{LONG}, {LONG}", "en", "de", ("length",)),
        ("car", "automobile", "en", "fr", ()),
        ("кошка", "cat кошка кошечка", "ru", "en", ("script",)),
        ("a dog", "der Hund der Hund der Hund", "en", "de", ("repeated",)),
        ("a dog runs", "ein Hund Hund Hund läuft", "en", "de", ("repeated",)),
        ("a very very very big dog", "un très très très grand chien", "en", "fr", ()),
        ("a bird", "pájarororororo", "en", "es", ("repeated",)),
        ("a train", "火车火车火车火车", "en", "zh", ("repeated",)),
        ("time 12:30", "12:30", "en", "ja", ()),
        ("mačka", "мачка", "sr", "en", ("script",)),
        ("a cat", "мачка", "en", "sr", ()),
        ("a cat", "mačka", "en", "sr", ()),
        ("a cat", "ネコ", "en", "ja", ()),
    ],
)
def test_verdicts(source_text, text, source, target, faults):
    assert find_faults(source_text, text, source, target) == faults


def test_one_text_can_have_several_faults():
    assert find_faults("a cat", "a cat", "en", "ru") == ("copied", "script")


def test_lengths_are_measured_in_letters_of_an_alphabet():
    assert length_ratio("a cat", "a cat") == 1
    assert length_ratio("x" * 20, "字" * 10) == 40 / 30


PIECES = ("a", "b", "ha", "der Hund ", "ein ", "ß", "İ", "a\u0301", "కి", "字", "か", "ー", "한")
OTHERS = ("я", " ", ", ", "_", "’", "7")
TEXTS = st.lists(st.sampled_from((*PIECES, *OTHERS)), max_size=24).map("".join)


@settings(max_examples=500, deadline=None)
@given(TEXTS, TEXTS)
def test_the_quick_ways_are_the_plain_ones(one, other):
    folded = one.casefold()
    plain = regex.search(r"\b(\w+(?:\W+\w+){0,5}?)(?:\W+\1\b){2,}", folded) or regex.search(
        r"([^\W\d]{2,12}?)\1{3,}|([^\W\d])\2{5,}", folded
    )
    assert is_repetitive(one) == bool(plain)
    words, others = (regex.findall(r"\w+", text.casefold()) for text in (one, other))
    assert is_copied(other, one) == (len(words) > 1 and words == others)
    letters, latin = (len(regex.findall(p, one)) for p in (r"\p{L}", r"(?=\p{L})\p{Script=Latin}"))
    assert is_in_script(one, "de") == (2 * latin >= letters)


def test_the_italian_file_that_calls_itself_korean_is_caught(data_root):
    (lines,) = open_dataset("xtd", data_root).translations("en", "ko", None)
    assert len(lines.texts) == 1000
    assert not any(is_in_script(text, "ko") for text in lines.texts)


@pytest.mark.parametrize("language", ["de", "fr", "cs"])
def test_what_people_translated_passes(data_root, language):
    wrong = faulty_captions(open_dataset("multi30k", data_root), language, "val")
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("language", ["de", "es", "fr", "it", "ja", "ko", "pl", "ru", "tr", "zh"])
def test_what_people_wrote_anew_mostly_passes(data_root, language):
    wrong = faulty_captions(open_dataset("xtd", data_root), language, "test")
    # The Russian ones are often of one word or two.
    assert len(wrong) <= (40 if language == "ru" else 10), wrong
    if language == "de":
        assert wrong["öööööööööööööööööö"] == ("repeated",) and wrong["dfgdfg"] == ("length",)


def faulty_captions(dataset, language, split):
    english = {item.image: item.captions[0] for item in dataset.captions("en", split)}
    found = {
        item.captions[0]: find_faults(english[item.image], item.captions[0], "en", language)
        for item in dataset.captions(language, split)
    }
    return {text: faults for text, faults in found.items() if faults and faults != ("copied",)}
