"""The feature cache: found by content, added to by several, never misread."""

import torch

from tests.factories.noting import Noting
from xclipt.artifacts.features import FeatureStore, cached_features
from xclipt.files import file_key, text_key
from xclipt.progress import Silent


def test_kept_from_one_opening_to_the_next(tmp_path):
    keys = [text_key(text) for text in ("un", "deux", "trois")]
    features = torch.randn(3, 4)
    FeatureStore(tmp_path, 4).add(keys, features)
    again = FeatureStore(tmp_path, 4)
    assert torch.equal(again.get(keys[::-1]), features.flip(0))
    assert text_key("quatre") not in again


def test_computes_only_what_is_new_and_each_content_once(tmp_path):
    asked = []

    def compute(rows):
        asked.append(rows)
        return torch.tensor([[float(row), 0.0] for row in rows])

    store = FeatureStore(tmp_path, 2)
    first = cached_features(store, [b"a" * 32, b"b" * 32, b"a" * 32], compute, Silent())
    assert len(asked) == 1 and len(asked[0]) == 2
    assert torch.equal(first[0], first[2])
    cached_features(FeatureStore(tmp_path, 2), [b"b" * 32, b"c" * 32], compute, Silent())
    assert asked[1] == [1]


def test_two_writers_do_not_disturb_each_other(tmp_path):
    one, two = FeatureStore(tmp_path, 2), FeatureStore(tmp_path, 2)
    one.add([b"a" * 32], torch.ones(1, 2))
    two.add([b"b" * 32], torch.zeros(1, 2))
    both = FeatureStore(tmp_path, 2)
    assert torch.equal(both.get([b"a" * 32, b"b" * 32]), torch.tensor([[1.0, 1], [0, 0]]))


def test_damaged_and_foreign_shards_are_passed_over(tmp_path):
    FeatureStore(tmp_path, 2).add([b"a" * 32], torch.ones(1, 2))
    FeatureStore(tmp_path, 3).add([b"c" * 32], torch.ones(1, 3))
    (tmp_path / "torn.safetensors").write_bytes(b"\x00\x01")
    store = FeatureStore(tmp_path, 2)
    assert b"a" * 32 in store and b"c" * 32 not in store


def test_unwritable_folder_is_remarked_and_work_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    listener = Noting()
    store = FeatureStore(tmp_path / "file" / "below", 2)
    features = cached_features(store, [b"a" * 32], lambda rows: torch.ones(1, 2), listener)
    assert torch.equal(features, torch.ones(1, 2))
    assert "not kept" in listener.notes[0]


def test_a_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert file_key(tmp_path / "a") == file_key(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"other")
    assert file_key(tmp_path / "a") != file_key(tmp_path / "b")
