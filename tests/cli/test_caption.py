"""``--caption``: one caption of every picture, by its number, in every command that reads them."""

import pytest
import yaml
from PIL import Image

from tests.factories.datasets import make_multi30k
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.data.sets.multi30k import PHOTOGRAPHS, TASK2

DATA = ("--dataset", "multi30k-task2")
FEW = ("--shots", "2", "--epochs", "1", "--validate-on", "2", "--even-if-worse")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data of five captions a picture with its photographs, and a backbone beside it."""
    root = tmp_path_factory.mktemp("caption")
    make_multi30k(root / "multi30k", TASK2)
    for number, image in enumerate(f"{i}{j}.jpg" for i in range(3) for j in range(2)):
        file = root / PHOTOGRAPHS / image
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 99, 200 - 30 * number)).save(file)
    write_mclip_backbone(root / "model")
    return root


def run(place, command, *arguments, lang="de"):
    return run_xclipt(
        *(command, "--lang", lang, *DATA, "--data-dir", place, "--json"),
        *("--artifacts", place / "artifacts", "--backbone", place / "model", *arguments),
    )


def test_a_training_records_it_and_another_under_its_name_is_refused(place):
    trained = run(place, "train-delta", *FEW, "--caption", "1")
    assert trained.code == 0, trained.err
    (delta,) = trained.json()["deltas"]
    manifest = yaml.safe_load(
        (place / "artifacts/deltas/de" / delta["name"] / "manifest.yaml").open()
    )
    assert manifest["data"]["caption"] == 1
    again = run(place, "train-delta", *FEW, "--caption", "1")
    assert "is there already, from the same request" in again.err
    for other, part in ((("--caption", "2"), "data.caption 2 and 1"), ((), "data.caption missing")):
        refused = run(place, "train-delta", *FEW, *other)
        assert refused.code == 2 and "is another delta of de" in refused.err
        assert part in refused.err
    sound = run_xclipt("verify", "--artifacts", place / "artifacts", "--json")
    assert sound.json()["problems"] == 0


def test_eval_measures_on_that_caption_alone(place):
    every = run(place, "eval", "--delta", "none")
    one = run(place, "eval", "--delta", "none", "--caption", "4")
    assert [every.json()["caption"], one.json()["caption"]] == [None, 4]
    assert [run.json()["rows"][0]["captions"] for run in (every, one)] == [10, 2]
    table = run_xclipt(
        *("eval", "--lang", "de", *DATA, "--data-dir", place, "--delta", "none", "--caption", "4"),
        *("--artifacts", place / "artifacts"),
    )
    assert "multi30k-task2, split test_2016, caption 4: ranking" in table.out


def test_align_takes_it_for_both_texts(place):
    done = run(place, "align", "--caption", "5", "--shots", "2")
    assert done.code == 0, done.err
    (row,) = done.json()["rows"]
    assert row["name"] == "multi30k-task2-train-routine1-2shot-seed1-caption5"
    (pairs,) = (place / "artifacts/alignments/de" / row["name"]).glob("pairs-*.jsonl")
    lines = pairs.read_text().strip().split("\n")
    assert len(lines) == 2 and all(line.count("caption 5") == 2 for line in lines)


def test_translate_takes_the_lines_of_that_caption(place, tmp_path):
    lines = tmp_path / "train.3.de"
    lines.write_text("a cat runs\na dog sleeps\n")
    arguments = ("--split", "train", "--file", lines)
    done = run(place, "translate", *arguments, "--caption", "3")
    assert done.code == 0, done.err
    assert done.json()["translations"][0]["texts"] == 2
    refused = run(place, "translate", *arguments)
    assert refused.code == 2 and "2 lines for 10 captions" in refused.err


@pytest.mark.parametrize("command", ["train-delta", "align", "eval", "translate"])
def test_a_number_that_there_is_no_caption_of_is_one_line(place, command):
    refused = run(place, command, "--caption", "6")
    assert refused.code == 2 and not refused.out
    (line,) = [line for line in refused.err.splitlines() if line.startswith("xclipt: ")]
    assert "--caption 6: multi30k-task2: 2 of 2 pictures in '" in line or "6 of 6" in line
    assert "give at most that" in line
    assert run(place, command, "--caption", "0").code == 2
