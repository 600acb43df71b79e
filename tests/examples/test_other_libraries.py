"""The example runs, and what it shows is true."""

import importlib.util
from pathlib import Path

from tests.made_deltas import store_shaken
from xclipt.deltas.spec import LoraSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "other_libraries.py"


def test_peft_and_sentence_transformers_agree_with_xclipt(backbone, tmp_path, capsys):
    store_shaken(tmp_path / "artifacts", backbone, LoraSpec())
    described = importlib.util.spec_from_file_location("other_libraries", EXAMPLE)
    example = importlib.util.module_from_spec(described)
    described.loader.exec_module(example)
    example.main(["--artifacts", str(tmp_path / "artifacts"), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["xclipt", "peft", "sentence-transformers"]
    off = [float(line.rstrip(")").rsplit(" ", 1)[1]) for line in lines]
    assert off[0] == 0 and max(off) < 1e-4
    values = [float(value) for value in lines[0].split(": ")[1].split()[:3]]
    assert values[0] == 1 and values[1] != values[2]
