"""A directory as earlier releases wrote it opens and gives the same figures; newer ones do not."""

import json
import shutil

import pytest
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.factories.datasets import write_captions
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.reliability.worlds import contents
from xclipt.files import content_hash

COLOURS = ("noir", "blanc", "rouge", "vert")
SINCE = ("caption", "split_seed", "sentences")
"""Entries of a manifest's data that the first release did not know."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    write_mclip_backbone(root / "backbone")
    words = [f"{a} {b}" for a in COLOURS for b in COLOURS[:3]]
    for language, text in (("en", "a {} cat"), ("fr", "un chat {}")):
        rows = [
            {"image": f"{n}.png", "captions": [text.format(word)]} for n, word in enumerate(words)
        ]
        write_captions(root / "data", language, *rows)
    (root / "data/images").mkdir()
    for n in range(len(words)):
        Image.new("RGB", (8, 8), (20 * n, 0, 90)).save(root / f"data/images/{n}.png")
    (root / "file.tsv").write_text(
        "".join(f"un chat {w}\ta {w} cat\n" for w in dict.fromkeys(words))
    )
    data = ("--dataset", root / "data", "--lang", "fr")
    train = ("train-delta", *data, "--backbone", root / "backbone", "--shots", "6", "--name", "x")
    quick = ("--epochs", "1", "--validate-on", "4", "--rank", "2", "--learning-rate", "0.01")
    done(root / "new", *train, *quick, "--even-if-worse")
    done(root / "new", "translate", *data, "--engine", "file", "--file", root / "file.tsv")
    figures(root, "new")
    shutil.copytree(root / "new", root / "old")
    _as_the_first_release_wrote(root / "old")
    return root


def done(artifacts, *arguments):
    run = run_xclipt(*arguments, "--artifacts", artifacts, "--json")
    assert run.code == 0, run.err
    return run.json()


def figures(root, name):
    measure = ("eval", "--lang", "en,fr", "--split", "full", "--dataset", root / "data")
    search = ("search", "un chat noir", "--lang", "fr", "--images", root / "data/images")
    align = ("align", "--lang", "fr", "--routine", "3", "--shots", "4", "--dataset", root / "data")
    rows = done(root / name, *measure)["rows"]
    found = done(root / name, *search)["queries"]
    aligned = done(root / name, *align)["rows"]
    return rows, found, [{k: v for k, v in one.items() if k != "path"} for one in aligned]


def _as_the_first_release_wrote(root):
    """Manifests of format 1, and no hashes but those of weights."""
    for path in root.glob("deltas/*/*/manifest.yaml"):
        plain = yaml.safe_load(path.read_text())
        for key in ("dtype", "languages"):
            plain.pop(key, None)
        plain["data"] = {key: value for key, value in plain["data"].items() if key not in SINCE}
        plain["format"] = 1
        (weights,) = path.parent.glob("delta-*.safetensors")
        tensors = load_file(weights)
        weights.unlink()
        save_file(tensors, path.parent / "delta-new.safetensors")
        data = (path.parent / "delta-new.safetensors").read_bytes()
        digest = content_hash(data)
        name = f"delta-{digest[:12]}.safetensors"
        (path.parent / "delta-new.safetensors").rename(path.parent / name)
        plain["weights"] |= {"file": name, "sha256": digest, "bytes": len(data)}
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
    for pattern in ("features/*/*.safetensors", "indexes/*.safetensors"):
        for path in root.glob(pattern):
            with safe_open(path, "pt") as file:
                metadata = {k: v for k, v in (file.metadata() or {}).items() if k != "sha256"}
            save_file(load_file(path), path, metadata=metadata or None)
    for path in root.glob("translations/*/*/*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            del line["sum"]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_figures_are_the_same_and_nothing_is_rewritten(place):
    deltas = contents(place / "old/deltas")
    assert done(place / "old", "verify")["problems"] == 0
    assert figures(place, "old") == figures(place, "new")
    assert contents(place / "old/deltas") == deltas
    exported = done(place / "old", "export-delta", "--lang", "fr", "--out", place / "exported")
    (folder,) = [one["path"] for one in exported["exports"]]
    done(place / "old", "import-delta", folder, "--name", "back")


NEWER = {
    "the mark": ("xclipt.yaml", 1, "status"),
    "a manifest": ("deltas/fr/x/manifest.yaml", 2, "status"),
    "a translator": ("translations/fr-en/*/translator.yaml", 1, "align"),
}


@pytest.mark.parametrize("what", NEWER)
def test_a_newer_directory_is_refused_in_one_line(place, tmp_path, what):
    pattern, known, command = NEWER[what]
    shutil.copytree(place / "new", tmp_path / "newer")
    (path,) = (tmp_path / "newer").glob(pattern)
    plain = yaml.safe_load(path.read_text())
    assert plain["format"] == known
    path.write_text(yaml.safe_dump(plain | {"format": known + 1}, sort_keys=False))
    before = contents(tmp_path / "newer")
    more = ("--lang", "fr", "--routine", "3", "--dataset", place / "data", "--shots", "4")
    arguments = (command, *(more if command == "align" else ()))
    run = run_xclipt(*arguments, "--artifacts", tmp_path / "newer")
    said = [line for line in run.err.splitlines() if line.startswith("xclipt: ")]
    assert run.code in (1, 2) and len(said) == 1
    assert path.name in said[0] and f"format {known + 1}" in said[0] and "upgrade" in said[0]
    assert contents(tmp_path / "newer") == before
