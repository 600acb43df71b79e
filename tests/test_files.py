"""Files are there whole or not at all."""

import os

import pytest

from xclipt.errors import XcliptError
from xclipt.files import placing, replacing, sweep, write_text


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "één")
    write_text(path, "twee")
    assert path.read_text(encoding="utf-8") == "twee"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_mode_follows_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "file.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o644


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(XcliptError, match=r"file/below\.txt: cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "folder"
    with placing(folder) as aside:
        (aside / "a").write_text("a")
        sweep(folder.parent)  # the living are spared
        assert not folder.exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["folder"]
    assert (folder / "a").read_text() == "a"
    with pytest.raises(RuntimeError), placing(tmp_path / "other") as aside:
        (aside / "a").write_text("half")
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_the_quicker_of_two_writers_of_a_folder_stays(tmp_path):
    folder = tmp_path / "folder"
    with placing(folder) as slower:
        (slower / "a").write_text("slower")
        with placing(folder) as quicker:
            (quicker / "a").write_text("quicker")
    assert (folder / "a").read_text() == "quicker"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_was_left_aside_is_swept(tmp_path):
    (tmp_path / ".folder.x.tmp" / "below").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_a_folder_where_a_file_is_cannot_be_placed(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(XcliptError, match="folder: cannot write"), placing(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder").read_text() == "a file"
