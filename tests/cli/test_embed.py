"""``xclipt embed``, ``xclipt index`` and ``search --index`` as programs."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.factories.deltas import store_shaken
from tests.factories.models import load, write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.factories.tiny import WORDS
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.lora import LoraSpec
from xclipt.embedding.shards import CHUNK

TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("embed")
    backbone = load(write_mclip_backbone(root / "backbone"))
    store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), language="de", name="one")
    (root / "lines.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    (root / "photos").mkdir()
    for number in range(60):
        Image.new("RGB", (8, 8), (4 * number, 250 - 4 * number, 3 * number)).save(
            root / f"photos/{number:02}.png"
        )
    return root


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("XCLIPT_ARTIFACTS", "artifacts")


def test_the_issues_own_commands(place, tmp_path):
    out, whole = tmp_path / "f.npy", tmp_path / "whole.npy"
    text = ("embed", "--text", "lines.txt", "--lang", "de")
    run = run_xclipt(*text, "--out", whole)
    assert run.code == 0, run.err
    assert run.out == f"{whole}: {len(TEXTS)} x 8 float32, de/one\n"
    first = run_xclipt(*text, "--out", out, "--shards", 2, "--shard", 0)
    assert f"shard 0 of 2 is done, {len(TEXTS) // 2:,} rows" in first.out
    assert f"xclipt embed --merge --out {out}" in first.out
    early = run_xclipt("embed", "--merge", "--out", out)
    assert early.code == 1 and "run shard 1 of 2 again" in early.err and not early.out
    run_xclipt(*text, "--out", out, "--shards", 2, "--shard", 1)
    assert run_xclipt("embed", "--merge", "--out", out).out.endswith("x 8 float32, de/one\n")
    for shard in (0, 1):
        other = tmp_path / "g.npy"
        run_xclipt(*text, "--out", other, "--shards", 2, "--shard", shard)
    merged = run_xclipt("embed", "--merge", "--out", other, "--json").json()
    assert merged["merged"] and merged["rows"] == len(TEXTS) and merged["delta"] == "de/one"
    assert out.read_bytes() == whole.read_bytes()
    again = run_xclipt(*text, "--out", whole)
    assert again.out.endswith("de/one, was there already\n")


def test_a_language_without_a_delta(place, tmp_path):
    command = ("embed", "--text", "lines.txt", "--lang", "tr", "--out", tmp_path / "f.npy")
    run = run_xclipt(*command)
    assert run.code == 2 and "no delta for it (there: de); --fallback base" in run.err
    assert not any(tmp_path.iterdir())
    run = run_xclipt(*command, "--fallback", "base")
    assert run.code == 0 and "frozen base" in run.err and "frozen base" in run.out
    base = tmp_path / "base.npy"
    assert run_xclipt("embed", "--text", "lines.txt", "--out", base).code == 0
    assert (tmp_path / "f.npy").read_bytes() == base.read_bytes()
    none = tmp_path / "none.npy"
    run_xclipt("embed", "--text", "lines.txt", "--lang", "de", "--delta", "none", "--out", none)
    assert none.read_bytes() == base.read_bytes()


class _Stdin(io.TextIOWrapper):
    """Standard input that holds a text."""

    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode()))


def test_standard_input(place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", _Stdin("".join(f"{text}\n" for text in TEXTS)))
    run = run_xclipt("embed", "--text", "-", "--lang", "de", "--out", tmp_path / "f.npy")
    assert run.code == 0, run.err
    run_xclipt("embed", "--text", "lines.txt", "--lang", "de", "--out", tmp_path / "g.npy")
    assert (tmp_path / "f.npy").read_bytes() == (tmp_path / "g.npy").read_bytes()
    monkeypatch.setattr(sys, "stdin", _Stdin("photos/07.png\nphotos/none.png\nphotos/03.png\n"))
    run = run_xclipt("embed", "--images", "-", "--out", tmp_path / "p.npy", "--json")
    assert run.code == 0, run.err
    assert [one["id"] for one in run.json()["left_out"]] == ["photos/none.png"]
    assert "no such picture" in run.err
    ids = json.loads((tmp_path / "p.npy.json").read_text())["ids"]
    assert ids == ["photos/07.png", "photos/03.png"]


def test_an_index_is_built_measured_and_searched(place, tmp_path):
    features, index = tmp_path / "p.parquet", tmp_path / "p.faiss"
    small = ("embed", "--images", "photos", "--out", tmp_path / "q.npy", "--numbers", "int8")
    assert "int8 against float32: " in run_xclipt(*small).out
    assert run_xclipt("embed", "--images", "photos", "--out", features).code == 0
    run = run_xclipt("index", "--features", features, "--kind", "hnsw", "--out", index)
    assert run.code == 0, run.err
    assert "60 pictures, hnsw (HNSW32)" in run.out and "recall@10" in run.out
    assert "captions of emoji in en" in run.out and "60 pictures, of the index itself" in run.out
    by_index = run_xclipt("search", "un chat", "--lang", "de", "--index", index, "--json").json()
    by_folder = run_xclipt("search", "un chat", "--lang", "de", "--images", "photos", "--json")
    (ours,), (exact,) = by_index["queries"], by_folder.json()["queries"]
    names = [[hit["image"] for hit in query["results"]] for query in (ours, exact)]
    assert len(set(names[0]) & set(names[1])) >= 4
    assert ours["results"][0]["path"] == str(place / "photos" / names[0][0])
    page = tmp_path / "found.html"
    run = run_xclipt("search", "un chat", "--index", index, "--html", page)
    assert run.code == 0 and "<img" in page.read_text()
    refused = run_xclipt("search", "un chat", "--index", index, "--hub-bank", "lines.txt")
    assert refused.code == 2 and "--hub-bank" in refused.err
    other = load(write_mclip_backbone(tmp_path / "backbone", seed=1))
    store_shaken(tmp_path / "artifacts", other, LoraSpec(rank=2))
    for command in (
        ("search", "un chat", "--index", index),
        ("index", "--features", features, "--out", tmp_path / "other.faiss"),
    ):
        run = run_xclipt(*command, "--artifacts", tmp_path / "artifacts")
        assert run.code == 2 and "queries would be encoded by" in run.err, run.err
        assert len([line for line in run.err.splitlines() if line.startswith("xclipt:")]) == 1


def test_a_folder_is_indexed_directly(place, tmp_path):
    index = tmp_path / "p.faiss"
    command = ("index", "--images", "photos", "--kind", "flat", "--out", index)
    document = run_xclipt(*command, "--json").json()
    assert [one["recall"] for one in document["recall"]] == [1, 1] and document["rows"] == 60
    by_index, by_folder = (
        run_xclipt("search", "un chat", option, where, "--json").json()["queries"][0]["results"]
        for option, where in (("--index", index), ("--images", "photos"))
    )
    assert [hit["image"] for hit in by_index] == [hit["image"] for hit in by_folder]


def xclipt(*arguments, **given):
    command = [sys.executable, "-m", "xclipt", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, text=True, **given)


@pytest.mark.slow
def test_of_four_processes_one_is_killed_and_the_bytes_are_those_of_one(taught, tmp_path):
    """On the builtin backbone, as a user would."""
    names = [item.captions[0] for item in EmojiDataset().captions("de", None)]
    lines = tmp_path / "names.txt"
    lines.write_text("".join(f"{name}\n" for name in names[: 12 * CHUNK - 5]))
    text = ("embed", "--text", lines, "--lang", "de", "--artifacts", taught.directory.root)
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    assert xclipt(*text, "--out", whole, "-q").wait() == 0
    shard = [(*text, "--out", out, "--shards", 4, "--shard", i, "-q") for i in range(4)]
    running = [xclipt(*one) for one in shard]
    folder = out.with_name("out.npy.shards")
    deadline = time.monotonic() + 300
    while not (folder / "work.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running[2].send_signal(signal.SIGKILL)
    codes = [process.wait() for process in running]
    assert codes[:2] == [0, 0] and codes[3] == 0 and codes[2] in (-signal.SIGKILL, 0)
    if codes[2]:
        merging = xclipt("embed", "--merge", "--out", out, stderr=subprocess.PIPE)
        assert merging.wait() == 1 and "run shard 2 of 4 again" in merging.stderr.read()
    assert xclipt(*shard[2]).wait() == 0
    assert xclipt("embed", "--merge", "--out", out, "-q").wait() == 0
    assert out.read_bytes() == whole.read_bytes()
    assert len(np.load(out)) == 12 * CHUNK - 5 and not folder.exists()
