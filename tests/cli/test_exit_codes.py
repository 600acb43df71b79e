"""Every command x every kind of bad input: the exit code, one line, and a disk as it was.

2 where the command line, the configuration, or a path or value that they name is at fault; 1 for
the rest; 130 and 143 after an interruption.
"""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from math import nan

import pytest
import torch
from PIL import Image

from tests.factories.datasets import make_folder, write_captions
from tests.factories.deltas import store_shaken
from tests.factories.models import load, write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.deltas.lora import LoraSpec

COMMANDS = {
    "data": ("mine",),
    "translate": ("--lang", "fr"),
    "align": ("--lang", "fr"),
    "train-delta": ("--lang", "fr"),
    "eval": ("--lang", "fr"),
    "export-delta": ("--lang", "fr"),
    "search": ("un chat", "--images", "."),
    "serve": ("--port", "0"),
    "embed": ("--text", "plain.csv", "--out", "out.npy"),
    "index": ("--images", ".", "--out", "out.faiss"),
    "import-delta": (".",),
    "status": (),
    "verify": (),
    "use": ("fr", "one"),
    "remove": ("fr", "one", "--yes"),
}
"""With what each of them needs at least."""

MAKE_A_DIRECTORY = ("translate", "align", "train-delta", "import-delta")

DEFAULT_ONE = ("data", "eval", "search", "serve", "embed", "index")
"""They make one that nobody named, if they need it."""

WRONG_EVERYWHERE = {
    "an unknown option": ("--nonsense",),
    "a seed that is no number": ("--seed", "one"),
    "a negative seed": ("--seed", "-1"),
    "a missing configuration": ("--config", "none.yaml"),
    "an unknown entry in it": ("--config", "unknown.yaml"),
    "no YAML": ("--config", "broken.yaml"),
}

