"""Hub correction: what it does to a hub, that it is one more dimension, and what is refused."""

import gzip
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.factories.datasets import caption_row, write_captions
from xclipt.errors import UsageError
from xclipt.hubness import (
    FEWEST_TEXTS,
    biased_pictures,
    biased_queries,
    hub_bias,
    open_banks,
    read_bank,
    spread,
)
from xclipt.metrics import occurrences, retrieval_ranks, skewness


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture(scope="module")
def with_a_hub():
    """Pictures, of which the first is near to all texts; queries, one a picture; and a bank."""
    common = F.normalize(torch.ones(1, 32), dim=1)
    pictures = torch.cat([common, F.normalize(unit(99, 32, 0) + 0.5 * common, dim=1)])

    def asked(seed):
        return F.normalize(pictures + 1.4 * unit(100, 32, seed) + common, dim=1)

    return pictures, asked(1), torch.cat([asked(seed) for seed in range(2, 6)])


def test_a_hub_is_demoted_and_what_it_hid_is_found(with_a_hub):
    pictures, queries, bank = with_a_hub
    index = torch.arange(100)
    bias = hub_bias(pictures, bank)
    assert bias.argmax() == 0
    corrected = biased_pictures(pictures, bias), biased_queries(queries)
    plain_found, found = occurrences(pictures, queries), occurrences(*corrected)
    assert plain_found[0] > 2 * found[0] > 0, "it is still found, by those who ask for it"
    assert skewness(found) < skewness(plain_found) / 2
    plain = retrieval_ranks(pictures, queries, index)
    ranks = retrieval_ranks(*corrected, index, normalise=False)
    assert (ranks.t2i == 1).sum() > (plain.t2i == 1).sum()
    assert (ranks.i2t == plain.i2t).all(), "all texts of a picture lose the same"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 8))
def test_the_correction_is_one_more_dimension(seed, sharpness):
    pictures, queries, bank = (unit(n, 16, seed + n) for n in (30, 20, 50))
    products = (
        biased_queries(queries) @ biased_pictures(pictures, hub_bias(pictures, bank, sharpness)).T
    )
    cosines = pictures.double() @ bank.double().T
    b = sharpness / cosines.std(correction=0)
    near = (b * cosines).exp().mean(1).log() / b
    corrected = queries.double() @ pictures.double().T - near
    assert torch.allclose(products.double(), corrected, atol=1e-5)


def test_the_spread_of_the_cosines_does_not_count():
    # A tower whose cosines lie ten times closer together ranks the same way.
    pictures, bank = unit(40, 16, 0), unit(300, 16, 1)
    assert spread(pictures, bank) == pytest.approx(float((pictures @ bank.T).std()), rel=1e-3)
    assert torch.allclose(hub_bias(pictures, bank / 10), hub_bias(pictures, bank) / 10, atol=1e-6)
    same = pictures[:1].repeat(5, 1)
    assert torch.isfinite(hub_bias(same, same)).all()


def test_the_bias_is_between_the_mean_and_the_largest_cosine():
    pictures, bank = unit(10, 8, 0), unit(300, 8, 1)
    cosines = pictures @ bank.T
    assert torch.allclose(hub_bias(pictures, bank, 1e-3), cosines.mean(1), atol=1e-2)
    assert torch.allclose(hub_bias(pictures, bank, 1e4), cosines.amax(1), atol=1e-2)
    blocks = hub_bias(pictures, bank, block_bytes=4 * 300 * 3)
    assert torch.allclose(blocks, hub_bias(pictures, bank), atol=1e-6)


def test_occurrences_and_skewness_of_known_cases():
    pictures = torch.eye(4)
    captions = torch.tensor([[1.0, 0.9, 0, 0], [0.8, 1, 0, 0], [1, 0, 0.9, 0]])
    assert occurrences(pictures, captions, k=2).tolist() == [3, 2, 1, 0]
    assert occurrences(pictures, captions, k=2, block_bytes=16).tolist() == [3, 2, 1, 0]
    assert occurrences(pictures, captions).tolist() == [3, 3, 3, 3]
    assert skewness(np.array([3, 3, 3])) == 0
    # Worked out by hand: mean 1, deviations -1 -1 -1 3, variance 3, third moment 6.
    assert skewness(np.array([0, 0, 0, 4])) == pytest.approx(6 / 3**1.5)


