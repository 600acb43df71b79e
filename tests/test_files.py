"""Files are there whole or not at all."""

import os
import subprocess

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from xclipt.errors import XcliptError
from xclipt.files import (
    SUMS,
    check_sums,
    placing,
    replacing,
    staged,
    sweep,
    write_sums,
    write_text,
    write_with,
)


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


FULL = "Error while serializing: I/O error: No space left (os error 28)"


@pytest.mark.parametrize("write", [replacing, staged, placing])
@pytest.mark.parametrize("error", [SafetensorError(FULL), OSError(28, "No space left")])
def test_a_full_disk_is_one_line_whoever_meets_it(tmp_path, write, error):
    path = tmp_path / "a.safetensors"
    with pytest.raises(XcliptError) as caught, write(path):
        raise error
    assert str(caught.value) == f"{path}: cannot write (No space left)"
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_is_really_full(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        path = tmp_path / "a.safetensors"
        with pytest.raises(XcliptError) as caught:
            write_with(path, lambda aside: save_file({"a": torch.zeros(100_000)}, aside))
        assert str(caught.value).startswith(f"{path}: cannot write (No space left")
        assert not any(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_libraries_that_write_by_a_name_of_their_own_leave_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    seen = []

    def write(aside):
        save_file({"a": torch.zeros(2)}, aside)
        sweep(tmp_path)  # another process: what is being written is spared
        seen.extend(entry.name for entry in tmp_path.iterdir())

    write_with(path, write)
    assert len(seen) == 1 and seen[0].startswith(".a.safetensors.")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_a_kill_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    (tmp_path / ".report.html.0123abcd.tmp").write_text("half")
    (tmp_path / ".another.html.0123abcd.tmp").write_text("of another")
    write_text(tmp_path / "report.html", "whole")
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == [".another.html.0123abcd.tmp", "report.html"]


def test_a_staged_folder_takes_the_place_of_what_was_listed(tmp_path):
    folder = tmp_path / "export"
    for name in ("old", "new"):
        with staged(folder) as aside:
            (aside / "settings").write_text(name)
            (aside / f"weights-{name}").write_text(name)
            write_sums(aside, [aside / "settings", aside / f"weights-{name}"])
        (folder / "notes").write_text("by hand")
    assert {path.name for path in folder.iterdir()} == {
        *("settings", "weights-new", SUMS, "notes"),
    }
    assert check_sums(folder) == "" and (folder / "settings").read_text() == "new"


def test_folders_that_were_made_in_vain_are_gone_again(tmp_path):
    with pytest.raises(RuntimeError), staged(tmp_path / "a/b/c"):
        raise RuntimeError
    assert not any(tmp_path.iterdir())
