import gzip
from pathlib import Path

import pytest

from tests.factories.datasets import make_multi30k, make_xtd, write_captions_of
from xclipt.data.dataset import CaptionedPicture
from xclipt.data.registry import open_dataset
from xclipt.data.sets import multi30k, xtd
from xclipt.data.sets.coco import find_coco
from xclipt.data.sets.multi30k import LATER, TASK1, TASK2, Multi30kDataset
from xclipt.data.sets.xtd import XtdDataset
from xclipt.data.splits import PaperSplit
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
    file = tmp_path / TASK1.captions_files("fr", "val")[0]
    file.write_bytes(gzip.compress(b"un\n"))
    with pytest.raises(XcliptError, match=r"val.fr.gz: 1 lines for the 2 pictures in val.txt"):
        dataset.captions("fr", "val")
    assert dataset.captions("fr", "train")


def test_multi30k_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    file = tmp_path / TASK1.captions_files("fr", "val")[0]
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
    file = tmp_path / TASK1.captions_files("fr", "val")[0]
    file.write_bytes(gzip.compress(b" \nun\n"))
    for _ in range(2):
        assert [item.image for item in dataset.captions("fr", "val")] == ["11.jpg"]
    assert dataset.notes == [f"{file}: 1 empty caption left out (the first: line 1)"]


@pytest.mark.parametrize("names", ["a.jpg\na.jpg\n", "a.jpg\n../b.jpg\n", "a.jpg\n\n"])
def test_bad_picture_lists_are_refused(tmp_path: Path, names: str) -> None:
    dataset = make_multi30k(tmp_path)
    (tmp_path / TASK1.pictures_file("val")).write_text(names)
    with pytest.raises(XcliptError, match=r"val.txt: line 2"):
        dataset.captions("fr", "val")


def test_multi30k_photographs_are_found_inside_or_beside(tmp_path: Path) -> None:
    folder = tmp_path / "multi30k"
    assert multi30k.find_photographs(folder) == folder / "flickr30k-images"
    (tmp_path / "flickr30k-images").mkdir()
    assert multi30k.find_photographs(folder) == tmp_path.resolve() / "flickr30k-images"
    (folder / "flickr30k-images").mkdir(parents=True)
    assert multi30k.find_photographs(folder) == folder / "flickr30k-images"


