"""``xclipt/CODE.md`` tells how to add things: here its recipes are followed to the letter.

A copy of the package gets the files and rows of all recipes, and one process of its own uses each
through the command line.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.factories.models import write_tokenizer
from tests.factories.tiny import WORDS

PACKAGE = Path(__file__).resolve().parent.parent / "xclipt"
PAGE = (PACKAGE / "CODE.md").read_text(encoding="utf-8")
_FILE = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
_DIFF = re.compile(r"```diff\n(\S+)\n(.*?)```", re.DOTALL)

USE = """
import sys
from tests.factories.running import run_xclipt

def run(*arguments):
    result = run_xclipt(*arguments, "--json", "-q")
    assert result.code == 0, result.err
    return result.json()

root, model, data, words = sys.argv[1:]
common = ("--artifacts", root, "--backbone", model)
train = ("train-delta", "--lang", "fr", "--dataset", "postcards", "--data-dir", data,
         "--shots", "4", "--epochs", "1", *common)

# The data set, the family, the kind with its own option, and the loss.
(delta,) = run(*train, "--delta", "upper-norms", "--norms", "2", "--align-loss", "mae")["deltas"]
assert delta["kind"] == "upper-norms" and delta["trainable_parameters"] == 2 * 2 * 16
assert delta["backbone_parameters"] > 0
rows = run("eval", "--lang", "fr", "--dataset", "postcards", "--data-dir", data, *common)["rows"]
assert [row["delta"] for row in rows] == [None, delta["name"]]
assert run("verify", *common)["problems"] == 0
(planned,) = run(*train, "--delta", "upper-norms", "--dry-run")["deltas"]
assert planned["setting"]["norms"] == 8
assert run("export-delta", "--lang", "fr", *common)["exports"][0]["format"] == "native"
for format in ("peft", "opendelta", "merged"):
    refused = run_xclipt("export-delta", "--lang", "fr", "--format", format, *common)
    assert refused.code == 2 and "Traceback" not in refused.err and format in refused.err

# The format.
found = run("data", data + "/own.list", "--caption-lang", "fr", *common)
assert found["languages"][0]["captions"] == 2 and found["pictures"]["usable"] == 1
assert found["remarks"] == ["own.list: 2 pictures, captions in fr (column caption), no split"]

# The engine.
(report,) = run("translate", "--lang", "fr", "--engine", "glossary", "--model", words,
                "--dataset", "postcards", "--data-dir", data, *common)["translations"]
assert report["engine"] == "glossary" and report["translated"] == 6
"""


def extended_package(folder: Path) -> list[str]:
    """A copy of the package with every recipe's file and row; returns the paths touched."""
    shutil.copytree(PACKAGE, folder / "xclipt", ignore=shutil.ignore_patterns("__pycache__"))
    touched = []
    for path, text in _FILE.findall(PAGE):
        assert not (folder / path).exists()
        (folder / path).write_text(text, encoding="utf-8")
        touched.append(path)
    for path, diff in _DIFF.findall(PAGE):
        file = folder / path
        file.write_text(_patched(file.read_text(encoding="utf-8"), diff), encoding="utf-8")
        touched.append(path)
    return touched


def _patched(text: str, diff: str) -> str:
    for part in diff.strip("\n").split("\n \n"):
        lines = part.split("\n")
        before = "".join(line[1:] + "\n" for line in lines if line[0] in " -")
        after = "".join(line[1:] + "\n" for line in lines if line[0] in " +")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def write_align(folder: Path) -> None:
    """A random model of the library's own class, as ``save_pretrained`` writes it."""
    import torch
    from transformers import AlignConfig, AlignModel, EfficientNetImageProcessorPil

    torch.manual_seed(0)
    text = {
        **{"vocab_size": 4 + len(WORDS), "max_position_embeddings": 32, "pad_token_id": 1},
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        "intermediate_size": 32,
    }
    vision = {
        **{"image_size": 32, "hidden_dim": 8, "width_coefficient": 1.0, "depth_coefficient": 1.0},
        **{"kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 8]},
        **{"strides": [1, 2], "num_block_repeats": [1, 1], "expand_ratios": [1, 2]},
    }
    model = AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    size = {"height": 32, "width": 32}
    EfficientNetImageProcessorPil(size=size, do_center_crop=False).save_pretrained(folder)


def write_postcards(folder: Path) -> None:
    texts = {
        "fr": ["un chat noir", "un chien court", "un chat dort", "un grand chien"],
        "en": ["a black cat", "a dog runs", "a cat sleeps", "a big dog"],
    }
    (folder / "cards").mkdir(parents=True)
    (folder / "texts").mkdir()
    for language, lines in texts.items():
        more = [f"{line} {WORDS[i]}" for i, line in enumerate(lines[:2])]
        (folder / "texts" / f"{language}.txt").write_text("\n".join(lines + more) + "\n")
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 10, 200 - 30 * i)).save(folder / f"cards/{i}.png")


@pytest.mark.slow
def test_every_recipe_is_one_file_and_one_row(tmp_path):
    touched = extended_package(tmp_path / "code")
    assert len(touched) == 11 and len(set(touched)) == 11  # a loss has its row in its own file
    write_align(tmp_path / "model")
    write_postcards(tmp_path / "data" / "postcards")
    (tmp_path / "data" / "own.list").write_text(
        "postcards/cards/0.png = un chat\nb.png = un chien\n"
    )
    (tmp_path / "words.tsv").write_text("un\ta\nchat\tcat\nchien\tdog\n")
    arguments = [
        tmp_path / "artifacts",
        tmp_path / "model",
        tmp_path / "data",
        tmp_path / "words.tsv",
    ]
    run = subprocess.run(
        [sys.executable, "-c", USE, *map(str, arguments)],
        cwd=tmp_path / "code",
        env={"PYTHONPATH": f"{tmp_path / 'code'}:{PACKAGE.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("path", [path for path, _ in _FILE.findall(PAGE)])
def test_a_recipes_file_is_not_part_of_the_package(path):
    assert not (PACKAGE.parent / path).exists()
