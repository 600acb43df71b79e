"""The report: what it says, and that it needs and runs nothing from elsewhere."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from tests.factories.evaluations import (
    BETTER,
    UNCLEAR,
    WORSE,
    evaluation,
    hub_corrected,
    row,
    three_verdicts,
)
from xclipt.evaluation.published import OtherRow
from xclipt.evaluation.results import SeedSummary
from xclipt.report.drawings import strip
from xclipt.report.gallery import Example, Found, LanguageGallery, Match
from xclipt.report.html import as_html

PIXEL = "data:image/jpeg;base64,AAAA"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "line", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed(page.replace("/>", ">"))
    assert not parser.open, "every element is closed"
    return parser.elements


def gallery(language="ar", query="قطة", text="a cat") -> list[LanguageGallery]:
    right, wrong = Match(PIXEL, text, True), Match(PIXEL, "a dog", False)
    found = (Found("base", (wrong,) * 5, 37), Found("good", (right, *(wrong,) * 4), 1))
    example = Example("win", query, text, found, right)
    return [LanguageGallery(language, 60, {"win": 3, "loss": 1, "failure": 9}, (example,))]


def part(page: str, start: str, end: str) -> str:
    return page[page.index(start) : page.index(end)]


def test_better_unclear_and_worse_are_told_apart():
    page = as_html(three_verdicts())
    verdicts = part(page, "<h2>By language", "<h2>Disparity")
    shown = re.findall(r'class="(\w+)-text">([\w ]+): ([-+.\d]+)', verdicts)
    assert shown == [
        ("better", "better", "+4.0"),
        ("unclear", "no clear difference", "+0.4"),
        ("worse", "worse", "-9.0"),
    ]
    assert verdicts.count('class="fill fill-worse"') == 1
    assert verdicts.count('class="fill fill-better"') == 1


def test_what_is_not_significant_is_never_green():
    page = as_html(
        evaluation(row("en", 40.0), row("fr", 20.0), row("fr", 20.4, delta="d", gain=UNCLEAR))
    )
    body = part(page, "<body>", "</body>").replace('<i class="fill-better"></i>', "", 1)
    assert "better-text" not in body and "fill-better" not in body
    assert "No clear difference between delta and base in French" in body


def test_a_worse_delta_is_the_headline():
    page = as_html(evaluation(row("fr", 30.0), row("fr", 21.0, delta="bad", gain=WORSE)))
    assert '<div class="headline worse">' in page
    assert "The delta is worse than the base in French" in page


def test_nothing_is_fetched_and_nothing_runs():
    page = as_html(three_verdicts(), gallery=gallery())
    for tag, attributes in elements(page):
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset"):
            if name in attributes:
                within = ("data:image/jpeg;base64,", "#")
                assert (attributes[name] or "").startswith(within)
    assert "url(" not in page and "@import" not in page and "://" not in page


def test_text_from_data_is_text():
    evil = "<script>alert(1)</script>\"' onload=x"
    page = as_html(
        evaluation(row("fr", 30.0), dataset=evil),
        gallery=gallery("fr", query=evil, text=evil),
        remarks=[evil],
    )
    assert "<script" not in page
    assert all("onload" not in attributes for _, attributes in elements(page))


def test_queries_say_their_language_and_direction():
    queries = {
        language: next(
            attributes
            for tag, attributes in elements(as_html(three_verdicts(), gallery=gallery(language)))
            if attributes.get("class") == "query"
        )
        for language in ("ar", "fa", "ja", "fr")
    }
    assert {code: q["dir"] for code, q in queries.items()} == {
        **{"ar": "rtl", "fa": "rtl"},
        **{"ja": "ltr", "fr": "ltr"},
    }
    assert all(q["lang"] == code for code, q in queries.items())


def test_the_right_picture_is_marked_and_added_where_it_was_not_found():
    page = as_html(three_verdicts(), gallery=gallery())
    right = [attrs for tag, attrs in elements(page) if tag == "li" and "class" in attrs]
    assert [attrs["class"] for attrs in right] == ["right answer", "right"]
    assert "base: the right one is number 37" in page
    assert sum(tag == "img" for tag, _ in elements(page)) == 11
    assert "win 3, loss 1, failure 9" in page


def test_the_share_of_the_gap_has_its_interval():
    shares = {"gap_closed": 20.2, "gap_closed_ci95": (9.6, 30.4)}
    page = as_html(
        evaluation(
            *(row("en", 40.0), row("fr", 20.0), row("fr", 24.0, delta="a", gain=BETTER, **shares)),
            row("fr", 24.0, delta="b", gain=BETTER, gap_closed=20.2),
            row("fr", 24.0, delta="c", gain=BETTER),
        )
    )
    table = part(page, "<h2>Deltas", "<h2>All metrics")
    cells = re.findall(r"<td>(-|\d+ %[^<]*)</td>", table)
    assert cells == ["20 % [10, 30]", "20 % (no clear gap)", "-"]


def test_hub_correction_has_a_table_where_it_was_measured():
    rows = (row("fr", 30.0, hub_corrected=hub_corrected(34.0, BETTER)), row("fr", 31.0, delta="d"))
    page = as_html(evaluation(*rows))
    table = part(page, "<h2>With hub correction", "<footer")
    assert re.findall(r"<td[^>]*>([^<]+)</td>", table) == [
        *("French", "base", "260", "34.0 70.5 80.5", "34.0 [32.0, 36.0]"),
        *("+4.0 [+2.0, +6.0]", "better", "1.25 (3.75)"),
    ]
    assert "hub correction" not in as_html(three_verdicts())


def test_text_mode_says_so():
    assert "no pictures were used" in as_html(evaluation(row("fr", 30.0), mode="text"))
    assert "no pictures were used" not in as_html(evaluation(row("fr", 30.0)))
    with_english = as_html(evaluation(row("en", 100.0), row("fr", 30.0), mode="text"))
    assert "upper bound by\nconstruction" in with_english


def test_unlike_sizes_are_remarked():
    assert "on the same pictures" in as_html(evaluation(row("en", 40.0), row("tr", 50.0, n=37)))
    assert "on the same pictures" not in as_html(
        evaluation(row("en", 40.0), row("tr", 50.0, n=990))
    )


def test_of_seeds_the_disparity_shows_the_mean():
    rows = (
        *(row("en", 40.0), row("fr", 20.0)),
        *(row("fr", v, delta=f"d-seed{v:.0f}", gain=UNCLEAR) for v in (22.0, 30.0)),
    )
    summary = SeedSummary("fr", "d", 2, 26.0, 5.7, BETTER, {"mean R@1": (26.0, 5.7)})
    page = as_html(replace(evaluation(*rows), seeds=(summary,)))
    assert re.findall(r'title="(French [\d.]+)">\s+<i class="([\w-]+)"', page) == [
        ("French 20.0", "fill-base"),
        ("French 26.0", "fill-better"),
    ]
    assert "fr + d-seed22" in page and "fr + d-seed30" in page and "fr + delta" not in page


def test_labels_of_languages_do_not_run_into_each_other():
    marks = strip({"fr": 20.0, "de": 20.5, "ja": 30.0, "en": 41.0, "id": 20.0}, 50)
    assert [(m.language, m.lane) for m in marks] == [
        *(("fr", 0), ("id", 1), ("de", 2)),
        *(("ja", 0), ("en", 0)),
    ]
    assert [m.left for m in marks] == [40, 40, 41, 60, 82]


def test_our_figures_stand_beside_others():
    other = OtherRow("Other", "fr", {"t2i R@1": 55.5, "t2i MRR": 0.61}, "a paper", True)
    page = as_html(evaluation(row("fr", 30.0)), compared=[other])
    beside = part(page, "<h2>Beside", "<footer")
    assert re.findall(r"<td>([\d.]+)</td>", beside) == ["30.0", "0.250", "55.5", "0.610"]
    assert beside.index("xclipt builtin, base") < beside.index("Other")


def test_it_follows_the_readers_colours_and_screen():
    page = as_html(three_verdicts())
    assert "prefers-color-scheme: dark" in page and "@media (max-width" in page
    assert '<meta name="viewport" content="width=device-width' in page


def test_the_policy_allows_the_styles_of_the_page_and_nothing_else():
    hostile = gallery(query='<b style="color: red">', text="{{ the policy }}")
    page = as_html(three_verdicts(), gallery=hostile)
    found = elements(page)
    metas = [attrs for tag, attrs in found if tag == "meta" and "http-equiv" in attrs]
    assert [meta["http-equiv"] for meta in metas] == ["Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in metas[0]["content"].split(";"))
    assert policy.pop("img-src") == "data:"
    sources = policy.pop("style-src").split()
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert sources.pop(0) == "'unsafe-hashes'" and "'unsafe-inline'" not in sources
    sheets = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    attributes = [attrs["style"] for _, attrs in found if "style" in attrs]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in (*sheets, *attributes)
    }
    assert len(attributes) > 20 and set(sources) == hashes