def test_every_file_of_multi30k_is_found_packed_or_not(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    packed = {code: dataset.captions(code, None) for code in dataset.languages}
    for file in [*tmp_path.rglob("*.gz")]:
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert {code: dataset.captions(code, None) for code in dataset.languages} == packed
    for name in ("image_splits/val.txt", "raw/val.de"):
        file = tmp_path / "data/task1" / name
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert dataset.captions("de", None) == packed["de"]


@pytest.mark.parametrize("folder", ["translated_to_en", "data/task1/translated_to_en"])
@pytest.mark.parametrize("packed", [True, False])
def test_multi30ks_translations_are_found(tmp_path: Path, folder: str, packed: bool) -> None:
    dataset = make_multi30k(tmp_path)
    file = tmp_path / folder / ("val.fr.gz" if packed else "val.fr")
    file.parent.mkdir()
    text = b"one\r\ntwo\r\n"  # line ends as some of the published files have them
    file.write_bytes(gzip.compress(text) if packed else text)
    (part,) = dataset.translations("fr", "en", None)
    assert (part.file, part.texts) == (file, ("one", "two"))
    assert part.sources == ("fr val 0", "fr val\u2028 1")
    assert dataset.translations("de", "en", None) == []


def test_later_test_splits_of_multi30k(tmp_path: Path) -> None:
    dataset = make_multi30k(tmp_path)
    before = {code: len(dataset.captions(code, None)) for code in dataset.languages}
    with pytest.raises(XcliptError, match=r"test_2017_mscoco\.txt: cannot read.*`download=True`"):
        dataset.captions("de", "test_2017_mscoco")
    write_captions_of(TASK1, tmp_path, *LATER)
    for split in LATER:
        assert [p.captions for p in dataset.captions("de", split)] == [
            (f"de {split} 0",),
            (f"de {split}\u2028 1",),
        ]
    # Czech is in that of 2018 alone, and 2016's stays the test.
    with pytest.raises(XcliptError, match="'test_2017_flickr' has no captions in 'cs'; it has en"):
        dataset.captions("cs", "test_2017_flickr")
    assert {code: len(dataset.captions(code, None)) for code in dataset.languages} == {
        code: count + (2 if code == "cs" else 6) for code, count in before.items()
    }
    assert dataset.captions("de", "test")[0].captions == ("de test_2016_flickr 0",)
    paper = PaperSplit(dataset, 1)
    assert paper.captions("de", "test") == dataset.captions("de", "test_2016_flickr")


def test_photographs_of_the_later_test_splits(tmp_path: Path) -> None:
    folder = tmp_path / "multi30k"
    make_multi30k(folder)
    write_captions_of(TASK1, folder, *LATER)
    listed = "COCO_train2014_000000000001.jpg#7\nCOCO_val2014_000000000002.jpg#9\n"
    (folder / TASK1.pictures_file("test_2017_mscoco")).write_text(listed)
    for path in (
        "flickr30k-images/00.jpg",
        "test_2018_flickr/20.jpg",
        "coco2014/train2014/COCO_train2014_000000000001.jpg",
        "coco2014/val2014/COCO_val2014_000000000002.jpg",
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    dataset = open_dataset("multi30k", tmp_path)
    images = [item.image for item in dataset.captions("fr", "test_2017_mscoco")]
    assert images == ["COCO_train2014_000000000001.jpg", "COCO_val2014_000000000002.jpg"]
    for image in ("00.jpg", "20.jpg", *images):
        assert dataset.picture_path(image).is_file()
    assert dataset.picture_path("no.jpg") == tmp_path.resolve() / "flickr30k-images/no.jpg"


@pytest.mark.parametrize("place", ["multi30k", "multi30k-task2", ".", "multi30k/data"])
@pytest.mark.parametrize("packed", [True, False])
def test_task_2_has_five_captions_a_picture(tmp_path: Path, place: str, packed: bool) -> None:
    folder = tmp_path / place.removesuffix("/data")
    write_captions_of(TASK2, folder, *TASK2.languages, packed=packed)
    if place.endswith("/data"):  # as the paper's code has it: without the folder above
        (folder / "data/task2").rename(folder / "task2")
    dataset = open_dataset("multi30k-task2", tmp_path)
    assert (dataset.languages, dataset.splits) == (("en", "de"), ("train", "val", "test_2016"))
    assert dataset.captions("de", "test") == [
        CaptionedPicture("20.jpg", tuple(f"de test_2016 0 caption {n}" for n in range(1, 6))),
        CaptionedPicture("21.jpg", tuple(f"de test_2016\u2028 1 caption {n}" for n in range(1, 6))),
    ]
    assert len(dataset.captions("en", None)) == 6
    assert open_dataset(folder).name == "multi30k-task2"
    file = folder / "translated_from_en" / "val.1.de"
    file.parent.mkdir()
    file.write_text("eins\nzwei\n")
    (part,) = dataset.translations("en", "de", None)
    assert part.sources[0] == "en val 0 caption 1" and part.texts == ("eins", "zwei")
    (tmp_path / "flickr30k-images").mkdir()
    assert dataset.name == "multi30k-task2"


def test_both_tasks_lie_in_one_folder(tmp_path: Path) -> None:
    make_multi30k(tmp_path / "multi30k")
    make_multi30k(tmp_path / "multi30k", TASK2)
    assert len(open_dataset("multi30k", tmp_path).captions("de", "val")[0].captions) == 1
    assert len(open_dataset("multi30k-task2", tmp_path).captions("de", "val")[0].captions) == 5
    (tmp_path / "multi30k/data/task2/raw/val.3.de.gz").unlink()
    with pytest.raises(XcliptError, match=r"val\.3\.de\.gz: cannot read"):
        open_dataset("multi30k-task2", tmp_path).captions("de", "val")


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
    assert find_coco(folder) == folder / "images"
    for part, name in (
        ("train2014", "COCO_train2014_000000000001.jpg"),
        ("val2014", "COCO_val2014_000000000002.jpg"),
    ):
        file = tmp_path / "COCO" / part / name
        file.parent.mkdir(parents=True)
        file.touch()
    found = find_coco(folder)
    dataset = XtdDataset(folder, found)
    assert found == tmp_path.resolve() / "COCO"
    assert all(dataset.picture_path(item.image).is_file() for item in dataset.captions("en", None))
    (folder / "images").mkdir()
    assert find_coco(folder) == folder / "images"


def test_real_multi30k(data_root: Path) -> None:
    folder = multi30k.find_folder(data_root, TASK1)
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
    dataset = XtdDataset(folder, find_coco(folder))
    for language in dataset.languages:
        captioned = dataset.captions(language, "test")
        assert len(captioned) == 1000
        assert len({item.image for item in captioned}) == 1000
    assert dataset.captions("ja", None)[1] == CaptionedPicture(
        "COCO_train2014_000000061849.jpg", ("マウスの上に猫の手が乗っている",)
    )
    assert dataset.notes == []
