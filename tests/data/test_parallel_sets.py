import gzip
from pathlib import Path

import pytest

from tests.factories.datasets import make_multi30k, make_xtd
from xclipt.data.dataset import CaptionedPicture
from xclipt.data.sets import multi30k, xtd
from xclipt.data.sets.multi30k import Multi30kDataset
from xclipt.data.sets.xtd import XtdDataset
from xclipt.errors import XcliptError


def test_multi30k_matches_line_by_line(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    assert dataset.captions("de", "val") == [
        CaptionedPicture("10.jpg", ("de val 0",)),
        CaptionedPicture("11.jpg", ("de val\u2028 1",)),
    ]
    assert dataset.captions("cs", "test") == dataset.captions("cs", "test_2016_flickr")
    assert [item.image for item in dataset.captions("fr", None)] == [
        "00.jpg", "01.jpg", "10.jpg", "11.jpg", "20.jpg", "21.jpg",
    ]  # fmt: skip
    with pytest.raises(XcliptError, match="no captions in 'tr'; it has en, de, fr, cs"):
        dataset.captions("tr", "val")
    with pytest.raises(XcliptError, match="split 'dev'"):
        dataset.captions("de", "dev")


def test_multi30k_line_counts_must_agree(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    file = tmp_path / multi30k.captions_file("fr", "val")
    file.write_bytes(gzip.compress(b"un\n"))
    with pytest.raises(XcliptError, match=r"val.fr.gz: 1 lines for the 2 pictures in val.txt"):
        dataset.captions("fr", "val")
    assert dataset.captions("fr", "train")


def test_multi30k_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    file = tmp_path / multi30k.captions_file("fr", "val")
    whole = file.read_bytes()
    for data in (whole[:-9], b"not gzip", b"", whole[:12] + b"\xff" + whole[13:]):
        file.write_bytes(data)
        with pytest.raises(XcliptError, match=r"val.fr.gz"):
            dataset.captions("fr", "val")
    file.unlink()
    with pytest.raises(XcliptError, match=r"val.fr.gz: cannot read.*`download=True`"):
        dataset.captions("fr", "val")
    file.write_bytes(gzip.compress(b"un\n\xff\n"))
    with pytest.raises(XcliptError, match=r"val.fr.gz: line 2 is not UTF-8"):
        dataset.captions("fr", "val")


def test_empty_lines_are_dropped_counted_and_named_once(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    file = tmp_path / multi30k.captions_file("fr", "val")
    file.write_bytes(gzip.compress(b" \nun\n"))
    for _ in range(2):
        assert [item.image for item in dataset.captions("fr", "val")] == ["11.jpg"]
    assert dataset.notes == [f"{file}: 1 empty caption left out (the first: line 1)"]


@pytest.mark.parametrize("names", ["a.jpg\na.jpg\n", "a.jpg\n../b.jpg\n", "a.jpg\n\n"])
def test_bad_picture_lists_are_refused(tmp_path: Path, names: str) -> None:
    dataset = make_multi30k(tmp_path)
    (tmp_path / multi30k.pictures_file("val")).write_text(names)
    with pytest.raises(XcliptError, match=r"val.txt: line 2"):
        dataset.captions("fr", "val")


def test_multi30k_photographs_are_found_inside_or_beside(tmp_path: Path) -> None:
    folder = tmp_path / "multi30k"
    assert multi30k.find_photographs(folder) == folder / "flickr30k-images"
    (tmp_path / "flickr30k-images").mkdir()
    assert multi30k.find_photographs(folder) == tmp_path.resolve() / "flickr30k-images"
    (folder / "flickr30k-images").mkdir(parents=True)
    assert multi30k.find_photographs(folder) == folder / "flickr30k-images"


def test_xtd_matches_line_by_line(tmp_path: Path) -> None:
    dataset = make_xtd(tmp_path)
    assert dataset.languages == ("en", "de", "es", "fr", "it", "ja", "ko", "pl", "ru", "tr", "zh")
    for language in dataset.languages:
        assert [item.captions for item in dataset.captions(language, "test")] == [
            (f"{language} one",),
            (f"{language} two",),
        ]
    with pytest.raises(XcliptError, match="split 'train': xtd has test"):
        dataset.captions("fr", "train")


def test_xtd_line_counts_must_agree(tmp_path: Path) -> None:
    dataset = make_xtd(tmp_path)
    (tmp_path / "STAIR/test_1kcaptions_jp.txt").write_text("一\n二\n三\n", "utf-8")
    with pytest.raises(XcliptError, match=r"jp.txt: 3 lines for the 2 pictures"):
        dataset.captions("ja", None)


def test_xtd_photographs_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "xtd"
    make_xtd(folder)
    assert xtd.find_photographs(folder) == folder / "images"
    for part, name in (
        ("train2014", "COCO_train2014_000000000001.jpg"),
        ("val2014", "COCO_val2014_000000000002.jpg"),
    ):
        file = tmp_path / "COCO" / part / name
        file.parent.mkdir(parents=True)
        file.touch()
    found = xtd.find_photographs(folder)
    dataset = XtdDataset(folder, found)
    assert found == tmp_path.resolve() / "COCO"
    assert all(dataset.picture_path(item.image).is_file() for item in dataset.captions("en", None))
    (folder / "images").mkdir()
    assert xtd.find_photographs(folder) == folder / "images"


def test_real_multi30k(data_root: Path) -> None:
    folder = multi30k.find_folder(data_root)
    assert folder is not None
    dataset = Multi30kDataset(folder, multi30k.find_photographs(folder))
    for language in dataset.languages:
        assert len(dataset.captions(language, "val")) == 1014
        assert len(dataset.captions(language, "test")) == 1000
    assert len(dataset.captions("en", None)) == 31014
    assert dataset.captions("en", "val")[0] == CaptionedPicture(
        "1018148011.jpg",
        ("A group of men are loading cotton onto a truck",),
    )
    present = [
        item for item in dataset.captions("cs", "val") if dataset.picture_path(item.image).is_file()
    ]
    assert len(present) == 214
    assert dataset.notes == []


def test_real_xtd(data_root: Path) -> None:
    folder = xtd.find_folder(data_root)
    assert folder is not None
    dataset = XtdDataset(folder, xtd.find_photographs(folder))
    for language in dataset.languages:
        captioned = dataset.captions(language, "test")
        assert len(captioned) == 1000
        assert len({item.image for item in captioned}) == 1000
    assert dataset.captions("ja", None)[1] == CaptionedPicture(
        "COCO_train2014_000000061849.jpg", ("マウスの上に猫の手が乗っている",)
    )
    assert dataset.notes == []
