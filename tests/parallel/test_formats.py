"""The same four sentences in every format that parallel sentences come in."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest

from tests.factories.parallel import (
    ENGLISH,
    GERMAN,
    GERMAN_PAIRS,
    PAIRS,
    TELUGU,
    read,
    texts,
)
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError
from xclipt.parallel.formats.arrow import choose_config

ROWS = list(zip(ENGLISH, TELUGU, strict=True))


def lines(*fields: tuple[str, ...] | list[str], separator: str = "\t", end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in zip(*fields, strict=True))


def headed(names: str, *fields: tuple[str, ...], separator: str = "\t") -> str:
    return names + "\n" + lines(*fields, separator=separator)


ID = ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("name", "content", "layout"),
    [
        ("two.tsv", lines(ENGLISH, TELUGU), "columns 1 and 2"),
        ("en-te.txt", lines(ENGLISH, TELUGU), "columns 1 and 2"),
        ("te-en.tsv", lines(TELUGU, ENGLISH), "columns 2 and 1"),
        ("corpus.tel_Telu-eng_Latn.tsv", lines(TELUGU, ENGLISH), "columns 2 and 1"),
        ("two.csv", lines(ENGLISH, TELUGU, separator=","), "columns 1 and 2"),
        ("two.csv", lines(ENGLISH, TELUGU, separator=";"), "columns 1 and 2"),
        ("a.tsv", headed("te\ten", TELUGU, ENGLISH), "columns en and te"),
        ("a.csv", headed("id,te,en", ID, TELUGU, ENGLISH, separator=","), "columns en and te"),
        ("a.csv", headed("tel,eng", TELUGU, ENGLISH, separator=","), "columns eng and tel"),
        ("a.tsv", headed("English\tTelugu", ENGLISH, TELUGU), "columns English and Telugu"),
        (
            "flores.tsv",
            headed("sentence_eng_Latn\tsentence_tel_Telu", ENGLISH, TELUGU),
            "columns sentence_eng_Latn and sentence_tel_Telu",
        ),
        # More languages than are asked for.
        ("a.tsv", headed("de\ten\tte", GERMAN, ENGLISH, TELUGU), "columns en and te"),
        # ManyThings' files are called by the other language first, and have English first.
        ("tel-eng.txt", lines(ENGLISH, TELUGU, ("CC-BY 2.0 (x)",) * 4), "columns 1 and 2"),
        # Tatoeba's own have the numbers of sentences.
        ("pairs.tsv", lines(ID, ENGLISH, ID, TELUGU), "columns 2 and 4"),
        # Pages and a score, as paracrawl has.
        ("s.tsv", lines(("https://a.b/c d",) * 4, ENGLISH, TELUGU, ID), "columns 2 and 3"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_delimited(tmp_path: Path, name: str, content: str, layout: str, packed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    told: list[str] = []
    assert texts(read(tmp_path, path, told=told)) == PAIRS
    assert told == [f"{path.name}: 4 pairs en-te ({layout})"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_tables(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "two.tsv"
    path.write_bytes(lines(ENGLISH, TELUGU, end=end).encode(encoding))
    assert texts(read(tmp_path, path)) == PAIRS


def test_a_code_page_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_bytes(lines(ENGLISH, GERMAN).encode("cp1252"))
    proposal = r"two.tsv: line 1 is not UTF-8 but perhaps .*cp1252 .*`encoding="
    with pytest.raises(UsageError, match=proposal):
        read(tmp_path, path, language="de")
    pairs = read(tmp_path, path, language="de", reading=Reading(encoding="cp1252"))
    assert texts(pairs) == GERMAN_PAIRS


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ("source\ttarget", {"en": "source", "te": "target"}),
        ("source\ttarget", {"te": "target", "en": "source"}),
        ("x\tte", {"en": "x"}),
        (None, {"en": "1", "te": "2"}),
        (None, {"te": "2"}),
    ],
)
def test_columns_that_are_told(tmp_path: Path, names: str | None, columns: dict[str, str]) -> None:
    path = tmp_path / "te-en.tsv"  # what is told counts, not the name
    path.write_text(headed(names, ENGLISH, TELUGU) if names else lines(ENGLISH, TELUGU))
    assert texts(read(tmp_path, path, reading=Reading(columns=columns))) == PAIRS


def test_quotation_marks_in_tab_separated_text_swallow_no_lines(tmp_path: Path) -> None:
    # Far down, after whatever is looked at first: a reader of CSV would take the lines between the
    # two for one field.
    filler = [(f"A dog of number {i} runs.", f"Ein Hund Nummer {i} läuft.") for i in range(4000)]
    odd = [
        ('"Look, a dog.', '"Schau, ein Hund.'),
        ('He said "no" to her.', 'Er sagte „nein" zu ihr.'),
        ("The end of it.", 'Das Ende davon."'),
    ]
    path = tmp_path / "two.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in filler + odd))
    assert texts(read(tmp_path, path, language="de")) == frozenset(filler + odd)


def test_fields_that_are_quoted_lose_their_marks(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_text('"A ""big"" dog runs."\t"Ein ""großer"" Hund läuft."\n')
    assert texts(read(tmp_path, path, language="de")) == {
        ('A "big" dog runs.', 'Ein "großer" Hund läuft.')
    }


def test_commas_are_text_where_tabs_separate(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("A dog, a cat.\tEin Hund, eine Katze.\nOne, two, go.\tEins, zwei, los.\n")
    assert ("One, two, go.", "Eins, zwei, los.") in texts(read(tmp_path, path, language="de"))


def test_words_that_are_codes_of_languages_head_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("dog\tpes\ncat\tkočka\n")  # Dogosé and Persian, to ISO 639
    assert texts(read(tmp_path, path, language="cs")) == {("dog", "pes"), ("cat", "kočka")}
    path.write_text("in\ten\ncat\tgato\n")
    told = Reading(columns={"en": "1", "es": "2"})
    assert texts(read(tmp_path, path, language="es", reading=told)) == {
        ("in", "en"),
        ("cat", "gato"),
    }


def test_a_first_pair_that_is_the_same_word_twice_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_text("Bravo!\tBravo!\nTwo dogs run.\tZwei Hunde laufen.\n")
    assert len(read(tmp_path, path, language="de")) == 2


@pytest.mark.parametrize(
    ("english", "text"),
    [
        ("corpus.en", "corpus.te"),
        ("OpenSubtitles.en-te.en", "OpenSubtitles.en-te.te"),
        ("eng_Latn.dev", "tel_Telu.dev"),
        ("train.en.txt", "train.te.txt"),
        ("en.txt.gz", "te.txt.gz"),
        ("corpus.en_US", "corpus.te_IN"),
        ("corpus.en.gz", "corpus.te.gz"),
        ("corpus.en", "corpus.te.gz"),
    ],
)
def test_two_files_of_lines_by_either_both_or_stem(tmp_path: Path, english: str, text: str) -> None:
    for name, sentences in ((english, ENGLISH), (text, TELUGU)):
        data = "".join(f"{sentence}\r\n" for sentence in sentences).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    ways: list[tuple[str, ...]] = [(english,), (text,), (english, text), (text, english)]
    if english.startswith("corpus."):
        ways.append(("corpus",))
    for names in ways:
        told: list[str] = []
        pairs = read(tmp_path, *(tmp_path / name for name in names), told=told)
        assert texts(pairs) == PAIRS
        assert pairs.source == f"{english}+{text}"
        assert len(told) == 1


def test_only_newlines_end_the_lines_of_aligned_files(tmp_path: Path) -> None:
    # What Python's splitlines and text files take for line ends besides.
    (tmp_path / "c.en").write_bytes("A dog\u2028runs\x85here.\nTwo\rmen\x0bsit.\n".encode())
    (tmp_path / "c.de").write_bytes("Ein Hund läuft hier.\nZwei Männer sitzen.".encode())
    assert texts(read(tmp_path, tmp_path / "c", language="de")) == {
        ("A dog runs here.", "Ein Hund läuft hier."),
        ("Two men sit.", "Zwei Männer sitzen."),
    }


def test_multi30k_as_it_is_published(tmp_path: Path, data_root: Path) -> None:
    told: list[str] = []
    raw = data_root / "multi30k/data/task1/raw"
    pairs = read(tmp_path, raw / "val.en.gz", language="fr", told=told)
    assert told == ["val.en.gz+val.fr.gz: 1,014 pairs en-fr (line by line)"]
    first = gzip.decompress((raw / "val.fr.gz").read_bytes()).decode().split("\n")[0].strip()
    assert first in {pair.text for pair in pairs}


def tmx(units: str, header: str = 'srclang="en"', before: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{before}<tmx version="1.4"><header {header}/>'
        f"<body>{units}</body></tmx>"
    )


def unit(**segments: str) -> str:
    variants = (
        f'<tuv xml:lang="{code.replace("_", "-")}"><seg>{text}</seg></tuv>'
        for code, text in segments.items()
    )
    return f"<tu>{''.join(variants)}</tu>\n"


UNITS = "".join(
    unit(en_US=english, de=german, te_IN=telugu)
    for english, german, telugu in zip(ENGLISH, GERMAN, TELUGU, strict=True)
)


@pytest.mark.parametrize(
    "document",
    [
        tmx(UNITS),
        tmx(UNITS, before='<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'),
        tmx(UNITS.replace("xml:lang", "lang")),
        tmx(UNITS.replace(' xml:lang="en-US"', "")),  # then it is what srclang says
        tmx(UNITS.replace("<tmx", '<tmx xmlns="http://www.lisa.org/tmx14"')),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_translation_memories(tmp_path: Path, document: str, packed: bool) -> None:
    path = tmp_path / ("memory.tmx.gz" if packed else "memory.tmx")
    path.write_bytes(gzip.compress(document.encode()) if packed else document.encode())
    assert texts(read(tmp_path, path)) == PAIRS
    assert texts(read(tmp_path, path, language="de")) == GERMAN_PAIRS


def test_a_translation_memory_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "memory.tmx"
    path.write_bytes(tmx(UNITS).replace("UTF-8", "UTF-16").encode("utf-16"))
    assert texts(read(tmp_path, path)) == PAIRS


def test_a_translation_memory_that_does_not_say_its_encoding(tmp_path: Path) -> None:
    units = "".join(unit(en=english, de=german) for english, german in GERMAN_PAIRS)
    path = tmp_path / "memory.tmx"
    path.write_bytes(tmx(units).encode("cp1252"))
    with pytest.raises(UsageError, match=r"memory.tmx: line \d: broken XML \(not well-formed"):
        read(tmp_path, path, language="de")
    told = Reading(encoding="cp1252")
    assert texts(read(tmp_path, path, language="de", reading=told)) == GERMAN_PAIRS
    with pytest.raises(UsageError, match="encoding 'latin-99': no encoding that Python knows"):
        read(tmp_path, path, language="de", reading=Reading(encoding="latin-99"))


def test_the_mark_up_within_segments_is_left_out(tmp_path: Path) -> None:
    english = 'Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept>,<ph>{1}</ph>please.'
    german = "Bitte <hi>hier</hi> klicken &amp; warten<ut>x</ut>."
    path = tmp_path / "memory.tmx"
    path.write_text(tmx(unit(en=english, de=german)))
    assert texts(read(tmp_path, path, language="de")) == {
        ("Click here, please.", "Bitte hier klicken & warten.")
    }


def test_an_entity_bomb_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n'
    for data in (
        tmx(unit(en="&b;", de="Hund"), before=bomb).encode(),
        tmx(unit(en="&b;", de="Hund"), before=bomb).replace("UTF-8", "UTF-16").encode("utf-16"),
        # Beyond the first block that the parser asks for, and across the border of two.
        tmx("", before=f"<!--{'x' * (1 << 16)}-->{' ' * 9}{bomb}").encode(),
    ):
        path = tmp_path / "bomb.tmx"
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"bomb.tmx: declares XML entities"):
            read(tmp_path, path, language="de")


def jsonl(*entries: dict[str, Any]) -> str:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


@pytest.mark.parametrize(
    ("entry", "columns"),
    [
        (lambda en, te: {"en": en, "te": te, "de": "x"}, {}),
        (lambda en, te: {"id": 7, "text_te": te, "text_en": en}, {}),
        (lambda en, te: {"translation": {"en": en, "te": te}}, {}),
        (lambda en, te: {"translation": {"eng_Latn": en, "tel_Telu": te}, "score": 0.5}, {}),
        (lambda en, te: {"source": en, "target": te}, {"en": "source", "te": "target"}),
    ],
)
def test_json_lines(
    tmp_path: Path, entry: Callable[[str, str], dict[str, Any]], columns: dict[str, str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(*(entry(*row) for row in ROWS)))
    assert texts(read(tmp_path, path, reading=Reading(columns=columns))) == PAIRS
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert texts(read(tmp_path, packed, reading=Reading(columns=columns))) == PAIRS


def test_parquet_and_arrow(tmp_path: Path) -> None:
    nested = datasets.Dataset.from_dict(
        {"translation": [{"en": english, "te": telugu} for english, telugu in ROWS]}
    )
    nested.to_parquet(tmp_path / "nested.parquet")
    flat = datasets.Dataset.from_dict({"te": TELUGU, "en": ENGLISH, "n": [1, 2, 3, 4]})
    flat.to_parquet(tmp_path / "flat.parquet")
    flat.save_to_disk(tmp_path / "saved")
    told: list[str] = []
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    whole = pyarrow.table({"en": ENGLISH, "te": TELUGU})
    with pyarrow.ipc.new_file(tmp_path / "file.arrow", whole.schema) as writer:
        writer.write_table(whole)
    paths = (tmp_path / "nested.parquet", tmp_path / "flat.parquet", arrow, tmp_path / "file.arrow")
    for path in paths:
        assert texts(read(tmp_path, path, told=told)) == PAIRS
    assert told[0] == ("nested.parquet: 4 pairs en-te (columns translation.en and translation.te)")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], Any]:
    """A hub that is a dictionary: by identifier and configuration."""
    shelf: dict[tuple[str, ...], Any] = {}

    def configs(identifier: str) -> list[str]:
        found = [key[1] if len(key) > 1 else "default" for key in shelf if key[0] == identifier]
        if not found:
            raise datasets.exceptions.DatasetNotFoundError(identifier)
        return found

    monkeypatch.setattr(datasets, "get_dataset_config_names", configs)
    monkeypatch.setattr(datasets, "load_dataset", lambda *key: shelf[key])
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return shelf


def test_a_data_set_of_the_hub(tmp_path: Path, hub: dict[tuple[str, ...], Any]) -> None:
    def table(rows: list[tuple[str, str]], language: str) -> datasets.Dataset:
        pairs = [{"en": english, language: text} for english, text in rows]
        return datasets.Dataset.from_dict({"translation": pairs})

    german = list(zip(ENGLISH, GERMAN, strict=True))
    # The text of other splits is not trained on.
    hub["some/opus", "en-te"] = {"train": table(ROWS, "te"), "test": table(german, "te")}
    hub["some/opus", "de-en"] = {"train": table(german, "de")}
    assert texts(read(tmp_path, "some/opus")) == PAIRS
    pairs = read(tmp_path, "some/opus", language="de")
    assert texts(pairs) == GERMAN_PAIRS
    assert pairs.source == "some/opus/de-en"
    with pytest.raises(UsageError, match=r"some/opus: has en-te, de-en and others; .* French"):
        read(tmp_path, "some/opus", language="fr")
    with pytest.raises(UsageError, match="no/such: no such folder here, and no data set"):
        read(tmp_path, "no/such")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["default"], None),
        (["en-te", "en-fr"], "en-te"),
        (["fr-en", "te-en"], "te-en"),
        (["eng_Latn-tel_Telu", "eng_Latn-fra_Latn"], "eng_Latn-tel_Telu"),
        (["fr", "te"], "te"),
        (["eng-tel", "eng-fra"], "eng-tel"),
    ],
)
def test_configurations_of_the_hub(names: list[str], chosen: str | None) -> None:
    assert choose_config(names, "te", "x/y") == chosen


def test_a_configuration_that_nothing_tells() -> None:
    with pytest.raises(XcliptError, match="x/y: has en-te and te-en"):
        choose_config(["en-te", "te-en"], "te", "x/y")


def test_several_sources_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(lines(ENGLISH[:3], TELUGU[:3]))
    (tmp_path / "b.jsonl").write_text(jsonl(*({"en": e, "te": t} for e, t in ROWS[2:])))
    told: list[str] = []
    pairs = read(tmp_path, tmp_path / "a.tsv", tmp_path / "b.jsonl", told=told)
    assert texts(pairs) == PAIRS
    assert pairs.source == "a.tsv,b.jsonl"
    assert told == [
        "a.tsv: 3 pairs en-te (columns 1 and 2)",
        "b.jsonl: 2 pairs en-te (columns en and te)",
        "a.tsv,b.jsonl: 4 pairs en-te (together); left out: 1 duplicate",
    ]


def test_sources_that_are_tied_to_a_language(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(lines(ENGLISH, TELUGU))
    (tmp_path / "b.tsv").write_text(lines(ENGLISH, GERMAN))
    both = (f"te={tmp_path / 'a.tsv'}", f"deu={tmp_path / 'b.tsv'}")
    assert texts(read(tmp_path, *both)) == PAIRS
    assert texts(read(tmp_path, *both, language="de")) == GERMAN_PAIRS
    with pytest.raises(UsageError, match="no source is for French"):
        read(tmp_path, *both, language="fr")
    with pytest.raises(UsageError, match="English is the partner in every source"):
        read(tmp_path, f"en={tmp_path / 'a.tsv'}")
