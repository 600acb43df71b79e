"""The study of captions that are no translations: what is measured, of which photographs."""

from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import independent_captions
import text_alone
from independent_captions import Found, as_tables, run
from photographs import Parts
from study import read_study, write_figures
from tests.factories.deltas import store_noise
from text_alone import BASE, ENGLISH, Measured, Study, kept_aside
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.workspace import Workspace

SHOTS = Measured("50 shots", "de", 0, 1, 184320, 2.0, [])


@pytest.fixture
def study() -> Study:
    path = Path(text_alone.__file__).with_name("text_alone.yaml")
    return replace(read_study(path, Study.parse), aside=5)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """Emoji: twelve are in both sets, and of each set four more."""
    names = [p.image for p in EmojiDataset().captions("en", "train")]
    sets = {
        "multi30k": Parts(EmojiDataset(), {"train": names[:16]}),
        "xflickrco": Parts(EmojiDataset(), {"all": names[4:20]}),
    }
    monkeypatch.setattr(independent_captions, "open_dataset", lambda name, _: sets[name])
    return Namespace(out=tmp_path, data_dir=None, rows=None)


@pytest.mark.slow
def test_what_was_trained_finds_the_shared_photographs(study, options, backbone):
    directory, _ = ArtifactDirectory.open_or_create(options.out / "artifacts", backbone.identity)
    store_noise(Workspace(directory, backbone, Silent()), "de", "50-shots-de-0-1", 0)
    write_figures(options.out / "cells" / "50-shots-de-0-1.jsonl", [asdict(SHOTS)])
    found = run(options, study)
    whole = independent_captions.open_dataset("multi30k", None)
    shared = {p.image for p in whole.captions("en", None)[4:]}
    aside = len(shared & {*kept_aside(whole, study.aside)})
    assert 0 < aside < len(shared) == 12
    assert [(one.measured.row, len(one.measured.hits)) for one in found] == [
        (row, count) for row in (ENGLISH, BASE, SHOTS.row) for count in (12, aside) * 2
    ]
    english, base, shots = (found[i].measured.hits for i in (0, 4, 8))
    # A fresh delta is the identity; English finds more.
    assert base == shots and sum(base) < sum(english)


def test_nothing_trained_is_told(study, options):
    with pytest.raises(XcliptError, match=r"run text_alone\.py first"):
        run(options, study)


def test_a_table_for_each_kind_of_photographs():
    def found(photographs, *hits):
        rows = zip((ENGLISH, BASE, SHOTS.row), ("en", "de", "de"), hits, strict=True)
        return [
            Found(photographs, replace(SHOTS, row=row, language=language, hits=given))
            for row, language, given in rows
        ]

    every = [*found("photographs", [2, 2], [0, 1], [1, 1]), *found("others", [2], [0], [0])]
    again = [Found.parse(asdict(one)) for one in every]
    lines = as_tables(again).splitlines()
    assert [line for line in lines if line.startswith("Mean")] == [
        "Mean R@1 of both directions, per cent, on 2 photographs.",
        "Mean R@1 of both directions, per cent, on 1 others.",
    ]
    closed = [line.split("|")[-3].strip() for line in lines if line.startswith("| 50 shots")]
    assert [share.split(" [")[0] for share in closed] == ["33 %", "0 %"]