WRONG_VALUES = [
    ("translate", ("--lang", "germn"), "--lang germn"),
    ("translate", ("--lang", "en"), "--lang en"),
    ("translate", ("--direction", "up"), "--direction up"),
    ("translate", ("--engine", "babel"), "--engine babel"),
    ("translate", ("--on-bad", "cry"), "--on-bad cry"),
    ("translate", ("--limit", "few"), "--limit few"),
    ("translate", ("--file", "none.tsv"), "none.tsv"),
    ("align", ("--routine", "7"), "--routine 7"),
    ("align", ("--floor", "2"), "--floor 2"),
    ("align", ("--floor", "nan"), "--floor nan"),
    ("align", ("--plot", "x.gif"), "--plot x.gif"),
    ("align", ("--shots", "0"), "--shots 0"),
    ("train-delta", ("--lang", ","), "--lang"),
    ("train-delta", ("--lang", "en"), "--routine none"),
    ("train-delta", ("--shots", "many"), "--shots many"),
    ("train-delta", ("--shots", "5000"), "--shots 5000"),
    ("train-delta", ("--routine", "7"), "--routine 7"),
    ("train-delta", ("--delta", "magic"), "--delta magic"),
    ("train-delta", ("--rank", "0"), "--rank 0"),
    ("train-delta", ("--delta", "adapter", "--rank", "4"), "--rank"),
    ("train-delta", ("--learning-rate", "inf"), "--learning-rate inf"),
    ("train-delta", ("--align-weight", "nan"), "--align-weight nan"),
    ("train-delta", ("--learning-rate", "-1"), "--learning-rate -1"),
    ("train-delta", ("--align-loss", "hope"), "--align-loss hope"),
    ("train-delta", ("--recipe", "cake"), "--recipe cake"),
    ("train-delta", ("--start", "de"), "--start de"),
    ("train-delta", ("--name", "../x"), "--name ../x"),
    ("train-delta", ("--name", "current"), "--name current"),
    ("train-delta", ("--name", "NUL"), "--name NUL"),
    ("train-delta", ("--dataset", "nothing"), "--dataset nothing"),
    ("train-delta", ("--tune", "body"), "--tune body"),
    ("train-delta", ("--text", "to-en"), "--text to-en"),
    ("eval", ("--mode", "dream"), "--mode dream"),
    ("eval", ("--limit", "1"), "--limit 1"),
    ("eval", ("--text", "backwards"), "--text backwards"),
    ("eval", ("--data-dir", "none"), "--data-dir none"),
    ("eval", ("--compare", "none.csv"), "--compare none.csv"),
    ("eval", ("--device", "tpu"), "--device tpu"),
    ("eval", ("--dtype", "int4"), "--dtype int4"),
    ("eval", ("--backbone", "resnet"), "--backbone resnet"),
    ("eval", ("--dataset", "none.csv"), "--dataset none.csv"),
    ("eval", ("--dataset", "mine", "--caption-lang", "fr"), "--caption-lang fr"),
    ("eval", ("--caption-lang", "fr"), "--caption-lang fr"),
    ("data", ("--encoding", "latin-17"), "--encoding latin-17"),
    ("data", ("--columns", "image"), "--columns image"),
    ("data", ("--columns", "image=a,image=b"), "--columns image=a,image=b"),
    ("data", ("--backbone", "resnet"), "--backbone resnet"),
    ("export-delta", ("--format", "floppy"), "--format floppy"),
    ("export-delta", ("--lang", "de"), "--lang de"),
    ("search", ("--images", "none"), "--images none"),
    ("search", ("--queries", "none.txt"), "--queries"),
    ("search", ("--lang", "germn"), "--lang germn"),
    ("serve", ("--images", "none"), "--images none"),
    ("serve", ("--lang", "germn"), "--lang germn"),
    ("serve", ("--fallback", "best"), "--fallback best"),
    ("serve", ("--api-key-file", "none"), "--api-key-file none"),
    ("search", ("--index", "none"), "--index none"),
    ("search", ("--index", "plain.csv"), "plain.csv.json is not beside it"),
    ("embed", ("--out", "out.bin", "--text", "plain.csv"), "--out out.bin"),
    ("embed", ("--text", "none.txt", "--out", "out.npy"), "--text none.txt"),
    ("embed", ("--images", "mine"), "either --text FILE or --images"),
    ("embed", ("--lang", "germn"), "--lang germn"),
    ("embed", ("--lang", "de"), "--fallback base"),
    ("embed", ("--lang", "fr", "--delta", "none-such"), "none-such"),
    ("embed", ("--delta", "one"), "--delta one"),
    ("embed", ("--lang", "de", "--fallback", "hope"), "--fallback hope"),
    ("embed", ("--numbers", "int4"), "--numbers int4"),
    ("embed", ("--shards", "2"), "--shards 2"),
    ("embed", ("--shards", "2", "--shard", "2"), "--shard 2"),
    ("embed", ("--shard", "1"), "--shard 1"),
    ("embed", ("--merge",), "leave out --text"),
    ("embed", ("--out", "out.npy", "--merge", "--shards", "2"), "leave out --shards"),
    ("embed", ("--columns", "caption=x"), "--columns caption=x"),
    ("embed", ("--caption-lang", "fr"), "--caption-lang fr"),
    ("index", ("--kind", "magic"), "--kind magic"),
    ("index", ("--features", "out.npy"), "either --features FILE"),
    ("index", ("--images", "none", "--out", "a.faiss"), "--images none"),
    ("index", ("--dataset", "none.csv"), "--dataset none.csv"),
    ("index", ("--queries", "none.txt"), "--queries none.txt"),
]

NOT_THERE = [
    (("eval", "--lang", "fr", "--delta", "none-such"), "none-such"),
    (("eval", "--lang", "fr", "--against", "none-such"), "none-such"),
    (("export-delta", "--lang", "fr", "--delta", "none-such"), "none-such"),
    (("use", "fr", "none-such"), "none-such"),
    (("remove", "fr", "none-such", "--yes"), "none-such"),
    (("use", "de", "one"), "'de'"),
    (("import-delta", "."), "no delta"),
    (("import-delta", "hostile", "--lang", "fr"), "reserved word"),
    (("import-delta", "cut-delta", "--lang", "fr"), "not what manifest.yaml says"),
    (("train-delta", "--lang", "fr", "--split", "dev"), "--split dev"),
    (("translate", "--lang", "fr", "--split", "dev"), "--split dev"),
    (("align", "--lang", "fr", "--split", "dev"), "--split dev"),
    (("eval", "--lang", "fr", "--split", "dev"), "--split dev"),
    (("eval", "--lang", "sv"), "no captions in 'sv'"),
    (("train-delta", "--lang", "fr", "--name", "one"), "is another delta of fr"),
    (("eval", "--dataset", "xtd"), "--download"),
    (("data", "none.csv"), "no such file"),
    (("data", "none"), "no such data set or folder"),
    (("data", "unread.csv"), "bild, text"),
    (("data", "unread.csv", "--columns", "image=x"), "--columns image=x"),
    (("eval", "--dataset", "unread.csv"), "--caption-lang CODE"),
    (("train-delta", "--lang", "fr", "--dataset", "plain.csv"), "--caption-lang CODE"),
    (("translate", "--lang", "fr", "--dataset", "plain.csv"), "--caption-lang CODE"),
    (("align", "--lang", "fr", "--dataset", "plain.csv"), "--caption-lang CODE"),
    (("eval", "--dataset", "lines"), "captions.fr.jsonl"),
    (("eval", "--backbone", "no-numbers"), "not finite"),
    (("eval", "--backbone", "cut"), "is damaged or holds more"),
    (("eval", "--backbone", "other"), "its backbone is"),
    (("embed", "--merge", "--out", "out.npy"), "no shards of it"),
    (("embed", "--images", "none", "--out", "out.npy"), "--images none"),
    (("embed", "--images", "lines", "--out", "out.npy"), "lines"),
    (("index", "--features", "none.npy", "--out", "out.faiss"), "--features none.npy"),
    (("index", "--features", "plain.csv", "--out", "out.faiss"), "must end in .npy"),
]
"""A thing that the command names, and that is not there or not what it must be."""

