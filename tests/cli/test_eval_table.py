"""The table of ``eval`` in a terminal of 80 columns."""

import pytest
from rich.console import Console

from tests.factories.evaluations import BETTER, evaluation, row
from xclipt.cli import eval_table
from xclipt.evaluation.results import Gain


def lines(table, width: int) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def prompted():
    wide = Gain(-10.1, (-12.4, -10.2))
    rows = (
        row("fr", 100.0, n=1000),
        row("fr", 24.0, n=1000, prompt="Language:", reprompted=True, gain=wide),
        row("fr", 24.0, n=1000, delta="lora-50shot-seed1", gain=BETTER),
        row("fr", 24.0, n=1000, delta="lora-50shot-seed1", prompt="a photograph of many people and",
            reprompted=True, gain=wide),
        row("fr", 24.0, n=1000, text="to-en", gain=wide),
    )  # fmt: skip
    return evaluation(*rows)


def test_80_columns_hold_every_figure(prompted):
    drawn = lines(eval_table.narrow_table(prompted), 80)
    assert max(map(len, drawn)) <= 80 and "…" not in "".join(drawn)
    assert drawn[0] == "xtd, split test: ranking 1,000 pictures"
    text = "\n".join(drawn)
    for figure in ("t2i     24.0 48.0 60.0", "24.0 [23.0, 25.0]", "-10.1 [-12.4, -10.2]", "0.250"):
        assert figure in text
    names = [line[:20].rstrip() for line in drawn]
    assert " fr" in names and '   "Language:"' in names and "   base to-en" in names
    # A long prompt goes on in the next line, as far in as it began.
    start = next(i for i, name in enumerate(names) if name.startswith('     "a photo'))
    assert names[start + 1].startswith("     ") and names[start + 1].strip()


def test_sizes_that_differ_have_their_column():
    drawn = lines(
        eval_table.narrow_table(evaluation(row("fr", 20.0, n=1000), row("de", 30.0, n=900))), 80
    )
    assert drawn[0] == "xtd, split test: ranking pictures"
    assert any(line.split()[:2] == ["de", "900"] for line in drawn)


def test_wide_terminals_have_a_line_each(prompted):
    drawn = lines(eval_table.table(prompted), 160)
    assert sum("[" in line and "R@1" not in line for line in drawn) == 5
