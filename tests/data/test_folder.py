from pathlib import Path
from typing import Any

import pytest

from tests.factories.datasets import caption_row as row
from tests.factories.datasets import write_captions as write
from xclipt.data.formats.folder import FolderDataset
from xclipt.errors import XcliptError


def test_reads_captions_by_language_and_split(tmp_path: Path) -> None:
    write(tmp_path, "tr", row("b.jpg", "bir"), row("a.jpg", "iki", " üç "))
    write(tmp_path, "en", row("a.jpg", "two", split="test"), row("b.jpg", "one", split="train"))
    dataset = FolderDataset(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.languages == ("en", "tr")
    assert dataset.splits == ("train", "test")
    assert [item.image for item in dataset.captions("tr", None)] == ["b.jpg", "a.jpg"]
    assert dataset.captions("tr", "test")[0].captions == ("iki", "üç")
    assert len(dataset.captions("tr", "test")) == 1
    assert dataset.picture_path("a.jpg") == tmp_path / "images" / "a.jpg"
    assert dataset.notes == []


def test_without_a_split_field_there_are_no_splits(tmp_path: Path) -> None:
    write(tmp_path, "en", row("a.jpg", "one"))
    dataset = FolderDataset(tmp_path)
    assert dataset.splits == ()
    with pytest.raises(XcliptError, match="has no splits"):
        dataset.captions("en", "test")
    with pytest.raises(XcliptError, match="no captions in 'fr'; it has en"):
        dataset.captions("fr", None)


def test_language_names_are_resolved(tmp_path: Path) -> None:
    write(tmp_path, "jp", row("a.jpg", "一"))
    write(tmp_path, "pt-BR", row("a.jpg", "um"))
    assert FolderDataset(tmp_path).languages == ("ja", "pt")


def test_one_language_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "jp", row("a.jpg", "一"))
    write(tmp_path, "ja", row("a.jpg", "一"))
    with pytest.raises(XcliptError, match=r"captions.jp.jsonl.*'ja' again.*captions.ja.jsonl"):
        FolderDataset(tmp_path)


def test_empty_captions_are_dropped_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, "en", row("a.jpg", "one"), row("b.jpg", "", "two", "  "), row("c.jpg"))
    write(tmp_path, "fr", row("a.jpg", ""), row("b.jpg", "deux"))
    dataset = FolderDataset(tmp_path)
    assert [item.captions for item in dataset.captions("en", None)] == [("one",), ("two",)]
    assert [item.image for item in dataset.captions("fr", None)] == ["b.jpg"]
    assert [note.split("/")[-1] for note in dataset.notes] == [
        "captions.en.jsonl: 2 empty captions left out (the first: line 2)",
        "captions.fr.jsonl: 1 empty caption left out (the first: line 1)",
    ]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "not an object"),
        ({"captions": ["x"]}, '"image" must be'),
        ({"image": 3, "captions": ["x"]}, '"image" must be'),
        ({"image": "b.jpg", "captions": "x"}, '"captions" must be a list'),
        ({"image": "b.jpg", "captions": ["x", None]}, '"captions" must be a list'),
        ({"image": "b.jpg"}, '"captions" must be a list'),
        (row("b.jpg", "x", split=1), '"split" must be'),
        (row("b.jpg", "x", split=" "), '"split" must be'),
        (row("a.jpg", "x"), "a.jpg again, as in line 1"),
        (row("", "x"), "picture name ''"),
        (row("/etc/passwd", "x"), "picture name"),
        (row("../a.jpg", "x"), "picture name"),
        (row("x/../../a.jpg", "x"), "picture name"),
        (row("..\\a.jpg", "x"), "picture name"),
        (row("C:a.jpg", "x"), "picture name"),
        (row("a\0.jpg", "x"), "picture name"),
        ('{"image": "b\\ud800.jpg", "captions": ["x"]}', "picture name"),
        ('{"image": "b.jpg", "captions": ["x\\ud800"]}', "not valid Unicode"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, bad: Any, says: str) -> None:
    file = write(tmp_path, "en", row("a.jpg", "one"), bad)
    with pytest.raises(XcliptError) as caught:
        FolderDataset(tmp_path)
    assert str(caught.value).startswith(f"{file}: line 2")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_only_look_odd_are_taken(tmp_path: Path) -> None:
    names = ["a..b.jpg", "sub/a.jpg", "été 1.jpg", "..a.jpg"]
    write(tmp_path, "en", *(row(name, "x") for name in names))
    assert [item.image for item in FolderDataset(tmp_path).captions("en", None)] == names


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "captions.fr.jsonl").write_bytes(b'{"image": "a", "captions": []}\n\n\xe9t\xe9\n')
    with pytest.raises(XcliptError, match="line 3 is not UTF-8"):
        FolderDataset(tmp_path)


