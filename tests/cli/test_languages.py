"""Languages as people type them, and what the shell completes."""

import os
import subprocess
import sys

import pytest
import torch

from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import XcliptError
from xclipt.languages import find, relatives
from xclipt.progress import Silent


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    root = tmp_path_factory.mktemp("languages")
    folder = write_mclip_backbone(root / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), language="no", name="norsk")
    store_shaken(root / "artifacts", backbone, LoraSpec(rank=2), language="fr", name="shaken")
    return root / "artifacts"


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        *(("french", "fr"), ("français", "fr"), ("Deutsch", "de"), ("Tok Pisin", "tpi")),
        *(("日本語", "ja"), ("fr", "fr"), ("Norwegian Bokmål", "nb"), ("jp", "ja")),
    ],
)
def test_a_name_is_as_good_as_a_code(typed, code):
    assert find(typed) == code


def test_what_is_neither_is_refused_as_before():
    with pytest.raises(XcliptError, match=r"'germn' is no language .* did you mean de"):
        find("germn")


def test_names_on_the_command_line(artifacts):
    export = ("export-delta", "--lang", "français", "--artifacts", artifacts, "--json")
    run = run_xclipt(*export, "--out", artifacts.parent / "out")
    assert run.code == 0 and "--lang français is fr (French)" in run.err
    assert run.json()["exports"][0]["language"] == "fr"


def test_norwegian_is_one_family_for_finding_a_delta(artifacts, tmp_path, make_picture):
    assert relatives("nb") == ("no", "nn") and relatives("fr") == ()
    make_picture(tmp_path / "pictures" / "a.png")
    search = ("search", "katt", "--images", tmp_path / "pictures", "--artifacts", artifacts)
    run = run_xclipt(*search, "--lang", "nb", "--json")
    assert run.code == 0, run.err
    said = "nb (Norwegian Bokmål) has no delta of its own: those of no (Norwegian) are used"
    assert run.err.count(said) == 1
    assert run.json()["queries"][0]["delta"] == "norsk"
    used = run_xclipt("use", "nn", "norsk", "--artifacts", artifacts)
    assert used.out == "no: norsk is current, before it norsk\n" and "those of no" in used.err
    assert "those of" not in run_xclipt(*search, "--lang", "no").err


def complete(words: str, artifacts) -> tuple[list[str], str]:
    """What a shell is offered at the end of a command line, and which heavy modules that took."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write('torch' * ('torch' in sys.modules)))\n"
        "from xclipt.cli.app import app\n"
        "app(prog_name='xclipt')"
    )
    environment = os.environ | {
        "_XCLIPT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"xclipt {words}",
        "COMP_CWORD": str(len(words.split(" "))),
        "XCLIPT_ARTIFACTS": str(artifacts),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    return run.stdout.split(), run.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("use fr sh", {"shaken"}),
        ("export-delta --delta no", {"norsk"}),
        ("eval --dataset mu", {"multi30k", "multi30k-task2"}),
        ("train-delta --backbone mclip-b", {"mclip-b32", "mclip-b16plus"}),
        ("data HERE/m", {"HERE/mine.csv", "HERE/my-pictures/"}),
        ("train-delta --backbone HERE/m", {"HERE/my-pictures/"}),
        ("train-delta --lang de,t", {"de,te", "de,th", "de,tl", "de,tr", "de,ta"}),
    ],
)
def test_completion(artifacts, words, offered, tmp_path):
    (tmp_path / "my-pictures").mkdir()
    for name in ("mine.csv", "my.py"):
        (tmp_path / name).touch()
    found, heavy = complete(words.replace("HERE", str(tmp_path)), artifacts)
    assert {word.replace(str(tmp_path), "HERE") for word in found} == offered and heavy == ""
