"""Own data as a spreadsheet writes it, through the commands that take a data set."""

from pathlib import Path

import pytest

from tests.factories.running import run_xclipt

WORDS = ("kırmızı kuş", "yeşil ağaç", "mavi gök", "sarı çiçek", "beyaz bulut", "siyah taş")


@pytest.fixture
def table(tmp_path, make_picture, monkeypatch):
    """Semicolons, a Turkish code page, Windows' paths, row numbers and headings of its own."""
    monkeypatch.chdir(tmp_path)
    colours = ("red", "green", "blue", "yellow", "white", "black")
    lines = ["no;Resim;Metin;id"]
    for number, (colour, text) in enumerate(zip(colours, WORDS, strict=True), 1):
        make_picture(tmp_path / "resimler" / f"{number}.png", colour)
        lines.append(f'{number};"C:\\resimler\\{number}.png";"{text}";{number}')
    path = tmp_path / "t.csv"
    path.write_bytes("\r\n".join(lines).encode("cp1254"))
    return path


def test_it_is_measured_and_trained_on(table: Path) -> None:
    said = ("--dataset", table, "--encoding", "cp1254", "--columns", "image=Resim,tr=Metin")
    trained = run_xclipt("train-delta", "--lang", "tr", *said, "--dry-run", "--routine", "none")
    assert trained.code == 0, trained.err
    run = run_xclipt("eval", "--lang", "tr", *said, "--json")
    assert run.code == 0, run.err
    assert run.json()["rows"][0]["n"] == 6 and run.json()["mode"] == "image"
    understood = (
        "t.csv: 6 pictures, captions in tr (column Metin), no split; separated by semicolons; "
        "not read: no, id"
    )
    assert next(line for line in run.err.splitlines() if line.startswith("t.csv:")) == understood


def test_options_may_stand_in_the_configuration(table: Path) -> None:
    config = table.with_name("c.yaml")
    config.write_text("caption-lang: tr\nencoding: cp1254\ncolumns: [image=Resim, caption=Metin]\n")
    run = run_xclipt("data", table, "--config", config, "--json")
    assert run.code == 0, run.err
    assert run.json()["languages"][0]["language"] == "tr"


def test_each_thing_that_is_not_said_is_asked_for(table: Path) -> None:
    """Following the messages, one by one, ends with the data set read."""
    table.write_bytes(
        table.read_bytes().replace(b".png", b"")
    )  # nothing tells that these are names
    given: list[str] = []
    for part, answer in (
        ("cp1254 (", ("--encoding", "cp1254")),
        ("--columns image=NAME", ("--columns", "image=Resim")),
        ("--columns caption=NAME", ("--columns", "image=Resim,caption=Metin")),
        ("--caption-lang CODE", ("--caption-lang", "tr")),
    ):
        run = run_xclipt("data", table, *given)
        assert run.code == 2 and part in run.err and len(run.err.splitlines()) == 1
        given += answer
    assert run_xclipt("data", table, *given).code == 0