def test_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "de", row("a.jpg", "eins", split="train"))
    write(tmp_path, "en", row("a.jpg", "one", split="test"))
    with pytest.raises(XcliptError, match=r"en.jsonl: line 1: a.jpg .*'test'.*'train'.*de.jsonl"):
        FolderDataset(tmp_path)


def test_folders_without_captions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XcliptError, match=r"no captions\.LANG\.jsonl"):
        FolderDataset(tmp_path)
    write(tmp_path, "en")
    with pytest.raises(XcliptError, match=r"captions.en.jsonl: empty"):
        FolderDataset(tmp_path)
    write(tmp_path, "en", row("a.jpg", ""))
    with pytest.raises(XcliptError, match="no caption in 'en'"):
        FolderDataset(tmp_path)
    write(tmp_path, "xx", row("a.jpg", "x"))
    write(tmp_path, "en", row("a.jpg", "x"))
    with pytest.raises(XcliptError, match=r"captions.xx.jsonl: 'xx' is no language"):
        FolderDataset(tmp_path)


def test_images_may_be_a_link_or_an_unpacked_link(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("linked", "unpacked"):
        write(tmp_path / name, "en", row("a.jpg", "one"))
    (tmp_path / "linked" / "images").symlink_to("../photographs")
    (tmp_path / "unpacked" / "images").write_text("../photographs\n")
    for name in ("linked", "unpacked"):
        path = FolderDataset(tmp_path / name).picture_path("a.jpg")
        assert path.resolve() == photographs.resolve() / "a.jpg"


@pytest.mark.parametrize("target", ["../../elsewhere", "/etc", "../x/../../y"])
def test_an_unpacked_link_must_stay_beside_the_folder(tmp_path: Path, target: str) -> None:
    write(tmp_path / "a", "en", row("a.jpg", "one"))
    (tmp_path / "a" / "images").write_text(target)
    with pytest.raises(XcliptError, match="outside the folder"):
        FolderDataset(tmp_path / "a")


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"x" * 5000, b"two\nlines"])
def test_another_file_called_images_is_refused(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, "en", row("a.jpg", "one"))
    (tmp_path / "images").write_bytes(data)
    with pytest.raises(XcliptError, match="must be a folder"):
        FolderDataset(tmp_path)


def test_flickr8k(data_root: Path) -> None:
    dataset = FolderDataset(data_root / "flickr8k")
    assert dataset.languages == ("en", "ar", "zh")
    assert dataset.splits == ("train", "val", "unused")
    assert len(dataset.captions("en", None)) == 6878
    assert len(dataset.captions("zh", "val")) == 964
    assert all(len(item.captions) == 3 for item in dataset.captions("ar", None))
    assert all(dataset.picture_path(item.image).is_file() for item in dataset.captions("en", None))
    assert dataset.notes == []


def test_xflickrco(data_root: Path) -> None:
    dataset = FolderDataset(data_root / "xflickrco")
    assert dataset.languages == ("en", "de", "es", "id", "ja", "ru", "tr", "zh")
    assert dataset.splits == ()
    counts = {language: len(dataset.captions(language, None)) for language in dataset.languages}
    assert counts == {
        language: 432 if language in ("en", "de", "ja") else 87 for language in counts
    }
    assert all(dataset.picture_path(item.image).is_file() for item in dataset.captions("ja", None))
