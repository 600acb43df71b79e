import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories.datasets import caption_row, make_multi30k, make_xtd, write_captions
from xclipt.data.formats.folder import FolderDataset
from xclipt.data.formats.table import TableDataset
from xclipt.data.pictures import require_pictures
from xclipt.data.registry import KNOWN, open_dataset
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.data.sets.multi30k import MULTI30K_TASK2, Multi30kDataset
from xclipt.data.sets.xtd import XtdDataset
from xclipt.errors import XcliptError


def captioned(folder: Path) -> Path:
    return write_captions(folder, "en", caption_row("a.jpg", "x")).parent


def test_emoji_needs_nothing(tmp_path: Path) -> None:
    assert isinstance(open_dataset("emoji"), EmojiDataset)
    with pytest.raises(XcliptError, match="'emoji' has no public address"):
        open_dataset("emoji", tmp_path, download=True)
    with pytest.raises(XcliptError, match="download: `data_dir` names the folder"):
        open_dataset("xtd", download=True)


def test_known_names_are_found_in_the_root_or_as_it(tmp_path: Path) -> None:
    for name, make, kind in (
        ("xtd", make_xtd, XtdDataset),
        ("multi30k", make_multi30k, Multi30kDataset),
    ):
        folder = tmp_path / name
        make(folder)
        for named, root in ((name, tmp_path), (name, str(folder)), (folder, None)):
            dataset = open_dataset(named, root)
            assert isinstance(dataset, kind)
            assert dataset.folder == folder


@pytest.mark.parametrize("name", ["multi30k", "xtd"])
def test_known_sets_that_are_not_on_disk(tmp_path: Path, name: str) -> None:
    for root in (None, tmp_path):
        with pytest.raises(XcliptError) as caught:
            open_dataset(name, root)
        known = next(known for known in KNOWN if known.name == name)
        where = f"{root or 'DIR'}/{name}"
        for part in (known.published_as, known.needs, "`download=True`", where):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)


def test_folders_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_picture: Callable[..., Path]
) -> None:
    root = tmp_path / "root"
    folder = captioned(root / "mine")
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
    with pytest.raises(XcliptError, match=r"may end in \.csv, \.json"):
        open_dataset(str(make_picture(tmp_path / "x.png")), root)
    with pytest.raises(XcliptError, match=r"dataset 'u\.csv': no such file"):
        open_dataset("u.csv", root)
    os.mkfifo("pipe.csv")
    with pytest.raises(XcliptError, match=r"dataset 'pipe\.csv': is a device or pipe"):
        open_dataset("pipe.csv", root)


@pytest.mark.parametrize(
    "name", ["nothing", "", " ", "a\0b", "x" * 5000, "~nobody-here/x", "a/b/c"]
)
def test_unknown_names_list_what_there_is(tmp_path: Path, name: str) -> None:
    captioned(tmp_path / "mine")
    (tmp_path / "t.csv").touch()
    (tmp_path / "photographs").mkdir()
    with pytest.raises(
        XcliptError, match="known are emoji, multi30k, multi30k-task2, xtd"
    ) as caught:
        open_dataset(name, tmp_path)
    assert str(caught.value).endswith(f"{tmp_path} has mine, t.csv")
    with pytest.raises(XcliptError, match="`data_dir` names where others lie"):
        open_dataset(name, None)
    with pytest.raises(XcliptError, match=r"no readable `data_dir=.*/not`"):
        open_dataset(name, tmp_path / "not")


def test_rows_agree_with_the_data_sets(data_root: Path) -> None:
    for known in KNOWN:
        if known is MULTI30K_TASK2:
            continue  # not there
        dataset = open_dataset(known.name, data_root)
        assert dataset.name == known.name
        assert dataset.languages == known.languages


def test_real_photographs_that_are_missing(data_root: Path) -> None:
    dataset = open_dataset("multi30k", data_root)
    items = dataset.captions("de", "val")
    with pytest.raises(XcliptError, match=r"800 of 1,014 pictures are missing.*`allow_missing"):
        require_pictures(dataset, items, allow_missing=False)
    assert len(require_pictures(dataset, items, allow_missing=True)) == 214
    dataset = open_dataset("xtd", data_root)
    with pytest.raises(XcliptError, match="all 1,000 pictures are missing"):
        require_pictures(dataset, dataset.captions("en", "test"), allow_missing=True)
