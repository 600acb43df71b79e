"""The study of hub banks: what its cases hold, and that its tables are of the same photographs."""

import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import hub_correction
from hub_correction import Encoded, case, correct, sharpness_table
from xclipt.data.registry import open_dataset
from xclipt.data.sets.emoji import EmojiDataset


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_bank_of_such_queries_helps_and_one_of_others_does_not():
    pictures, common = unit(60, 0), F.normalize(torch.ones(1, 16), dim=1)
    pictures[:5] = F.normalize(pictures[:5] + 2 * common, dim=1)

    def asked(seed: int) -> torch.Tensor:
        return F.normalize(pictures + unit(60, seed) + 0.7 * common, dim=1)

    alike = correct(Encoded(pictures, asked(1), torch.cat([asked(s) for s in range(2, 9)])))
    assert alike.t2i[1] > alike.t2i[0] and alike.skew[1] < alike.skew[0]
    assert alike.r1[1] - alike.r1[0] == pytest.approx((alike.t2i[1] - alike.t2i[0]) / 2)
    elsewhere = correct(Encoded(pictures, asked(1), F.normalize(unit(400, 9) - common, dim=1)))
    assert elsewhere.t2i[1] < alike.t2i[1]
    lines = sharpness_table([Encoded(pictures, asked(1), asked(2))])
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["200", "1,000"]


def test_banks_are_of_other_photographs_and_hold_no_query(data_root):
    emoji = EmojiDataset()
    mixed = [*emoji.captions("fr", "test")[:9], *emoji.captions("fr", "train")[:9]]
    bank = case("fr", emoji, "fr", "test", mixed).bank
    assert sorted(bank) == sorted({item.captions[0] for item in mixed[9:]})
    sets = [open_dataset(n, data_root) for n in ("xflickrco", "flickr8k", "multi30k", "xtd")]
    for _, one in hub_correction.validation_cases(*sets[1:3]) + hub_correction.held_out_cases(
        *sets
    ):
        asked = {item.captions[0] for item in one.items}
        assert len(asked) > 50 and all(len(item.captions) == 1 for item in one.items)
        assert 200 <= len(one.bank) <= 1000 and not asked & set(one.bank)


@pytest.mark.slow
def test_the_table_of_banks(backbone):
    emoji = EmojiDataset()
    others = emoji.captions("fr", "train")[:220]
    few = case("fr, emoji", emoji, "fr", "test", others)
    few = replace(few, items=few.items[:40])
    seen: dict = {}
    encoded = hub_correction.encode(backbone, emoji, few, seen)
    assert len(seen) == 40
    (line,) = hub_correction.bank_table([(few.name, encoded)])[2:]
    assert re.fullmatch(
        r"\| fr, emoji \| 40 \| 2\d\d \| [\d.]+ \| [\d.]+ \| [+-][\d.]+ \[.*\] \| .* to .* \|", line
    )