def texts(count: int, word: str = "chien") -> list[str]:
    return [f"un {word} numéro {k}" for k in range(count)]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_banks_are_lines_or_captions_without_what_is_there_twice(tmp_path):
    lines = texts(FEWEST_TEXTS)
    again = ["", "  ", "UN CHIEN,  numéro 7!", lines[3]]
    plain = write(tmp_path / "bank.txt", [*lines, *again])
    assert read_bank(plain, "fr").texts == tuple(lines)
    packed = tmp_path / "bank.fr.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_bank(packed, "fr").texts == tuple(lines)
    rows = [caption_row(f"{k}.jpg", *lines[2 * k : 2 * k + 2]) for k in range(FEWEST_TEXTS // 2)]
    write_captions(tmp_path / "folder", "fr", *rows)
    assert read_bank(tmp_path / "folder", "fr").texts == tuple(lines)
    table = tmp_path / "table.csv"
    write(table, ["image,caption", *(f"{k}.jpg,{line}" for k, line in enumerate(lines))])
    assert read_bank(table, "fr").texts == tuple(lines)
    many = write(tmp_path / "many.jsonl", map(json.dumps, rows))
    assert read_bank(many, "fr").texts == tuple(lines)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (texts(FEWEST_TEXTS - 1) * 2, "199 different texts of 'fr', and 200 are the least: with"),
        (["собака"] + [f"кошка {k}" for k in range(250)] + texts(240), "not written as 'fr' is"),
        ([], "0 different texts"),
    ],
)
def test_banks_that_would_mislead_are_refused(tmp_path, lines, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_bank(write(tmp_path / "bank.txt", lines), "fr")
    assert caught.value.field == "hub_bank" and caught.value.value == tmp_path / "bank.txt"


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_bank(tmp_path / "gone.txt", "fr")
    (tmp_path / "cp.txt").write_bytes("numéro\n".encode("cp1252") * 300)
    with pytest.raises(UsageError, match=r"cp\.txt': line 1 is not UTF-8"):
        read_bank(tmp_path / "cp.txt", "fr")


def test_queries_that_the_bank_holds_are_told_whatever_their_spelling(tmp_path):
    bank = read_bank(write(tmp_path / "bank.txt", texts(300)), "fr")
    bank.require_apart(["un chien", "un chien numéro 300"])
    asked = ["Un chien  numéro 12.", "un chat", "un chien numéro 299", "un chien numéro 299"]
    with pytest.raises(
        UsageError, match=r"2 texts of it are among the 'fr' .* 'Un chien  numéro 12"
    ):
        bank.require_apart(asked)
    decomposed = "un chien nume\u0301ro 5"
    with pytest.raises(UsageError, match="1 text of it is among"):
        bank.require_apart([decomposed])


def test_every_bank_has_a_language_that_is_asked_in(tmp_path):
    one = write(tmp_path / "one.txt", texts(200))
    two = write(tmp_path / "de=x.txt", texts(200, "hund"))
    assert open_banks([str(one)], ["fr"])["fr"].path == one
    assert set(open_banks([f"fr={one}", f"deu={two}"], ["de", "fr", "en"])) == {"fr", "de"}
    # A file may be called so.
    assert open_banks([str(two)], ["fr", "fr"])["fr"].path == two
    assert set(open_banks([f"fr={one}"], [], detected=True)) == {"fr"}
    for named, languages, detected, message in (
        ([str(one)], ["fr", "de"], False, "of which language it is: `hub_bank=CODE=FILE`"),
        ([str(one)], ["fr", None], False, "of which language"),
        ([str(one)], ["fr"], True, "of which language"),
        ([f"de={one}"], ["fr"], False, r"nothing is asked in 'de' \(fr\)"),
        ([f"de={one}"], [None], False, "no language is named"),
        ([f"fr={one}", f"fr={two}"], ["fr"], False, "'fr' has .*one.txt already"),
        ([f"zzz={one}"], ["fr"], False, "zzz"),
    ):
        with pytest.raises(UsageError, match=message):
            open_banks(named, languages, detected=detected)
