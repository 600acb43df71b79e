"""The study of text alone: what is kept aside is in no pair, and what its tables say."""

from pathlib import Path

import pytest

import text_alone
from study import read_study
from tests.factories.datasets import many
from text_alone import BASE, ENGLISH, Measured, Study, as_markdown, kept_aside, write_sentences


@pytest.fixture
def study() -> Study:
    return read_study(Path(text_alone.__file__).with_name("text_alone.yaml"), Study.parse)


def test_what_is_kept_aside_is_in_no_pair(tmp_path):
    whole = many(20)
    aside = kept_aside(whole, 8)
    assert len(aside) == 8 and aside == kept_aside(many(20, backwards=True), 8)
    lines = write_sentences(whole, "tr", aside, tmp_path).read_text().splitlines()
    assert len(lines) == 12 and all("\t" in line for line in lines)
    numbers = {line.split("\t")[0].split()[1] for line in lines}
    assert not numbers & {name.removesuffix(".jpg") for name in aside}


def test_the_cheap_cells_come_first_and_parts_can_be_taken(study):
    cells = [*text_alone.cells_of(study, ["text alone"], ["cs"])]
    assert [cell.pairs for cell in cells[::3]] == [10, 100, 1000, 10000]
    both = {cell.name for cell in text_alone.cells_of(study, [*study.rows], ["cs", "fr"])}
    of_each, of_czech = 3 * (4 + 1 + 1) + 1, 3 * 3 + 3 * 3 + 1
    assert len(both) == 2 * of_each + of_czech


def test_tables_tell_gain_and_gap_over_seeds():
    def one(row, hits, seed=0, language="fr"):
        return Measured(row, language, 10, seed, 100, 2.0, hits)

    measured = [
        one(ENGLISH, [2, 2, 2, 0], language="en"),
        one(BASE, [0, 1, 0, 0]),
        one("text", [2, 1, 0, 0], seed=1),
        one("text", [0, 1, 2, 0], seed=2),
    ]
    (line,) = [line for line in as_markdown(measured).splitlines() if line.startswith("| text")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:5] == ["text, fr", "10", "2", "100", "37.5"]
    assert cells[5].startswith("+25.0 [") and cells[6].startswith("40 % [")


def test_a_gap_that_may_be_none_has_no_shares():
    measured = [
        Measured(ENGLISH, "en", 0, 0, 0, 0.0, [1, 1, 0, 1]),
        Measured(BASE, "fr", 0, 0, 0, 0.0, [1, 0, 1, 1]),
        Measured("text", "fr", 10, 1, 100, 2.0, [1, 1, 1, 1]),
    ]
    (line,) = [line for line in as_markdown(measured).splitlines() if line.startswith("| text")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[5].startswith("+12.5 [") and cells[6] == ""
