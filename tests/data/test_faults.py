"""Own data with captions without end, and with names that others spell otherwise."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from xclipt.data.formats.collected import MAX_CAPTION
from xclipt.data.formats.lines import read_lines
from xclipt.data.registry import open_dataset
from xclipt.errors import XcliptError


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "captions.tsv"])
def test_a_caption_of_megabytes_is_cut_with_a_remark(tmp_path, make_picture, name):
    make_picture(tmp_path / "a.jpg")
    # A field of delimited text beyond 131,072 characters is refused as it is.
    long = "word " * (2_000_000 if name.endswith(".jsonl") else 20_000)
    line = {
        ".csv": f"image,caption\na.jpg,{long}\na.jpg,short\n",
        ".tsv": f"image\tcaption\na.jpg\t{long}\na.jpg\tshort\n",
        ".jsonl": f'{{"image": "a.jpg", "caption": "{long}"}}\n'
        '{"image": "a.jpg", "caption": "short"}\n',
    }[(tmp_path / name).suffix]
    (tmp_path / name).write_text(line, encoding="utf-8")
    dataset = open_dataset(str(tmp_path / name), caption_lang="en")
    (item,) = dataset.captions("en", None)
    assert item.captions == (long[:MAX_CAPTION].strip(), "short")
    (remark,) = [note for note in dataset.notes if "longer than" in note]
    assert f"{name}: 1 caption is longer than 10,000 characters and cut there, first " in remark


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("suffix", [".JPG", ".Jpg", ".jpg"])
def test_pictures_are_found_in_any_spelling_and_case_of_the_ending(
    tmp_path, make_picture, form, suffix
):
    made = make_picture(tmp_path / f"{unicodedata.normalize(form, 'café')}{suffix}")
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "café")
    (tmp_path / "captions.csv").write_text(f"image,en\n{other}.jpg,a café\n", encoding="utf-8")
    dataset = open_dataset(str(tmp_path / "captions.csv"))
    (item,) = dataset.captions("en", None)
    assert dataset.picture_path(item.image) == made


def test_an_ending_in_its_own_case_comes_first(tmp_path, make_picture):
    make_picture(tmp_path / "a.JPG", "red")
    lower = make_picture(tmp_path / "a.jpg", "blue")
    (tmp_path / "captions.csv").write_text("image,en\na.jpg,a\nb.jpg,b\n", encoding="utf-8")
    dataset = open_dataset(str(tmp_path / "captions.csv"))
    assert dataset.picture_path("a.jpg") == lower
    assert not dataset.picture_path("b.jpg").exists()


def test_a_name_that_is_no_utf_8_is_named(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "a\\udce9.jpg", "caption": "x"}\n')
    with pytest.raises(XcliptError, match=r"line 1: picture name .* is not UTF-8; rename the file"):
        open_dataset(str(tmp_path / "captions.jsonl"), caption_lang="en")


def test_a_picture_beside_its_text_that_is_no_utf_8_is_named(tmp_path, make_picture):
    made = make_picture(tmp_path / "a.jpg")
    made.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("a café", "utf-8")
    with pytest.raises(XcliptError, match=r"caf\\udce9.jpg' is not UTF-8; rename the file"):
        open_dataset(str(tmp_path), caption_lang="en")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train.fr")
    with pytest.raises(XcliptError, match=r"train.fr: cannot read \(not a regular file"):
        read_lines(tmp_path / "train.fr")


def test_json_that_is_too_large_is_refused(tmp_path, make_picture, monkeypatch):
    monkeypatch.setattr("xclipt.data.formats.documents._LARGEST", 1 << 20)
    (tmp_path / "a.json").write_text(json.dumps([{"image": "a.jpg", "fr": "x" * (1 << 20)}]))
    with pytest.raises(XcliptError, match=r"a.json: is JSON of more than 1 MB; JSON lines"):
        open_dataset(tmp_path / "a.json")


def test_json_that_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100 + "]" * 100)
    with pytest.raises(XcliptError, match=r"a.json: is not JSON \(nested more than 50 deep"):
        open_dataset(tmp_path / "a.json")
