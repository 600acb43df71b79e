"""Texts that are not in the language that they are said to be in, and who is told."""

from pathlib import Path

import pytest

from tests.factories.datasets import caption_row, write_captions
from tests.factories.parallel import ENGLISH, GERMAN, TELUGU, read
from tests.parallel.test_formats import lines
from xclipt.data.registry import open_dataset
from xclipt.detection import mistaken_for
from xclipt.languages import alike

CROATIAN = (
    "Pas trči kroz snijeg.",
    "Dvojica muškaraca sjede na klupi.",
    "Crvena kuća stoji blizu rijeke.",
    "Žena čita novine.",
)
REPHRASED = (
    "A dog is running through snow.",
    "Two guys sit on the bench.",
    "The red house is near the river.",
    "A lady reads a newspaper.",
)


@pytest.mark.parametrize(
    ("said", "texts", "found"),
    [
        ("de", GERMAN, None),
        ("de", ENGLISH, "en"),
        ("fr", GERMAN, "de"),
        ("te", TELUGU, None),
        ("hi", TELUGU, "te"),
        ("bs", CROATIAN, None),  # near enough to be taken for it
        ("cs", CROATIAN, "hr"),
        ("gsw", GERMAN, None),  # of which the detector knows nothing
        ("fur", GERMAN, None),
        ("de", ("A dog runs.",), None),  # too little to go by
        ("de", (), None),
    ],
)
def test_what_texts_are_in(said: str, texts: tuple[str, ...], found: str | None) -> None:
    assert mistaken_for(said, texts) == found


@pytest.mark.usefixtures("without_detection")
def test_without_the_extra_nobody_can_tell() -> None:
    assert mistaken_for("de", ENGLISH) is None


def test_languages_that_are_easily_taken_for_each_other() -> None:
    for one, other in (("hr", "sr"), ("id", "ms"), ("nn", "no"), ("nb", "da"), ("de", "de")):
        assert alike(one, other) and alike(other, one), (one, other)
    for one, other in (("en", "de"), ("uk", "ru"), ("cs", "sk"), ("es", "ca"), ("te", "hi")):
        assert not alike(one, other) and not alike(other, one), (one, other)


@pytest.mark.parametrize(
    ("english", "texts", "says"),
    [
        (ENGLISH, REPHRASED, "what was taken for German looks like English"),
        (ENGLISH, CROATIAN, "what was taken for German looks like Croatian"),
        (CROATIAN, GERMAN, "what was taken for English looks like Croatian"),
    ],
)
def test_pairs_are_remarked_on_whenever_they_are_used(
    tmp_path: Path, english: tuple[str, ...], texts: tuple[str, ...], says: str
) -> None:
    source = tmp_path / "a.tsv"
    source.write_text(lines(english, texts))
    for _ in range(2):  # the second time they are there already
        told: list[str] = []
        read(tmp_path, source, language="de", told=told)
        assert told[1:] == [f"a.tsv: {says}; check the language and the columns"]


@pytest.mark.usefixtures("without_detection")
def test_english_beside_english_is_seen_by_its_words(tmp_path: Path) -> None:
    source, good = tmp_path / "a.tsv", tmp_path / "b.tsv"
    source.write_text(lines(ENGLISH, REPHRASED))
    good.write_text(lines(ENGLISH, GERMAN))
    told: list[str] = []
    read(tmp_path, source, language="de", told=told)
    says = "what was taken for German has the same words as the English"
    assert told[1:] == [f"a.tsv: {says}; check the language and the columns"]
    told = []
    read(tmp_path, good, language="de", told=told)
    assert len(told) == 1


def test_captions_of_ones_own(tmp_path: Path) -> None:
    for language, texts in (("en", ENGLISH), ("de", REPHRASED), ("te", TELUGU)):
        rows = [caption_row(f"{i}.jpg", text) for i, text in enumerate(texts)]
        write_captions(tmp_path / "mine", language, *rows)
    assert open_dataset(tmp_path / "mine").notes == [
        "mine: captions in 'de' look like English; check what they were taken for"
    ]
