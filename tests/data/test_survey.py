"""What is counted of a data set before anyone trains."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.factories.datasets import caption_row, write_captions
from tests.factories.running import run_xclipt
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.registry import load_caption_tokenizer
from xclipt.data.registry import open_dataset
from xclipt.data.survey import survey

LONG = "ein sehr langer Satz über einen Hund " * 30


@pytest.fixture
def folder(tmp_path: Path, make_picture: Callable[..., Path]) -> Path:
    """Six pictures: one missing, one broken, one a copy in its own split, one in another."""
    mine = tmp_path / "mine"
    splits = {"a": "train", "b": "train", "c": "test", "d": "train", "e": "test", "f": "test"}
    write_captions(
        mine, "en", *(caption_row(f"{k}.png", f"a {k}", split=s) for k, s in splits.items())
    )
    write_captions(
        mine,
        "de",
        caption_row("a.png", "eins", "eins"),
        caption_row("b.png", "zwei", LONG),
        caption_row("g.png", "eins"),
    )
    for name in "abcg":
        make_picture(mine / "images" / f"{name}.png", "red" if name != "g" else "blue")
    (mine / "images" / "d.png").write_text("<html>")
    return mine


def test_what_is_counted(folder: Path) -> None:
    def longer(texts: Sequence[str]) -> list[int]:
        return [i for i, text in enumerate(texts) if len(text) > 100]

    found = survey(open_dataset(folder), too_long=longer)
    english, german = found.languages
    assert (english.language, english.pictures, english.captions) == ("en", 6, 6)
    assert (german.pictures, german.captions, german.with_english) == (3, 5, 2)
    assert (german.repeated, german.too_long) == (2, 1)
    assert found.splits == {"train": 3, "test": 3}
    pictures = found.pictures
    assert (pictures.named, pictures.usable) == (7, 4)
    assert pictures.missing == ("e.png", "f.png")
    assert [one.path.name for one in pictures.broken] == ["d.png"]
    assert (pictures.copies, pictures.across) == (2, 1)
    assert [example.image for example in found.examples] == ["a.png", "c.png", "g.png"]
    assert found.examples[0].captions == {"en": "a a", "de": "eins"}
    assert json.loads(json.dumps(found.as_json()))["pictures"]["copies_across_splits"] == 1
    assert survey(open_dataset(folder)).languages[0].too_long is None


def test_the_tokenizer_alone_cuts_as_the_backbone_does(backbone: Backbone) -> None:
    tokenizer, room = load_caption_tokenizer("builtin")
    texts = [LONG, "ein Hund", "a dog " * 61, "a dog " * 62, "a dog " * 63, "a dog " * 64]
    assert tokenizer.longer(texts, room) == backbone.cut(texts)
    assert tokenizer(texts) == backbone.tokenizer(texts)


def test_the_command_at_80_columns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_xclipt("data", folder)
    assert run.code == 0, run.err
    lines = run.out.splitlines()
    assert max(map(len, (line.rstrip() for line in lines if str(folder) not in line))) <= 80
    assert lines[0].strip() == "mine: 7 pictures"
    rows = [line.split() for line in lines if line.strip()[:2] in ("en", "de")][:2]
    assert rows == [["en", "6", "6", "6", "0", "0"], ["de", "3", "2", "5", "2", "1"]]
    for said in (
        "splits    train 3, test 3",
        f"pictures  4 of 7 can be used, in {folder}/images",
        "2 missing (e.png, f.png)",
        "1 broken (d.png: not an image; replace or remove it)",
        "2 are copies of others, byte for byte, 1 of them across splits",
    ):
        assert f"{said}\n" in run.out
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_as_json_says_what_was_understood(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    make_picture(tmp_path / "a.jpg")
    path = tmp_path / "t.csv"
    path.write_bytes("Bild;Überschrift;no\na.jpg;ein Käfer;1\n".encode("cp1252"))
    run = run_xclipt("data", path, "--json")
    assert (run.code, run.out) == (2, "")
    assert "cp1252 ('Bild;Überschrift;')" in run.err and "--encoding cp1252 takes" in run.err
    columns = ("--columns", "image=Bild,de=Überschrift")
    run = run_xclipt("data", path, "--encoding", "cp1252", *columns, "--json")
    assert run.code == 0, run.err
    document = run.json()
    assert document["remarks"] == [
        "t.csv: 1 picture, captions in de (column Überschrift), no split; "
        "separated by semicolons; not read: no"
    ]
    assert document["examples"][0]["captions"] == {"de": "ein Käfer"}
    assert document["pictures"]["usable"] == 1
