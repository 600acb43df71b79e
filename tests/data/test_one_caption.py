"""The view that takes one caption of every picture by its number."""

from pathlib import Path

import pytest

from tests.factories.datasets import make_folder, make_multi30k, many
from xclipt.data.dataset import CaptionedPicture
from xclipt.data.one_caption import OneCaption
from xclipt.data.pairs import caption_pairs
from xclipt.data.registry import open_dataset
from xclipt.data.sets.multi30k import TASK2
from xclipt.data.splits import PaperSplit
from xclipt.errors import UsageError


def test_it_is_the_caption_of_that_number_in_every_language(tmp_path: Path) -> None:
    make_multi30k(tmp_path / "multi30k", TASK2)
    whole = open_dataset("multi30k-task2", tmp_path)
    for number in range(1, 6):
        view = open_dataset("multi30k-task2", tmp_path, caption=number)
        assert (view.name, view.languages, view.splits) == (
            (whole.name, whole.languages, whole.splits)
        )
        assert view.caption == number and whole.caption is None
        for language in view.languages:
            for split in (*view.splits, "test", None):
                assert view.captions(language, split) == [
                    CaptionedPicture(picture.image, (picture.captions[number - 1],))
                    for picture in whole.captions(language, split)
                ]
        assert view.picture_path("a.jpg") == whole.picture_path("a.jpg")


def test_translations_stay_those_of_all_captions(tmp_path: Path) -> None:
    make_multi30k(tmp_path / "multi30k", TASK2)
    file = tmp_path / "multi30k/data/task2/translated_to_en/val.2.de"
    file.parent.mkdir()
    file.write_text("one\ntwo\n")
    view = open_dataset("multi30k-task2", tmp_path, caption=1)
    (part,) = view.translations("de", "en", "val")
    assert part.sources[0] == "de val 0 caption 2" and part.texts == ("one", "two")


def test_every_pair_is_of_that_caption() -> None:
    # Three Turkish and two English captions a picture: the seed draws among all without a number.
    drawn = caption_pairs(many(20), "tr", None, seed=1, english=True)
    assert {pair.text.split()[2] for pair in drawn} == {"0", "1", "2"}
    pairs = caption_pairs(OneCaption(many(20), 2), "tr", None, seed=1, english=True)
    assert [pair.image for pair in pairs] == [pair.image for pair in drawn]
    assert all(pair.text.endswith(" 1") and pair.partner.endswith(" 1") for pair in pairs)


def test_the_papers_split_is_the_same_with_a_number_that_another_language_lacks() -> None:
    whole, third = PaperSplit(many(20), 3), PaperSplit(OneCaption(many(20), 3), 3)
    assert third.caption == 3
    assert [(p.image, p.captions[2:]) for p in whole.captions("tr", "train")] == [
        (p.image, p.captions) for p in third.captions("tr", "train")
    ]
    with pytest.raises(UsageError, match="in 'en' have fewer"):
        third.captions("en", "train")


def test_a_number_that_a_picture_lacks_is_refused(tmp_path: Path) -> None:
    own = {"a.jpg": ("bir", "iki"), "b.jpg": ("üç",), "c.jpg": ("beş", "altı", "yedi")}
    make_folder(tmp_path / "own", {"en": {"a.jpg": ("one", "two")}, "tr": own})
    view = open_dataset("own", tmp_path, caption=2)
    assert view.captions("en", None) == [CaptionedPicture("a.jpg", ("two",))]
    with pytest.raises(UsageError) as refusal:
        view.captions("tr", None)
    assert str(refusal.value) == (
        "caption '2': own: 1 of 3 pictures in 'tr' have fewer captions, b.jpg has 1; "
        "give at most that"
    )
    with pytest.raises(UsageError, match="caption '0': captions are numbered from 1"):
        open_dataset("own", tmp_path, caption=0)


def test_the_real_flickr8k(data_root: Path) -> None:
    whole = open_dataset("flickr8k", data_root).captions("en", "val")
    third = open_dataset("flickr8k", data_root, caption=3).captions("en", "val")
    assert [(p.image, p.captions[2]) for p in whole] == [(p.image, *p.captions) for p in third]
    with pytest.raises(UsageError, match=r"flickr8k: .* pictures in 'ar' .* has 3; give at most"):
        open_dataset("flickr8k", data_root, caption=4).captions("ar", "val")
