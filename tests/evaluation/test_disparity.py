"""How unequal languages are, against figures worked out by hand."""

import pytest

from xclipt.metrics import disparity, gap_closed


def test_disparity_figures():
    figures = disparity({"en": 40.0, "fr": 20.0, "de": 30.0})
    assert figures.sd == pytest.approx(8.16496580927726)
    assert figures.range == 20
    assert figures.english_gap == 15
    assert figures.worst_language == "fr" and figures.languages == ("en", "fr", "de")
    assert disparity({"fr": 20.0, "de": 30.0}).english_gap is None
    assert disparity({"en": 20.0}).english_gap is None


def test_share_of_the_gap_to_english():
    assert gap_closed(20, 25, 40) == 25
    assert gap_closed(20, 44, 40) == 120
    assert gap_closed(20, 15, 40) == -25
    assert gap_closed(40, 45, 40) is None
