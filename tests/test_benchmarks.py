"""The benchmarks are of the library as it is, and their figures are what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.benchmarks.rows import ROWS
from tests.benchmarks.table import Found, as_json, lines_of

ROOT = Path(__file__).resolve().parent.parent
PERFORMANCE = ROOT / "tests/benchmarks/PERFORMANCE.md"


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(torch.device("cpu"), None, tmp_path, rounds=3)


def test_the_document_has_every_row_and_no_other():
    lines = PERFORMANCE.read_text(encoding="utf-8").splitlines()
    told = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert told == [row.name for row in ROWS]


def test_candidates_take_turns_and_ratios_are_of_their_own_round(setting, monkeypatch):
    clock, ran = iter([0, 2, 2, 3, 3, 7, 7, 19, 19, 25, 25, 28]), []
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    taken = interleaved({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, setting)
    assert "".join(ran) == "ab" + "abbaab"
    assert taken.seconds == {"a": (2, 12, 6), "b": (1, 4, 3)}
    fast, long = taken.times_as_fast("b", "a"), taken.times_as_long("b", "a")
    assert (fast.value, fast.spread) == (2, (2, 3))
    assert long.value == 1 / 2


@pytest.mark.parametrize(
    ("target", "value", "held"),
    [
        (at_least(2), 2.0, True),
        (at_least(2), 1.99, False),
        (at_most(1.1), 1.1, True),
        (at_most(1.1), 1.11, False),
        (at_most(1.1), None, None),
        (None, 3.0, None),
    ],
)
def test_a_target_that_does_not_hold_is_marked(setting, target, value, held):
    figure = Figure("what", "against", value, target=target)
    row = Found(Row("row", "about", lambda setting: Measured(())), Measured((figure,)), 1.0)
    assert list(lines_of(row))[1].endswith("!") is (held is False)
    (plain,) = as_json(setting, [row])["rows"]
    assert plain["figures"][0]["held"] is held


@pytest.mark.slow
def test_the_short_version_runs(tmp_path):
    files = tmp_path / "figures.json", tmp_path / "growth.svg"
    _benchmarks("--short", "--json", files[0], "--plot", files[1])
    rows = json.loads(files[0].read_text())["rows"]
    assert [row["row"] for row in rows] == [row.name for row in ROWS]
    for figure in (figure for row in rows for figure in row["figures"]):
        assert figure["value"] is not None or figure["remark"], figure
    assert files[1].stat().st_size > 1000


@pytest.mark.slow
def test_the_profile_tells_what_takes_the_time():
    shown = _benchmarks("--profile", "--scale", "0.001")
    heads = [line for line in shown if not line.startswith(" ")]
    assert [head.split(":")[0] for head in heads] == [
        *("32 captions, float32", "training on 32 captions, float32"),
        *("32 captions, bfloat16", "training on 32 captions, bfloat16", "4 photographs, float32"),
    ]
    assert "aten::addmm" in shown[1], shown
    # With one thread torch computes small convolutions of few pictures without oneDNN.
    convolution = shown[shown.index(heads[-1]) + 1].split()[-1]
    assert convolution in {"aten::mkldnn_convolution", "aten::_slow_conv2d_forward"}, shown


def _benchmarks(*options):
    """What the command prints, without the public data."""
    environment = {name: v for name, v in os.environ.items() if name != "XCLIPT_DATA"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *map(str, options)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 80
    return run.stdout.splitlines()
