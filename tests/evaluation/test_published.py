"""Other systems' figures: right, and only beside results of the same task."""

import numpy as np
import pytest

from tests.factories.evaluations import BETTER, evaluation, row
from xclipt.data.sets.xtd import CAPTIONS_FILES
from xclipt.errors import XcliptError
from xclipt.evaluation.published import ours_beside, published_beside, read_compared
from xclipt.report.html import as_html

ALL = evaluation(*(row(language, 20.0) for language in CAPTIONS_FILES))


def test_the_languages_of_a_published_row_give_its_mean():
    rows = [r for r in published_beside(ALL) if r.system == "M-CLIP XLM-R-L / ViT-L-14"]
    values = [r.figures["t2i R@10"] for r in rows if r.language != "mean"]
    mean = next(r for r in rows if r.language == "mean")
    assert len(values) == 11
    assert np.mean(values) == pytest.approx(mean.figures["t2i R@10"], abs=0.05)
    assert np.std(values) == pytest.approx(mean.figures["sd of t2i R@10"], abs=0.05)
    assert all(r.source for r in published_beside(ALL))


@pytest.mark.parametrize(
    "other",
    [
        evaluation(row("fr", 20.0), dataset="emoji"),
        evaluation(row("fr", 20.0), mode="text"),
        evaluation(row("fr", 20.0, n=900), split="paper"),
        evaluation(row("fr", 20.0, n=999), row("fr", 24.0, n=999, delta="d", gain=BETTER)),
    ],
    ids=["data", "mode", "split", "left out"],
)
def test_published_figures_are_not_shown_beside_another_task(other):
    assert published_beside(other) == []


def test_means_over_languages_need_all_of_them():
    assert [r.language for r in published_beside(evaluation(row("fr", 20.0)))] == ["fr"]
    assert sum(r.language == "mean" for r in published_beside(ALL)) == 6


def test_our_own_figures_stand_beside_them():
    ours = ours_beside(ALL, published_beside(ALL))
    assert [r.language for r in ours] == [*CAPTIONS_FILES, "mean"]
    assert ours[-1].figures["t2i R@1"] == 20 and ours[-1].figures["sd of t2i R@10"] == 0
    assert ours_beside(evaluation(row("fr", 20.0)), []) == []
    rows = (row("en", 30.0), row("fr", 20.0), row("fr", 24.0, delta="d", gain=BETTER))
    rows = ours_beside(evaluation(*rows), published_beside(ALL))[2:]
    assert [(r.system, r.language, r.figures["t2i R@1"]) for r in rows] == [
        ("xclipt builtin, d", "fr", 24),
        ("xclipt builtin, base", "mean", 25),
        ("xclipt builtin, deltas", "mean", 27),
    ]


def test_a_file_of_other_rows(tmp_path):
    path = tmp_path / "others.csv"
    path.write_text(
        "system,language,t2i R@10,dataset,mode,n,source\n"
        "A,fr,50.5,xtd,image,1000,a paper\n"
        "B,fr,60,,,,\n"
        "C,fr,70,multi30k,image,1000,another\n"
        "D,de,80,xtd,image,1000,not asked for\n"
    )
    rows, remarks = read_compared(path, evaluation(row("fr", 20.0)))
    assert [(r.system, r.figures, r.stated) for r in rows] == [
        ("A", {"t2i R@10": 50.5}, True),
        ("B", {"t2i R@10": 60.0}, False),
    ]
    assert len(remarks) == 1 and "1 rows" in remarks[0]
    page = as_html(evaluation(row("fr", 20.0)), compared=rows)
    assert "a paper" in page and "data and protocol not stated" in page


def test_a_file_as_a_spreadsheet_writes_it(tmp_path):
    path = tmp_path / "others.csv"
    path.write_text("system;language;t2i R@10\r\nÄ, B;fr;50,5\r\n", "utf-16")
    ((other,), _) = read_compared(path, evaluation(row("fr", 20.0)))
    assert (other.system, other.figures) == ("Ä, B", {"t2i R@10": 50.5})
    path.write_bytes("system;language;t2i R@10\nÄ;fr;50,5\n".encode("cp1252"))
    with pytest.raises(XcliptError, match=r"line 2 is not UTF-8; save the file as UTF-8$"):
        read_compared(path, evaluation(row("fr", 20.0)))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("system,t2i R@1\nA,5\n", "columns"),
        ("system,language,t2i R@1\nA,,5\n", "row 2"),
        ("system,language,t2i R@1\nA,fr,high\n", "'high'"),
        ("system,language,t2i R@1\nA,fr,105\n", "'105'"),
        ("system,language,t2i MRR\nA,fr,42\n", "'42'"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path, text, part):
    path = tmp_path / "others.csv"
    path.write_text(text)
    with pytest.raises(XcliptError, match=r"others\.csv") as caught:
        read_compared(path, evaluation(row("fr", 20.0)))
    assert part in str(caught.value)
