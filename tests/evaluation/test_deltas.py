"""Which deltas are measured, and which requests contradict themselves."""

import pytest

from tests.factories.deltas import store_noise
from tests.factories.tiny import workspace_in
from xclipt.deltas.adapter import AdapterSpec
from xclipt.errors import XcliptError
from xclipt.evaluation.deltas import choose_deltas
from xclipt.evaluation.queries import EvaluationRequest


@pytest.fixture
def directory(tmp_path):
    workspace = workspace_in(tmp_path)
    for language, name, seed in (
        *(("fr", "one-seed1", 1), ("fr", "one-seed2", 2), ("fr", "other", 1)),
        ("de", "one-seed1", 1),
    ):
        store_noise(workspace, language, name, 0.1, seed=seed)
    return workspace.directory


def chosen(directory, *languages, **options):
    return {
        language: [delta.manifest.name for delta in deltas]
        for language, deltas in choose_deltas(directory, languages, **options).items()
    }


def test_deltas_are_current_named_compared_or_siblings(directory):
    assert chosen(directory, "fr", "de", "ja") == {"fr": ["other"], "de": ["one-seed1"]}
    assert chosen(directory, "fr", name="none") == {}
    assert chosen(directory, "fr", name="one-seed2") == {"fr": ["one-seed2"]}
    # Languages without it are measured without one.
    assert chosen(directory, "fr", "de", name="other") == {"fr": ["other"]}
    assert chosen(directory, "fr", against="one-seed1") == {"fr": ["other", "one-seed1"]}
    siblings = {"fr": ["one-seed1", "one-seed2"]}
    assert chosen(directory, "fr", "de", name="one-seed1", seeds=True) == siblings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "none", "seeds": True}, "delta 'none': is the base alone; leave out `against`"),
        ({"name": "other", "against": "other"}, "against 'other': is the same delta as `delta`"),
        ({"against": "other", "seeds": True}, "against: leave it out with `seeds`"),
        ({"name": "gone"}, r"no delta 'gone' for 'fr' \(there: one-seed1, one-seed2, other\)"),
        ({"seeds": True}, "seeds: 'fr' has 0 deltas named other-seedN; train two at least"),
    ],
)
def test_what_cannot_be_chosen_is_told(directory, options, message):
    with pytest.raises(XcliptError, match=message):
        choose_deltas(directory, ["fr"], **options)


def test_siblings_that_differ_in_more_than_the_seed_are_refused(directory, tmp_path):
    store_noise(workspace_in(tmp_path), "fr", "one-seed3", 0.1, spec=AdapterSpec(bottleneck=2))
    with pytest.raises(XcliptError, match=r"one-seed1 and one-seed3 of 'fr' differ in their kind"):
        choose_deltas(directory, ["fr"], name="one-seed1", seeds=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "sound"}, "mode 'sound': choose auto, image, text"),
        ({"text": "to-fr"}, "text 'to-fr': choose target, to-en"),
        ({"limit": 1}, "limit '1': retrieval needs at least 2 pictures"),
    ],
)
def test_requests_are_checked(change, message):
    with pytest.raises(XcliptError, match=message):
        EvaluationRequest(["fr"], **change)
