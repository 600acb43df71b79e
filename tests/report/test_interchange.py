"""Other tools' formats hold the same figures under their own names."""

import csv
import io
import json

import pytest

from tests.factories.evaluations import (
    BETTER,
    WORSE,
    evaluation,
    hub_corrected,
    row,
    three_verdicts,
)
from xclipt.errors import XcliptError
from xclipt.report.interchange import as_clip_benchmark, as_csv, as_markdown, as_mteb
from xclipt.report.plots import write_plot


def test_csv_has_every_metric_and_the_gain():
    rows = list(csv.DictReader(io.StringIO(as_csv(three_verdicts()))))
    assert [r["delta"] for r in rows] == ["", "", "good", "", "unclear", "", "bad"]
    assert rows[2]["t2i median_rank"] == "4.0000" and rows[2]["gain"] == "4.0000"
    assert rows[0]["gain"] == "" and rows[0]["protocol"] == "zero-shot"


def test_csv_has_the_share_of_the_gap_and_hub_correction_where_they_are():
    shares = {"gap_closed": 20.0, "gap_closed_ci95": (10.0, 30.0)}
    corrected = hub_corrected(25.0, BETTER)
    text = as_csv(
        evaluation(row("fr", 20.0, hub_corrected=corrected), row("fr", 24.0, delta="d", **shares))
    )
    base, delta = csv.DictReader(io.StringIO(text))
    assert [float(delta[n]) for n in ("gap closed", "gap closed low", "gap closed high")] == [
        *(20, 10, 30)
    ]
    assert {float(base[name]) for name in base if name.startswith("hub change")} == {4, 2, 6}
    assert float(base["hub texts"]) == 260 and float(base["hub mean R@1"]) == 25
    assert float(base["hub t2i R@5"]) == 70.5 and float(base["hub t2i median_rank"]) == 1
    assert float(base["hub N10 skew"]) == 1.25 and float(base["plain N10 skew"]) == 3.75
    assert base["gap closed low"] == "" and delta["hub texts"] == delta["hub change"] == ""


@pytest.mark.parametrize("sign", [*"=+-@", " =", "\uff1d", "\uff0b"])
def test_text_in_csv_is_no_formula_and_numbers_stay_numbers(sign):
    formula = f"{sign}cmd|' /C calc'!A0"
    worse = row("fr", 20.0, delta=formula, prompt=formula, gain=WORSE)
    text = as_csv(evaluation(row("fr", 29.0), worse, dataset=formula))
    found = list(csv.DictReader(io.StringIO(text, newline="")))[1]
    assert [found[name] for name in ("dataset", "delta", "prompt")] == [f"'{formula}"] * 3
    assert found["system"] == f"'{formula}" or found["system"][0].isalpha()
    assert float(found["gain"]) == -9.0 and float(found["gain low"]) == -12.0
    assert found["language"] == "fr" and found["split"] == "test"


@pytest.mark.parametrize("sign", ["\t", "\r", "\n", "\r\n"])
def test_cells_of_csv_are_of_one_line(sign):
    text = as_csv(evaluation(row("fr", 29.0), dataset=f"{sign}=1+1{sign}x"))
    assert len(text.splitlines()) == 2 and text.splitlines()[1].startswith("\\")


def test_markdown_is_a_table_of_equal_columns():
    lines = [line for line in as_markdown(three_verdicts()).splitlines() if line.startswith("| ")]
    first = lines[:8]
    assert len({line.count("|") for line in first}) == 1
    assert "| worse |" in first[7] and "-9.0 [-12.0, -6.0]" in first[7]


def test_clip_benchmark_files_are_in_its_layout():
    files = as_clip_benchmark(three_verdicts())
    assert len(files) == 7
    result = json.loads(files["xtd_builtin__good_fr.json"])
    assert result.keys() == {"dataset", "model", "pretrained", "task", "metrics", "language"}
    assert result["task"] == "zeroshot_retrieval" and result["language"] == "fr"
    assert result["metrics"]["image_retrieval_recall@1"] == pytest.approx(0.24)
    assert result["metrics"]["text_retrieval_recall@5"] == pytest.approx(0.48)


def test_text_mode_is_not_passed_off_as_image_retrieval():
    text = evaluation(row("fr", 30.0), mode="text")
    (result,) = as_clip_benchmark(text).values()
    assert json.loads(result)["task"] == "text_to_english"
    assert all("T2IRetrieval" not in path for path in as_mteb(text))


def test_mteb_files_hold_what_its_task_results_need():
    files = as_mteb(three_verdicts())
    assert len(files) == 8, "the base and three deltas, two directions"
    result = json.loads(files["builtin__base/aaaaaaaaaaaa/XcliptXtdT2IRetrieval.json"])
    assert {"task_name", "dataset_revision", "mteb_version", "evaluation_time"} <= result.keys()
    scores = result["scores"]["test"]
    assert [s["hf_subset"] for s in scores] == ["en", "fr", "de", "es"]
    assert scores[1]["languages"] == ["fra-Latn"]
    assert scores[1]["main_score"] == scores[1]["hit_rate_at_1"] == pytest.approx(0.2)


def test_names_cannot_leave_the_folder():
    odd = evaluation(row("fr", 20.0), dataset="../../etc/passwd")
    for files in (as_clip_benchmark(odd), as_mteb(odd)):
        assert all(".." not in path.split("/") and not path.startswith("/") for path in files)


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_plots_are_files_of_their_format(tmp_path, name, start):
    write_plot(tmp_path / name, three_verdicts())
    data = (tmp_path / name).read_bytes()
    assert data.startswith(start)
    write_plot(tmp_path / name, three_verdicts())
    assert (tmp_path / name).read_bytes() == data, "the same figures give the same bytes"


def test_other_plot_formats_are_refused(tmp_path):
    with pytest.raises(XcliptError, match=r"plot .*a\.gif.: must end in .png or .svg"):
        write_plot(tmp_path / "a.gif", three_verdicts())
