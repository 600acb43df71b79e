"""Every family of backbones through the command line: trained, measured, searched, out and back."""

import itertools
import json

import pytest

from tests.factories.dual_encoders import DUAL_ENCODERS, write_dual_encoder
from tests.factories.running import run_xclipt
from tests.factories.sentence_transformers import write_pair
from tests.factories.tiny import WORDS

FAMILIES = [*DUAL_ENCODERS, "sentence-transformers"]
KINDS = {
    "lora": ("--rank", "2"),
    "adapter": ("--bottleneck", "4"),
    "compacter": ("--reduction", "4"),
    "soft-prompt": ("--tokens", "2"),
    "bitfit": (),
    "full-finetune": (),
}
FORMATS = ("native", "hub", "peft", "opendelta", "merged", "onnx")
HOLD = {
    "lora": FORMATS,
    "adapter": ("native", "hub", "opendelta", "onnx"),
    "compacter": ("native", "hub", "opendelta", "onnx"),
    "soft-prompt": ("native", "hub", "onnx"),
    "bitfit": ("native", "hub", "merged", "onnx"),
    "full-finetune": ("native", "hub", "merged", "onnx"),
}
"""The formats that take a kind on every family."""


@pytest.fixture
def data(tmp_path, make_picture):
    """Twelve pictures with captions in words that the small tokenizers know."""
    folder = tmp_path / "data"
    pairs = list(itertools.islice(itertools.combinations(WORDS[:8], 2), 12))
    for i in range(12):
        colour = f"rgb({i * 20},{255 - i * 9},{i * 5})"
        make_picture(folder / "images" / f"{i}.png", colour, (30, 20))
    for language, order in (("en", 1), ("fr", -1)):
        rows = [
            {"image": f"{i}.png", "captions": [" ".join(p[::order])]} for i, p in enumerate(pairs)
        ]
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"captions.{language}.jsonl").write_text(lines)
    return folder


@pytest.mark.parametrize(
    ("family", "kinds", "formats"),
    [
        *((family, ("lora",), ("native", "peft", "merged")) for family in FAMILIES),
        *(
            pytest.param(family, (*KINDS,), FORMATS, marks=pytest.mark.slow, id=f"{family}-all")
            for family in FAMILIES
        ),
    ],
)
def test_from_training_to_import(tmp_path, data, family, kinds, formats):
    model, common = tmp_path / "model", ("--artifacts", tmp_path / "artifacts", "-q", "--json")
    if family == "sentence-transformers":
        write_pair(model)
    else:
        write_dual_encoder(model, family)

    def run(*arguments):
        result = run_xclipt(*arguments, *common)
        assert result.code == 0, result.err
        return result.json()

    source = ("--lang", "fr", "--dataset", data)
    for kind in kinds:
        how = ("--full-finetune",) if kind == "full-finetune" else ("--delta", kind, *KINDS[kind])
        train = ("train-delta", *source, "--shots", "10", *how, "--backbone", model)
        (planned,) = run(*train, "--epochs", "1", "--dry-run")["deltas"]
        (delta,) = run(*train, "--epochs", "1", "--even-if-worse")["deltas"]
        assert delta["trainable_parameters"] == planned["trainable_parameters"] > 0
        assert delta["backbone_parameters"] == planned["backbone_parameters"]
        rows = run("eval", *source, "--split", "full")["rows"]
        assert [row["delta"] for row in rows] == [None, delta["name"]]
        found = run("search", "un chat", "--lang", "fr", "--images", data / "images")
        assert found["pictures"] == 12
        for format in FORMATS:
            if format not in formats:
                continue
            out = tmp_path / "out" / kind / format
            export = ("export-delta", "--lang", "fr", "--format", format, "--out", out)
            if format not in HOLD[kind]:
                refused = run_xclipt(*export, *common)
                held = kind == "soft-prompt" and refused.code == 0  # some take vectors
                assert held or (refused.code == 2 and refused.err.count("\n") == 1), refused.err
                continue
            (exported,) = run(*export)["exports"]
            if format in ("merged", "onnx"):
                continue
            there = ("--artifacts", tmp_path / f"there-{kind}-{format}", "--backbone", model)
            back = run_xclipt("import-delta", exported["path"], *there, "--json")
            assert back.code == 0, back.err
    assert run("verify")["problems"] == 0