BROKEN = {
    "a damaged picture": [
        ("train-delta", "--lang", "fr", "--shots", "2"),
        ("eval", "--lang", "fr"),
    ],
    "the current delta's weights": [
        ("eval", "--lang", "fr"),
        ("export-delta", "--lang", "fr"),
        ("use", "fr", "one"),
        ("search", "un chat", "--lang", "fr", "--images", "mine/images"),
    ],
    "the current delta's manifest": [
        ("eval", "--lang", "fr"),
        ("export-delta", "--lang", "fr"),
        ("use", "fr", "one"),
        ("search", "un chat", "--lang", "fr", "--images", "mine/images"),
        ("status",),
    ],
    "the name of the current delta": [
        ("eval", "--lang", "fr"),
        ("export-delta", "--lang", "fr"),
        ("search", "un chat", "--lang", "fr", "--images", "mine/images"),
    ],
    "the mark": [(command, *given) for command, given in COMMANDS.items()],
    "the backbone's weights": [
        ("train-delta", "--lang", "fr", "--shots", "2"),
        ("align", "--lang", "fr"),
        ("eval", "--lang", "fr"),
        ("search", "un chat", "--images", "mine/images"),
        ("serve", "--port", "0"),
    ],
}
"""What may be broken by itself, and the commands that meet it."""

