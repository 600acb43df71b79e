"""Translations that exist: found beside a data set or in a file, and matched to their captions."""

import gzip

import pytest

from tests.factories.datasets import make_multi30k, make_xtd
from xclipt.data.registry import open_dataset
from xclipt.errors import XcliptError
from xclipt.translation.engines.file import from_file, published


def test_beside_xtd_under_its_own_names(tmp_path):
    dataset = make_xtd(tmp_path)
    assert published(dataset, "ja", "en") is None
    (tmp_path / "translated_to_en").mkdir()
    (tmp_path / "translated_to_en" / "jp.txt").write_text("one\ntwo")
    engine = published(dataset, "ja", "en")
    assert engine.covers("ja one") and not engine.covers("ja three")
    assert engine.translate(["ja two", "ja one"]) == ["two", "one"]
    assert engine.translator.engine == "file"
    assert engine.translator.model == "xtd-translated_to_en"
    assert published(dataset, "en", "ja") is None and published(dataset, "fr", "de") is None
    before = engine.translator.revision
    (tmp_path / "translated_to_en" / "jp.txt").write_text("one\nthree")
    assert published(dataset, "ja", "en").translator.revision != before


def test_beside_multi30k_every_split_that_is_there(tmp_path):
    dataset = make_multi30k(tmp_path)
    folder = tmp_path / "translated_from_en"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"{split}.fr.gz").write_bytes(gzip.compress(b"un\ndeux\n"))
    engine = published(dataset, "en", "fr")
    assert engine.translate(["en train 0", "en val\u2028 1"]) == ["un", "deux"]
    assert not engine.covers("en test_2016_flickr 0")


def test_line_counts_are_checked(tmp_path):
    dataset = make_xtd(tmp_path)
    (tmp_path / "translated_to_en").mkdir()
    (tmp_path / "translated_to_en" / "fr.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(XcliptError, match=r"fr.txt: 3 lines for the 2 captions in test_1k"):
        published(dataset, "fr", "en")
    lines = tmp_path / "mine.txt"
    lines.write_text("one\n")
    with pytest.raises(XcliptError, match=r"file '.*mine.txt': 1 lines for 2 captions"):
        from_file(lines, ["un", "deux"])


def test_lines_and_tables(tmp_path):
    lines = tmp_path / "mine.txt"
    lines.write_text("one\n\none again\n")
    engine = from_file(lines, ["un", "deux", "un"])
    assert engine.translate(["un", "deux"]) == ["one", ""]
    assert "1 texts that are there again" in engine.about
    table = tmp_path / "mine.tsv.gz"
    table.write_bytes(gzip.compress(b"un\tone\n\ndeux\t\ntrois \t three\n"))
    engine = from_file(table, [])
    assert engine.translate(["un", "deux", "trois"]) == ["one", "", "three"]


@pytest.mark.parametrize(
    ("content", "part"), [("un\tone\tx\n", "line 1 has 3 columns"), ("\n", "empty")]
)
def test_bad_tables_are_named(tmp_path, content, part):
    table = tmp_path / "mine.tsv"
    table.write_text(content)
    with pytest.raises(XcliptError, match=part):
        from_file(table, [])
    with pytest.raises(XcliptError, match="no such file"):
        from_file(tmp_path / "other.tsv", [])


@pytest.mark.parametrize(("name", "rows"), [("xtd", 1000), ("multi30k", 31014)])
def test_the_real_ones_cover_every_caption(data_root, name, rows):
    dataset = open_dataset(name, data_root)
    for language in dataset.languages[1:]:
        for source, target in ((language, "en"), ("en", language)):
            engine = published(dataset, source, target)
            captions = [c for item in dataset.captions(source, None) for c in item.captions]
            assert len(captions) == rows
            assert all(map(engine.covers, captions))
