"""Captions of the same photographs by origin: which are compared, and that none is trained on."""

import re
from dataclasses import replace

import pytest

import caption_origin
from xclipt.backbones.builtin.train_warm_start import human_captions
from xclipt.data.dataset import TranslatedLines
from xclipt.data.registry import open_dataset
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError


class Translated(EmojiDataset):
    """Emoji with cs, and names "translated" into English by taking the English ones."""

    languages = (*EmojiDataset.languages, "cs")

    def captions(self, language, split):
        return super().captions("fr" if language == "cs" else language, split)

    def translations(self, source, target, split):
        sources, texts = ([p.captions[0] for p in self.captions(c, split)] for c in (source, "en"))
        texts[0] = ""
        return [TranslatedLines(None, tuple(sources), tuple(texts))]


@pytest.mark.slow
def test_origins_are_compared_on_the_same_photographs(backbone):
    native = EmojiDataset()
    origins = caption_origin.caption_origins(native, Translated())
    counts = {len(origin.captions) for origin in origins}
    # The first picture has no translation.
    assert counts == {len(native.captions("en", "train")) - 1}
    few = [replace(o, captions=dict(list(o.captions.items())[:30])) for o in origins]
    lines = caption_origin.origin_table(backbone, native, few).splitlines()
    assert lines[0].startswith("| caption, of 30 photographs |") and len(lines) == 2 + len(few)
    scores = {line.split("|")[1].strip(): line.split("|") for line in lines[2:]}
    # Texts that are the same score the same, and those of other languages are behind English.
    english = scores["English"]
    assert scores["that, back into English by machine (de)"][2:] == english[2:]
    assert scores["written in de for the photograph"][2] != english[2]
    assert re.fullmatch(
        r" -?\d+ % \[-?\d+, -?\d+\] ", scores["written in ja for the photograph"][4]
    )


def test_missing_translations_are_named():
    with pytest.raises(XcliptError, match=r"translated_to_en/train\.de\.gz"):
        caption_origin.caption_origins(EmojiDataset(), EmojiDataset())


@pytest.mark.slow
def test_they_are_real_captions_that_the_start_has_not_read(data_root):
    native = open_dataset("xflickrco", data_root)
    origins = caption_origin.caption_origins(native, open_dataset("multi30k", data_root))
    photographs = origins[0].captions.keys()
    assert len(photographs) > 400
    assert all(origin.captions.keys() == photographs for origin in origins)
    read = human_captions(data_root, frozenset(), 29_000, 0)
    assert not photographs & {parallel.image for pairs in read.values() for parallel in pairs}