BREAKS = {
    "a damaged picture": ("mine/images/0.png", b"no picture"),
    "the current delta's weights": ("artifacts/deltas/fr/one/delta-*.safetensors", b"cut"),
    "the current delta's manifest": ("artifacts/deltas/fr/one/manifest.yaml", b"a: ["),
    "the name of the current delta": ("artifacts/deltas/fr/current", b"gone"),
    "the mark": ("artifacts/xclipt.yaml", b"format: ["),
    "the backbone's weights": ("backbone/pytorch_model.bin", b"cut"),
}
"""Where it lies, and what is there instead."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("codes")
    backbone = load(write_mclip_backbone(root / "backbone"))
    store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), name="one")
    _write_what_is_wrong(root)
    (root / "unknown.yaml").write_text("shoots: 10")
    (root / "broken.yaml").write_text("a: [")
    return root


def _write_what_is_wrong(root):
    (root / "unread.csv").write_text("bild;text\na.jpg;x\n")
    (root / "plain.csv").write_text("image,caption\na.jpg,x\n")
    words = {"en": "a cat", "fr": "un chat"}
    captions = {
        lang: {f"{i}.png": (f"{text} {i}",) for i in range(4)} for lang, text in words.items()
    }
    mine = make_folder(root / "mine", captions)
    for number, colour in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (8, 8), colour).save(mine.picture_path(f"{number}.png"))
    write_captions(root / "lines", "fr", "no JSON")
    native = root / "artifacts/deltas/fr/one"
    for name, text in (("hostile", "current"), ("cut-delta", "cut-delta")):
        shutil.copytree(native, root / name)
        manifest = root / name / "manifest.yaml"
        manifest.write_text(manifest.read_text().replace("name: one", f"name: {text}"))
    next((root / "cut-delta").glob("delta-*")).write_bytes(b"cut")
    write_mclip_backbone(root / "other", seed=1)
    weights = write_mclip_backbone(root / "no-numbers") / "pytorch_model.bin"
    torch.save(torch.load(weights) | {"LinearTransformation.bias": torch.full((8,), nan)}, weights)
    (write_mclip_backbone(root / "cut") / "pytorch_model.bin").write_bytes(b"cut")


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not {"features", "indexes"} & {*path.parts}
    }


def refused(place, *arguments, code, part=""):
    before = snapshot(place)
    run = run_xclipt(*arguments)
    assert run.code == code, run.err
    lines = [line for line in run.err.splitlines() if line.startswith("xclipt: ")]
    assert len(lines) == 1 and part in lines[0], run.err
    assert "Traceback" not in run.err and "unexpected" not in run.err and not run.out
    assert snapshot(place) == before
    assert not (place / "elsewhere").exists()


@pytest.mark.parametrize(
    ("command", "kind"), list(itertools.product(COMMANDS, WRONG_EVERYWHERE)), ids=str
)
def test_what_no_command_takes(place, command, kind):
    arguments = (*COMMANDS[command], "--artifacts", "artifacts", *WRONG_EVERYWHERE[kind])
    refused(place, command, *arguments, code=2)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in MAKE_A_DIRECTORY])
def test_a_directory_that_is_named_and_not_there(place, command, monkeypatch):
    named = (command, *COMMANDS[command], "--artifacts", "elsewhere")
    refused(place, *named, code=2, part="--artifacts elsewhere")
    monkeypatch.setenv("XCLIPT_ARTIFACTS", "elsewhere")
    refused(place, command, *COMMANDS[command], code=2, part="elsewhere")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in DEFAULT_ONE])
def test_a_directory_that_nobody_named(place, command):
    if command not in MAKE_A_DIRECTORY:
        refused(place, command, *COMMANDS[command], code=1, part="not an artifact directory")


@pytest.mark.parametrize(
    ("command", "wrong", "part"), WRONG_VALUES, ids=lambda value: " ".join(value)[:40]
)
def test_wrong_values(place, command, wrong, part):
    needed = [] if wrong[0] in COMMANDS[command] else COMMANDS[command]
    if command == "search" and wrong[0] in ("--images", "--index"):
        needed = ["un chat"]
    refused(place, command, *needed, *wrong, "--artifacts", "artifacts", code=2, part=part)


@pytest.mark.parametrize(("arguments", "part"), NOT_THERE, ids=str)
def test_what_is_not_there(place, arguments, part):
    refused(place, *arguments, "--artifacts", "artifacts", code=2, part=part)


@pytest.mark.parametrize(
    ("what", "arguments"),
    [(what, arguments) for what, several in BROKEN.items() for arguments in several],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_broken_by_itself(place, what, arguments):
    pattern, content = BREAKS[what]
    (path,) = place.glob(pattern)
    before = path.read_bytes()
    path.write_bytes(content)
    own = ("--dataset", "mine") if arguments[0] in ("train-delta", "align", "eval") else ()
    try:
        refused(place, *arguments, *own, "--artifacts", "artifacts", code=1, part="")
    finally:
        path.write_bytes(before)


def test_a_refused_backbone_leaves_no_directory(place):
    arguments = ("--lang", "fr", "--shots", "2", "--dataset", "mine", "--backbone", "no-numbers")
    refused(place, "train-delta", *arguments, "--artifacts", "elsewhere", code=2, part="finite")


def test_a_value_that_fits_no_new_directory_leaves_none(place):
    arguments = ("--lang", "fr", "--shots", "5000", "--backbone", "backbone")
    refused(place, "train-delta", *arguments, "--artifacts", "elsewhere", code=2, part="5000")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "codes"), [("SIGINT", (130,)), ("SIGTERM", (143, -15))])
def test_an_interruption(place, sent, codes):
    command = [sys.executable, "-m", "xclipt", "train-delta", "--lang", "fr", "--epochs", "100000"]
    with subprocess.Popen(
        [
            *command,
            "--recipe",
            "paper",
            "--validate-on",
            "0",
            "--artifacts",
            "artifacts",
            "--name",
            "long",
        ],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as run:
        assert run.stderr is not None
        lines = []
        for line in run.stderr:
            lines.append(line)
            if line.startswith("Training"):
                break
        run.send_signal(getattr(signal, sent))
        rest = "".join(lines) + run.stderr.read()
    assert run.returncode in codes and "Traceback" not in rest, rest
