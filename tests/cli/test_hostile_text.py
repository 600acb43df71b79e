"""Names and captions of others may hold what steers a terminal: it is spelt out, never sent."""

import os
import re

import pytest
from PIL import Image

from tests.factories.evaluations import evaluation, row
from tests.factories.running import run_xclipt
from xclipt.cli import eval_table
from xclipt.cli.terminal import Terminal, print_line, print_link, print_table
from xclipt.evaluation.published import OtherRow
from xclipt.printable import visible

EVIL = "a\x1b]0;owned\x07\x1b[2J\u202egpj.\u2066\x9b31m"
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate((f"{EVIL}.png", os.fsdecode(b"caf\xe9.png"))):
        Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(folder / name)
    (folder / f"{EVIL}.jpg").write_bytes(b"no picture")
    return folder


def test_search_spells_them_out_on_the_terminal_and_in_the_page(taught, photos, tmp_path):
    page = tmp_path / "found.html"
    run = run_xclipt(
        *("search", f"un chat {EVIL}", "--lang", "fr", "--images", photos, "--html", page),
        *("--artifacts", taught.directory.root),
    )
    assert run.code == 0, run.err
    assert not ACTS.search(run.out) and not ACTS.search(run.err)
    assert run.out.count(r"a\x1b]0;owned\x07\x1b[2J\u202egpj.\u2066\x9b31m") == 2
    assert r"caf\udce9.png" in run.out and r"\x1b" in run.err
    assert not ACTS.search(page.read_text("utf-8"))


def test_json_keeps_names_as_they_are(taught, photos):
    run = run_xclipt(
        *("search", "un chat", "--lang", "fr", "--images", photos, "--json"),
        *("--artifacts", taught.directory.root),
    )
    assert {hit["image"] for hit in run.json()["queries"][0]["results"]} == {
        f"{EVIL}.png",
        os.fsdecode(b"caf\xe9.png"),
    }
    run.out.encode()  # a real stdout takes it


@pytest.mark.parametrize("arguments", [("verify", "--artifacts", EVIL), ("search", "--x" + EVIL)])
def test_errors_spell_them_out(arguments):
    run = run_xclipt(*arguments)
    assert run.code == 2 and r"\x1b]0;owned" in run.err and not ACTS.search(run.err)
    assert run.err.count("\n") == 1


def test_marks_that_arabic_and_hebrew_need_stay():
    assert visible("\u200eA\u200f (\u061c)") == "\u200eA\u200f (\u061c)"
    assert visible("\u202e\u2066") == r"\u202e\u2066"


def test_every_way_to_print_spells_them_out(capsys):
    print_line(EVIL)
    print_line(f"{EVIL}\nforged: all is well")
    print_link("1 ", EVIL, "file:///tmp/a")
    result = evaluation(row("fr", 24.0))
    others = [OtherRow(f"{EVIL} [bold]", EVIL, {f"{EVIL} R@1": 1.0}, EVIL, stated=True)]
    print_table(eval_table.compared_table(others, result))
    terminal = Terminal(quiet=False)
    terminal.note(EVIL)
    shown = capsys.readouterr()
    assert not ACTS.search(shown.out + shown.err)
    assert r"\nforged" in shown.out and "[bold]" in shown.out and r"\x1b]0" in shown.err


def test_letters_keep_what_they_need(capsys):
    text = "می\u200cخواهم क्\u200dष 👩\u200d👧"
    print_line(text)
    assert capsys.readouterr().out == f"{text}\n"
