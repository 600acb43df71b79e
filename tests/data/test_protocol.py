"""The paper's split of a data set in one piece."""

import pytest
import torch

from xclipt.data.emoji import EmojiDataset
from xclipt.data.protocol import ProtocolDataset
from xclipt.data.registry import open_dataset
from xclipt.errors import XcliptError


def test_it_is_the_papers_split_of_xtd(data_root):
    xtd = open_dataset("xtd", data_root)
    every = [p.image for p in xtd.captions("en", None)]
    torch.manual_seed(42)
    order = torch.randperm(1000).tolist()
    split = ProtocolDataset(xtd, 50)
    parts = {
        name: {p.image for p in split.captions("ja", name)}
        for name in ("paper-train", "paper-val", "paper", "full")
    }
    assert parts["paper-train"] == {every[i] for i in order[:50]}
    assert parts["paper-val"] == {every[i] for i in order[50:100]}
    assert parts["paper"] == {every[i] for i in order[100:]}
    assert len(parts["full"]) == 1000


def test_data_with_splits_of_its_own_keeps_them():
    with pytest.raises(XcliptError, match="emoji has the splits"):
        ProtocolDataset(EmojiDataset(), 50)


def test_too_many_shots_leave_no_test(data_root):
    with pytest.raises(XcliptError, match="--shots 500"):
        ProtocolDataset(open_dataset("xtd", data_root), 500)
