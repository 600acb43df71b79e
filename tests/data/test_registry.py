from collections.abc import Callable
from pathlib import Path

import pytest

from xclipt.data import xtd
from xclipt.data.emoji import EmojiDataset
from xclipt.data.folder import FolderDataset
from xclipt.data.multi30k import Multi30kDataset
from xclipt.data.pictures import require_pictures
from xclipt.data.registry import KNOWN, open_dataset
from xclipt.data.table import TableDataset
from xclipt.data.xtd import XtdDataset
from xclipt.errors import XcliptError


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "captions.en.jsonl").write_text('{"image": "a.jpg", "captions": ["x"]}\n')
    return path


def make_xtd(path: Path) -> Path:
    (path / "XTD10").mkdir(parents=True)
    (path / xtd.PICTURES_FILE).write_text("a.jpg\n")
    return path


def test_emoji_needs_nothing() -> None:
    assert isinstance(open_dataset("emoji", None), EmojiDataset)


def test_known_names_are_found_in_the_root_or_as_it(tmp_path: Path) -> None:
    folder = make_xtd(tmp_path / "xtd")
    for name, root in (("xtd", tmp_path), ("xtd", folder), (str(folder), None)):
        dataset = open_dataset(name, root)
        assert isinstance(dataset, XtdDataset)
        assert dataset.folder == folder
    (tmp_path / "multi30k/data/task1/raw").mkdir(parents=True)
    assert isinstance(open_dataset("multi30k", tmp_path), Multi30kDataset)


@pytest.mark.parametrize("name", ["multi30k", "xtd"])
def test_known_sets_that_are_not_on_disk(tmp_path: Path, name: str) -> None:
    for root in (None, tmp_path):
        with pytest.raises(XcliptError) as caught:
            open_dataset(name, root)
        card = next(card for card in KNOWN if card.name == name)
        for part in (card.published_as, card.needs, "--download", f"{root or 'DIR'}/{name}"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)


def test_folders_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_picture: Callable[..., Path]
) -> None:
    root = tmp_path / "root"
    folder = make_folder(root / "mine")
    (root / "t.csv").write_text("image,en\na.jpg,x\n")
    monkeypatch.chdir(tmp_path)
    for name, data_dir in ((str(folder), None), ("root/mine", None), ("mine", root)):
        assert isinstance(open_dataset(name, data_dir), FolderDataset)
    for name, data_dir in (("root/t.csv", None), ("t.csv", root)):
        assert isinstance(open_dataset(name, data_dir), TableDataset)
    (tmp_path / "mine").mkdir()
    assert isinstance(open_dataset("mine", root), FolderDataset)
    with pytest.raises(XcliptError, match=r"mine: no captions\.LANG\.jsonl"):
        open_dataset("mine", None)
    with pytest.raises(XcliptError, match=r"neither \.csv nor \.tsv"):
        open_dataset(str(make_picture(tmp_path / "x.png")), root)
    with pytest.raises(XcliptError, match=r"--dataset u\.csv: no such file"):
        open_dataset("u.csv", root)


@pytest.mark.parametrize(
    "name", ["nothing", "", " ", "a\0b", "x" * 5000, "~nobody-here/x", "a/b/c"]
)
def test_unknown_names_list_what_there_is(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "mine")
    (tmp_path / "t.csv").touch()
    (tmp_path / "photographs").mkdir()
    with pytest.raises(XcliptError, match="known are emoji, multi30k, xtd") as caught:
        open_dataset(name, tmp_path)
    assert str(caught.value).endswith(f"{tmp_path} has mine, t.csv")
    with pytest.raises(XcliptError, match="--data-dir"):
        open_dataset(name, None)
    with pytest.raises(XcliptError, match="no readable --data-dir"):
        open_dataset(name, tmp_path / "not")


def test_cards_agree_with_the_data_sets(data_root: Path) -> None:
    for card in KNOWN:
        dataset = open_dataset(card.name, data_root)
        assert dataset.name == card.name
        assert dataset.languages == card.languages


def test_real_photographs_that_are_missing(data_root: Path) -> None:
    dataset = open_dataset("multi30k", data_root)
    items = dataset.captions("de", "val")
    with pytest.raises(XcliptError, match=r"800 of 1,014 pictures are missing.*--allow-missing"):
        require_pictures(dataset, items, allow_missing=False)
    assert len(require_pictures(dataset, items, allow_missing=True)) == 214
    dataset = open_dataset("xtd", data_root)
    with pytest.raises(XcliptError, match="all 1,000 pictures are missing"):
        require_pictures(dataset, dataset.captions("en", "test"), allow_missing=True)
