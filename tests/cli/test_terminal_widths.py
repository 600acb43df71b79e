"""What commands print at 80, 100 and 120 columns and in a pipe: nothing is ever cut."""

import re
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

from tests.factories.datasets import write_captions
from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.parallel import ENGLISH, TELUGU
from tests.factories.running import Run, run_in_terminal, run_xclipt
from xclipt.backbones.registry import load_backbone
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent

WIDTHS = (80, 100, 120)
DELTA = "lora-50shot-routine2-flickr8k-caption3-floor0.35-seed4".ljust(60, "x")
PICTURES = ("IMG_20240713_a-picture-with-a-long-name".ljust(56, "y") + ".png", "b.png", "c.png")
TRANSLATIONS = "translations-of-my-own-captions-by-a-friend-of-mine".ljust(56, "z")
FIGURE = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A data set, translations, parallel sentences and long names of everything."""
    place = tmp_path_factory.mktemp("widths")
    emoji = EmojiDataset()
    (place / "data" / "images").mkdir(parents=True)
    for name, drawn in zip(PICTURES, emoji.captions("en", "test"), strict=False):
        data = emoji.picture_path(drawn.image).read_bytes()
        (place / "data" / "images" / name).write_bytes(data)
    for code in ("en", "fr", "de"):
        rows = [{"image": name, "captions": [f"{code} {name}"]} for name in PICTURES]
        write_captions(place / "data", code, *rows)
    lines = "".join(f"fr {name}\tin English {name}\n" for name in PICTURES)
    (place / f"{TRANSLATIONS}.tsv").write_text(lines, "utf-8")
    pairs = zip(ENGLISH, TELUGU, strict=True)
    (place / "en-te.tsv").write_text("en\tte\n" + "".join(f"{e}\t{t}\n" for e, t in pairs), "utf-8")
    folder = write_mclip_backbone(place / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    for code in ("fr", "de"):
        store_shaken(place / "artifacts", backbone, LoraSpec(rank=2), language=code, name=DELTA)
    return place


COMMANDS = {
    "align": (("align", "--dataset", "data", "--allow-missing"), ("fr", "de")),
    "align --parallel": (("align", "--lang", "te", "--parallel", "en-te.tsv"), ("te",)),
    "data": (("data", "data"), PICTURES),
    "search": (
        ("search", "un chat", "--lang", "fr", "--images", "data/images"),
        (DELTA, *PICTURES),
    ),
    "export-delta": (("export-delta", "--out", "out"), (DELTA,)),
    "translate": (
        *(("translate", "--lang", "fr", "--dataset", "data", "--file", f"{TRANSLATIONS}.tsv"),),
        (TRANSLATIONS,),
    ),
    "eval": (("eval", "--dataset", "data", "--lang", "fr,de"), (DELTA,)),
    "status": (("status",), (DELTA,)),
}
"""Each with what must be whole in one line, as the next command needs it."""


def shown(place: Path, command: str, columns: int | None, monkeypatch) -> Run:
    monkeypatch.chdir(place)
    arguments = [*COMMANDS[command][0], "--artifacts", "artifacts"]
    if command == "data":
        arguments += ["--backbone", "backbone"]
    run = run_in_terminal(columns, *arguments) if columns else run_xclipt(*arguments)
    assert run.code == 0, run.err
    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_and_no_number_is_cut(place, command, monkeypatch):
    piped = shown(place, command, None, monkeypatch).out
    names = COMMANDS[command][1]
    heights = [len(piped.splitlines())]
    for columns in reversed(WIDTHS):
        out = shown(place, command, columns, monkeypatch).out
        lines = out.splitlines()
        assert "…" not in out
        for name in names:
            assert any(name in line for line in lines), (columns, name, out)
        assert max(cell_len(line) for line in lines if breakable(line)) <= columns, out
        if command != "eval":  # which has fewer columns where names are long
            assert sorted(FIGURE.findall(out)) == sorted(FIGURE.findall(piped)), out
        heights.append(len(lines))
    assert heights == sorted(heights), "who has more room needs fewer lines"
    assert all(any(name in line for line in piped.splitlines()) for name in names)


def breakable(line: str) -> bool:
    """Whether it is of a table: sentences and paths are whole, and the terminal breaks them."""
    sentence = re.match(r"disparity|mean gain|share|English orig|left out|the languages", line)
    return not sentence and "/" not in line


@pytest.mark.parametrize("columns", WIDTHS)
def test_eval_keeps_what_matters(place, columns, monkeypatch):
    """Language, system, both directions, the mean and the gain, each with its interval."""
    piped = shown(place, "eval", None, monkeypatch).out
    out = shown(place, "eval", columns, monkeypatch).out
    intervals = re.findall(r"[-+.\d]+ \[[-+.\d]+, [-+.\d]+\]", piped)
    assert len(intervals) >= 6
    for interval in intervals:
        assert interval in out, (interval, out)
    assert "mean R@1 [95 %]" in out and "gain [95 %]" in out
