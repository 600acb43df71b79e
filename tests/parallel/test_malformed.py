"""Whatever is wrong with a source is one line that names it, its place and the remedy."""

import gzip
import json
import os
from pathlib import Path

import pytest

from tests.factories.parallel import ENGLISH, GERMAN, PAIRS, TELUGU, read
from tests.parallel.test_formats import UNITS, headed, lines, tmx
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError

GOOD = lines(ENGLISH, TELUGU)
MANY = "".join(f"A dog of number {i} runs.\tకుక్క సంఖ్య {i} పరుగెడుతుంది.\n" for i in range(3000))
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04" + bytes(range(256))
EN = '{"en": "A dog runs.", "te": "కుక్క పరుగెడుతుంది."}\n'


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.tsv", b"", "a.tsv: empty"),
        ("a.tsv", b"\n \n", "a.tsv: empty"),
        ("a.tsv.gz", gzip.compress(b"", mtime=0), "a.tsv.gz: empty"),
        ("a.jsonl", b"", "a.jsonl: empty"),
        ("a.tmx", b"", "a.tmx: line 1: broken XML (no element found)"),
        ("a.tsv", "".join(f"{line}\n" for line in TELUGU).encode(), "a.tsv: has one column"),
        ("a.tsv.gz", gzip.compress(MANY.encode(), mtime=0)[:-2000], "a.tsv.gz: damaged gzip file"),
        ("a.tsv.gz", MANY.encode(), "a.tsv.gz: damaged gzip file (Not a gzipped file"),
        (
            "a.tmx.gz",
            gzip.compress(tmx(UNITS).encode(), mtime=0)[:-30],
            "a.tmx.gz: damaged gzip file",
        ),
        ("a.tsv", PNG, "a.tsv: is no text (it holds zero bytes)"),
        ("a.jsonl", PNG, "a.jsonl: is no text"),
        ("a.tmx", PNG, "a.tmx: line 1: broken XML"),
        ("a.parquet", PNG, "a.parquet: pyarrow cannot read it"),
        ("a.arrow", PNG, "a.arrow: pyarrow cannot read it"),
        ("a.tsv", GOOD.encode("utf-16-le"), "a.tsv: is UTF-16 without a byte order mark"),
        (
            "a.tsv",
            (MANY + "A dog.\t\xff\n").encode("latin-1", "replace"),
            "a.tsv: line 3001 is not",
        ),
        ("a.tmx", tmx(UNITS).encode()[:700], "a.tmx: line 4: broken XML"),
        ("a.tmx", tmx(UNITS).replace("</tu>", "", 1).encode(), "broken XML (mismatched tag)"),
        ("a.tmx", tmx(UNITS).replace("A dog", "A &dog;").encode(), "(undefined entity)"),
        ("a.tmx", tmx(UNITS).replace("UTF-8", "UTF-9").encode(), "a.tmx: "),
        ("a.tmx", b"<html><body/></html>", "is XML but no TMX (it begins with <html>)"),
        ("a.tmx", tmx("").encode(), "and Telugu; it has no units of translation"),
        ("a.tmx", tmx(UNITS.replace("te-IN", "fr")).encode(), "and Telugu; it has en, de, fr"),
        ("a.tmx", tmx("<x>" * 99 + "</x>" * 99).encode(), "is no TMX (elements lie 50 deep)"),
        ("a.jsonl", EN.encode() * 300 + b'{"en": "A do', "a.jsonl: line 301 is not JSON"),
        ("a.jsonl", EN.encode() * 300 + b"[1]", "a.jsonl: line 301: not an object"),
        ("a.jsonl", EN.encode() * 300 + b'{"en": ["x"], "te": "y"}', "line 301: 'en' holds list"),
        ("a.jsonl", b'{"te": "x", "fr": "y"}', "has no column of English, the partner of every"),
        ("a.jsonl", b'{"en": "x", "fr": "y"}', "no column of Telugu; it has en, fr; `columns=te="),
        ("a.tsv", headed("en\tfr", ENGLISH, GERMAN).encode(), "no column of Telugu; it has en, fr"),
        ("a.tsv", headed("English\tFrench", ENGLISH, GERMAN).encode(), "it has English, French;"),
        (
            "a.tsv",
            headed("source\ten", TELUGU, ENGLISH).encode(),
            "it has source, en; `columns=te=",
        ),
        ("a.tsv", headed("te\tfr", TELUGU, GERMAN).encode(), "no column of English"),
        (
            "a.csv",
            headed("source,target", TELUGU, GERMAN, separator=",").encode(),
            "nothing says which of its columns source and target is English; "
            "`columns=en=source,te=target` does",
        ),
        (
            "a.tsv",
            headed("en\tte_IN\tte_Latn", ENGLISH, TELUGU, TELUGU).encode(),
            "te_IN and te_Latn are all Telugu; `columns=te=te_IN` says which",
        ),
        (
            "a.tsv",
            lines(ENGLISH, GERMAN, TELUGU).encode(),
            "has 3 columns and no header, and which two are the sentences cannot be told; "
            "`columns=en=1,te=2` says it",
        ),
        ("a.pdf", b"x", "a.pdf': a file of another kind; it may end in .tsv, .csv"),
        ("c.te", "\n".join(TELUGU).encode(), "c.te: no file in English beside it"),
        ("c.en", "\n".join(ENGLISH).encode(), "c.en: no file in Telugu beside it"),
    ],
)
def test_content(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    _refused(tmp_path, path, says)


def _refused(tmp_path: Path, source: object, says: str, **request: object) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, source, **request)  # type: ignore[arg-type]
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert Path(str(source)).name in message
    # Nothing half-written, nor the folders for it.
    assert not (tmp_path / "artifacts").exists() or not list((tmp_path / "artifacts").iterdir())


