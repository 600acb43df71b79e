"""The short examples run as their first lines say, on real deltas, and need nothing but xclipt."""

import ast
import csv
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import pytest

from tests.factories.deltas import store_shaken
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.lora import LoraSpec

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))

STUDIES = [
    path
    for path in sorted(EXAMPLES[0].parent.glob("studies/*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
]


def example(name: str) -> Callable[..., None]:
    (path,) = (path for path in EXAMPLES if path.stem == name)
    return run_path(str(path))["main"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_nothing_deeper_than_xclipt(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("xclipt.")
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("xclipt.") for alias in node.names)


@pytest.mark.parametrize("path", [*EXAMPLES, *STUDIES], ids=lambda path: path.stem)
def test_an_example_answers_help_and_says_how_long_it_takes(path, monkeypatch, capsys):
    code = path.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(path.parent))
    for package in ("peft", "sentence_transformers"):  # who asks for help may not have them yet
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as left:
        run_path(str(path), run_name="__main__")
    first = ast.get_docstring(ast.parse(code)).splitlines()[0]
    said = " ".join(capsys.readouterr().out.split())
    assert not left.value.code and first in said
    assert re.search(r"\b(second|minute|hour)s?\b", first), first
    quick = path in STUDIES or "import xclipt" not in code
    assert quick or "Lines()" in code, "it shows that it moves on"


def test_quickstart(taught, capsys):
    example("quickstart")(str(taught.directory.root))
    printed = capsys.readouterr().out
    assert "3 texts, 512 numbers each" in printed
    assert "fr lora-8shot-seed1" in printed and "nl frozen base !" in printed


@pytest.mark.slow
def test_own_captions(tmp_path, capsys):
    emoji, captions = EmojiDataset(), tmp_path / "captions.csv"
    with captions.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption", "language"])
        for language in ("en", "tr"):
            for item in emoji.captions(language, "train")[:24]:
                path = tmp_path / item.image
                path.write_bytes(emoji.picture_path(item.image).read_bytes())
                writer.writerow([item.image, item.captions[0], language])
    artifacts = tmp_path / "artifacts"
    example("own_captions")(str(captions), "tr", str(artifacts), "4")
    printed = capsys.readouterr().out
    assert "lora-4shot-captions-seed1: 76" in printed and "tr base" in printed
    assert (artifacts / "deltas/tr/lora-4shot-captions-seed1/manifest.yaml").is_file()


def test_search_in_five_languages(taught, tmp_path, capsys):
    emoji = EmojiDataset()
    for item in emoji.captions("en", None):
        if item.captions[0] in ("dog", "red apple", "airplane", "rose"):
            picture = emoji.picture_path(item.image).read_bytes()
            (tmp_path / f"{item.captions[0]}.png").write_bytes(picture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        example("search_five_languages")(str(tmp_path), str(taught.directory.root))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 pictures" and len(lines) == 6
    assert [line[:2] for line in lines[1:]] == ["fr", "de", "ja", "ar", "en"]
    assert sum(": dog.png" in line for line in lines[1:]) >= 3, lines


@pytest.mark.slow
def test_peft_and_sentence_transformers_agree_with_xclipt(backbone, tmp_path, capsys):
    store_shaken(tmp_path / "artifacts", backbone, LoraSpec())
    arguments = ["--artifacts", str(tmp_path / "artifacts"), "--out", str(tmp_path / "out")]
    example("other_libraries")(arguments)
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["xclipt", "peft", "sentence-transformers"]
    off = [float(line.rstrip(")").rsplit(" ", 1)[1]) for line in lines]
    assert off[0] == 0 and max(off) < 1e-4
    values = [float(value) for value in lines[0].split(": ")[1].split()[:3]]
    assert values[0] == 1 and values[1] != values[2]
