"""Tables at 80, 100 and 120 columns and in a pipe: no name and no number is ever cut."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
import torch
from rich.cells import cell_len

from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from xclipt.backbones.registry import load_backbone
from xclipt.cli.listing import Listing
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent

LONG = "lora-50shot-routine2-flickr8k-caption3-floor0.35-seed4-x" + "y" * 4
NAMES = (LONG, "lora-10shot-seed1", "日本語")
NUMBERS = ("560,677,632", "100.000 %", "1,234,567.8 MB", "123,456 of 999,999", "100.0", "100.0")
WIDTHS = (60, 80, 100, 120, None)


def listing() -> Listing:
    made = Listing(
        "Trained deltas, their kept steps, and mean R@1 on the pictures that they are validated on",
        ("lang", "delta"),
        ("data",),
        ("parameters", "share", "size", "kept", "base", "delta"),
    )
    for language, name in zip(("de", "mul", "ja"), NAMES, strict=True):
        made.add_row(language, name, "my-own-photographs", *NUMBERS)
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(width):
    lines = listing().lines(width)
    text = "\n".join(lines)
    for word in (*NAMES, *NUMBERS, "my-own-photographs"):
        assert text.count(word) >= (1 if word in NAMES else 3), word
    assert width is None or max(map(cell_len, lines)) <= max(width, len(LONG) + 6)


def test_wider_terminals_get_more():
    heights = [len(listing().lines(width)) for width in WIDTHS]
    assert heights == sorted(heights, reverse=True) and heights[0] > heights[-1]
    assert len(listing().lines(None)) == 2 + 2 + 3, "a line each"
    columns = listing().lines(120)
    assert columns[columns.index(f"de  {LONG}") + 1].split()[-1] == "100.0"


def run_in_terminal(columns: int, *arguments: str) -> list[str]:
    """What the program prints in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "xclipt", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        stdin=theirs,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(60) == 0
    return said.decode().replace("\r", "").split("\n")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    root = tmp_path_factory.mktemp("listing")
    folder = write_mclip_backbone(root / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    for language, name in (("de", LONG), ("fr", "short"), ("tr", "a" * 60)):
        store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), language=language, name=name)
    return root / "artifacts"


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_status_in_a_terminal(artifacts, columns):
    lines = run_in_terminal(columns, "status", "--artifacts", str(artifacts))
    text = "\n".join(lines)
    assert LONG in text and "a" * 60 in text and "…" not in text
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("Deltas")) :]
    assert max(map(cell_len, table)) <= columns
    assert text.count("26.5") == 3 and text.count("10 of 20") == 3


def test_status_in_a_pipe_has_a_line_each(artifacts):
    run = subprocess.run(
        [sys.executable, "-m", "xclipt", "status", "--artifacts", str(artifacts)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line for line in run.stdout.splitlines() if "10 of 20" in line]
    assert len(rows) == 3 and LONG in rows[0]


def test_verify_in_a_terminal_is_whole(artifacts):
    lines = run_in_terminal(80, "verify", "--artifacts", str(artifacts))
    assert f"well   deltas/de/{LONG}" in lines and "no problems" in lines
