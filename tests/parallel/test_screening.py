"""Which pairs are left out, why, and how the user hears of it."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from tests.factories.parallel import ENGLISH, TELUGU, read, texts
from xclipt.errors import UsageError
from xclipt.parallel.screening import MOST_CHARACTERS, tidy

DOG, KUKKA = ENGLISH[0], TELUGU[0]


@pytest.mark.parametrize(
    ("english", "text", "reason"),
    [
        ("", KUKKA, "empty"),
        (DOG, " \u3000\u00a0", "empty"),
        (DOG, DOG.upper(), "copied"),
        (DOG, "ఒక", "length"),
        (DOG, "Ek kukka manchulo parugeduthundi", "script"),
        ("Одна собака бежит по снегу.", KUKKA, "script"),
        (DOG, "కుక్క మంచు కుక్క మంచు కుక్క మంచు", "repeated"),
        ("12:30", "12:30", "wordless"),
        (DOG, "...", "wordless"),
        (DOG, KUKKA.replace("మంచు", "\ufffd\ufffd"), "damaged"),
        ("A dog\0 runs.", KUKKA, "damaged"),
        (DOG * 200, KUKKA * 200, "long"),
    ],
)
def test_reasons(tmp_path: Path, english: str, text: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = [(english, text), *zip(ENGLISH[1:], TELUGU[1:], strict=True)]
    path.write_text("".join(json.dumps({"en": en, "te": te}) + "\n" for en, te in rows))
    pairs = read(tmp_path, path)
    assert pairs.left_out == {reason: 1}
    assert texts(pairs) == frozenset(rows[1:])


def test_half_a_character_of_json_is_damaged_text_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = {"en": DOG, "te": KUKKA}
    path.write_text(json.dumps(good) + "\n" + '{"en": "A \\ud83d dog", "te": "కుక్క"}\n')
    assert read(tmp_path, path).left_out == {"damaged": 1}


def test_all_is_counted_and_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "en-te.tsv"
    rows = [
        *zip(ENGLISH, TELUGU, strict=True),
        *[(DOG, KUKKA)] * 2,
        (f"  {DOG}", f"{KUKKA} "),
        ("", KUKKA),
        (ENGLISH[1], ENGLISH[1]),
    ]
    path.write_text("".join(f"{en}\t{te}\n" for en, te in rows) + "one column\na\tb\tc\n")
    told: list[str] = []
    pairs = read(tmp_path, path, told=told)
    assert told == [
        "en-te.tsv: 4 pairs en-te (columns 1 and 2); left out: 2 with other columns, 1 empty, "
        "1 copied, 3 duplicates"
    ]
    assert len(pairs) + sum(pairs.left_out.values()) == len(rows) + 2


def test_white_space_and_composition_make_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    entries = [
        {"en": "A dog runs.", "de": "Ein Hund läuft."},
        {"en": " A  dog\u00a0runs.\n", "de": "Ein\tHund la\u0308uft."},
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    pairs = read(tmp_path, path, language="de")
    assert texts(pairs) == {("A dog runs.", "Ein Hund läuft.")}
    assert pairs.left_out == {"duplicates": 1}


def test_tidy_leaves_no_character_that_ends_a_line_or_a_field() -> None:
    everything = "".join(map(chr, range(0x3100)))
    for character in "\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        assert character not in tidy(everything)
        assert tidy(f"a{character}b") == "a b"


def test_a_number_of_rows_that_heads_itself_id_is_no_indonesian(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,en\n" + "".join(f"{i},A dog of some kind {i}\n" for i in range(50)))
    with pytest.raises(UsageError, match=r"a.csv: no pairs to use: of 50, 50 without letters"):
        read(tmp_path, path, language="id")


def test_a_file_of_broken_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{DOG}\t{KUKKA}\n" + "no tab here\n" * 3)
    with pytest.raises(UsageError, match=r"of 4, 3 with other columns"):
        read(tmp_path, path)


def test_long_texts_that_nearly_repeat_themselves_take_no_time(tmp_path: Path) -> None:
    # Nothing comes three times on end, and everything might: searches of this kind can take hours.
    words = [f"{'ab' * (i % 3 + 1)} {'b' * (i % 5 + 1)}" for i in range(600)]
    english = " ".join(words)[: MOST_CHARACTERS - 1]
    german = " ".join(reversed(words))[: MOST_CHARACTERS - 1]
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{english} {i}\t{german} {i}\n" for i in range(10, 30)))
    started = time.process_time()
    with contextlib.suppress(UsageError):
        read(tmp_path, path, language="de")
    assert time.process_time() - started < 5