def test_files_that_are_not_equally_long(tmp_path: Path) -> None:
    (tmp_path / "c.en").write_text("A dog runs.\n" * 1200)
    (tmp_path / "c.te").write_text("కుక్క పరుగెడుతుంది.\n" * 1199)
    for source in (tmp_path / "c", tmp_path / "c.en", tmp_path / "c.te"):
        _refused(tmp_path, source, "c.en has 1,200 lines and c.te 1,199: line k of")


def test_the_file_that_is_not_text_is_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.en").write_text("".join(f"{line}\n" for line in ENGLISH))
    (tmp_path / "c.de").write_bytes("".join(f"{line}\n" for line in GERMAN).encode("latin-1"))
    with pytest.raises(UsageError, match=r"c.de: line 1 is not UTF-8"):
        read(tmp_path, tmp_path / "c.en", language="de")
    (tmp_path / "c.en").rename(tmp_path / "d.de")
    (tmp_path / "c.de").rename(tmp_path / "d.en")
    with pytest.raises(UsageError, match=r"d.en: line 1 is not UTF-8"):
        read(tmp_path, tmp_path / "d.de", language="de")


def test_places_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.tsv").mkdir()
    (tmp_path / "loop.tsv").symlink_to(tmp_path / "loop.tsv")
    os.mkfifo(tmp_path / "pipe.tsv")  # whoever opened it would wait for ever
    for name, says in (
        ("folder.tsv", "is a folder; name its files"),
        ("loop.tsv", "is a link that leads nowhere"),
        ("pipe.tsv", "is a device or pipe"),
        ("missing.tsv", "no such file"),
        ("missing", "no such file"),
    ):
        _refused(tmp_path, tmp_path / name, says)
    for odd in ("", "a\0b.tsv", "~nobody-of-this-name/x.tsv", "x" * 5000, "a/b.tsv"):
        with pytest.raises(UsageError, match="no such file"):
            read(tmp_path, odd)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": "en"}, "columns 'image=en': parallel sentences have no image"),
        ({"en": "nope"}, "columns 'en=nope': .*a.tsv has no such column; it has en, te"),
        ({"te": "9"}, "columns 'te=9'"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, columns: dict[str, str], says: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(headed("en\tte", ENGLISH, TELUGU))
    with pytest.raises(UsageError, match=says):
        read(tmp_path, path, reading=Reading(columns=columns))


def test_numbers_of_columns_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(GOOD)
    with pytest.raises(UsageError, match=r"columns 'te=3': .*a.tsv has 2 columns"):
        read(tmp_path, path, reading=Reading(columns={"en": "1", "te": "3"}))


def test_what_has_no_use(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(GOOD)
    (tmp_path / "a.tmx").write_text(tmp_path.name)
    with pytest.raises(UsageError, match="caption_lang 'te': parallel sentences"):
        read(tmp_path, tmp_path / "a.tsv", reading=Reading(caption_lang="te"))
    with pytest.raises(UsageError, match=r"columns 'en=a': .*a translation memory needs none"):
        read(tmp_path, tmp_path / "a.tmx", reading=Reading(columns={"en": "a"}))
    with pytest.raises(UsageError, match="language 'en': English is the partner"):
        read(tmp_path, tmp_path / "a.tsv", language="en")


def test_columns_that_are_exchanged(tmp_path: Path) -> None:
    two, named, memory = (tmp_path / n for n in ("two.tsv", "named.jsonl", "memory.tmx"))
    two.write_text(lines(TELUGU, ENGLISH))
    entries = [{"en": telugu, "te": english} for english, telugu in PAIRS]
    named.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    _refused(tmp_path, two, "what was taken for English is Telugu")
    _refused(tmp_path, two, "`columns=en=2,te=1` exchanges them")
    _refused(tmp_path, named, "`columns=en=te,te=en` exchanges them")
    pairs = read(tmp_path, two, reading=Reading(columns={"en": "2", "te": "1"}))
    assert {pair.english for pair in pairs} == set(ENGLISH)
    memory.write_text(tmx(UNITS).replace("en-US", "te").replace("te-IN", "en"))
    with pytest.raises(UsageError, match=r"memory.tmx: its sides are exchanged: .*xml:lang"):
        read(tmp_path, memory)


def test_columns_that_are_exchanged_within_one_script(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_text(lines(GERMAN, ENGLISH))
    says = "taken for English is German, and the other way round; `columns=en=2,de=1`"
    _refused(tmp_path, path, says, language="de")


@pytest.mark.usefixtures("without_detection")
def test_without_the_extra_nobody_can_tell_that_they_are_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_text(lines(GERMAN, ENGLISH))
    assert len(read(tmp_path, path, language="de")) == 4


def test_another_language_altogether(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(lines(ENGLISH, GERMAN))
    _refused(tmp_path, path, "a.tsv: is not in English and Telugu: 4 of 4 pairs are in another")


def test_a_source_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xclipt.parallel import store

    path = tmp_path / "a.tsv"
    path.write_text(GOOD)

    class Appending(store.Screen):
        def require_fit(self, name: str, exchanged: str) -> None:
            path.write_text(GOOD + GOOD)

    monkeypatch.setattr(store, "Screen", Appending)
    with pytest.raises(UsageError, match=r"a.tsv: was changed while it was read"):
        read(tmp_path, path)
