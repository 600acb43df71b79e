"""Encoding captions against sentence-transformers and bare torch; many languages in one batch."""

import random
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from tests.benchmarks.bare import BareTower, sorted_batches
from tests.benchmarks.material import (
    BFLOAT16,
    FLOAT32,
    builtin,
    captions,
    dtype_name,
    source,
)
from tests.benchmarks.measuring import (
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.factories.deltas import store_noise
from tests.factories.tiny import workspace_in
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import converted_text_tower
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.data.formats.reading import Reading
from xclipt.embedding.embed import EmbeddingRequest, embed_texts, merge_shards
from xclipt.embedding.sources import open_texts
from xclipt.model import Model
from xclipt.progress import Silent

SENTENCE_TRANSFORMERS = "sentence-transformers"
_CALL = 8
_KNOWN = (
    *("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "es", "et", "fa", "fi", "fr", "he", "hi"),
    *("hu", "id", "it", "ja", "ko", "lt", "nl", "no", "pl", "pt", "ro", "ru", "sv", "te", "tr"),
    *("uk", "zh"),
)


def encoding(setting: Setting) -> Measured:
    """Captions of eleven languages in turn, tokenising included."""
    texts = captions(setting, setting.size(10_000, least=22))
    reference = sentence_transformer(builtin(setting.device))
    candidates: dict[str, Callable[[], object]] = {
        SENTENCE_TRANSFORMERS: partial(reference.encode, texts, prompt="query: ")
    }
    for dtype in (FLOAT32, BFLOAT16):
        backbone, name = builtin(setting.device, dtype), dtype_name(dtype)
        bare, batches = BareTower(backbone), sorted_batches(backbone, backbone.tokenizer(texts))
        candidates[f"captions, {name}"] = partial(backbone.encode_texts, texts)
        candidates[f"bare torch, {name}"] = partial(bare.forward, batches)
    taken = interleaved(candidates, setting, warm=False)
    remark = f"{len(texts):,} captions {source(setting)}".strip()
    names = [dtype_name(dtype) for dtype in (FLOAT32, BFLOAT16)]
    return Measured(
        (
            *(
                taken.times_as_fast(f"captions, {n}", SENTENCE_TRANSFORMERS, at_least(3), remark)
                for n in names
            ),
            *(
                taken.times_as_long(f"captions, {n}", f"bare torch, {n}", at_most(1.10))
                for n in names
            ),
        )
    )


def sentence_transformer(backbone: Backbone) -> Any:
    """The builtin text tower as that library's model, in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its modules have moved
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Dense, Pooling, Transformer

        head: Any = backbone.text_tower.head
        width = head.project.in_features
        dense = Dense(width, backbone.dim, activation_function=nn.Identity())
        dense.linear.load_state_dict(head.project.state_dict())
        folder = str(converted_text_tower(Silent()))
        transformer = Transformer(folder, max_seq_length=backbone.tokenizer.max_length)
        modules = [transformer, Pooling(width, pooling_mode="mean"), dense]
        return SentenceTransformer(modules=modules, device=str(backbone.device))


def mixing(setting: Setting) -> Measured:
    """Texts of many languages in one call, against as many of one language."""
    backbone = builtin(setting.device)
    there = workspace_in(setting.folder / "mixing", backbone)
    for seed, code in enumerate(_KNOWN):
        store_noise(there, code, "noise", 0.01, seed=seed, spec=WARM_START_SPEC)
    model = Model(there)
    figures = []
    for count in (32, 128):
        texts = captions(setting, setting.size(count, least=count // 8))
        languages = [_KNOWN[i % len(_KNOWN)] for i in range(len(texts))]
        one, mixed = f"{len(texts)} texts of one", f"{len(texts)} texts, {len(_KNOWN)} languages"
        apart = f"{len(texts)}, a call a language"
        taken = interleaved(
            {
                one: partial(model.encode_text, texts, _KNOWN[0]),
                mixed: partial(model.encode_text, texts, languages),
                apart: partial(_apart, model, texts, languages),
            },
            setting,
        )
        figures += [taken.times_as_fast(mixed, one, at_least(0.95))]
        figures += [taken.times_as_fast(apart, one)]
    return Measured(tuple(figures))


def _apart(model: Model, texts: Sequence[str], languages: Sequence[str]) -> None:
    """A call a language."""
    for code in dict.fromkeys(languages):
        own = zip(texts, languages, strict=True)
        model.encode_text([text for text, language in own if language == code], code)


def capacity(setting: Setting) -> Measured:
    """Texts of 32 languages, drawn by Zipf's law, where few of their deltas stay in memory."""
    there = workspace_in(setting.folder / "capacity", builtin(setting.device))
    for seed, code in enumerate(_KNOWN):
        store_noise(there, code, "noise", 0.01, seed=seed, spec=WARM_START_SPEC)
    texts = captions(setting, setting.size(256, least=_CALL))
    shares = [1 / rank for rank in range(1, len(_KNOWN) + 1)]
    languages = random.Random(0).choices(_KNOWN, shares, k=len(texts))

    def encode(model: Model) -> None:
        for start in range(0, len(texts), _CALL):
            part = slice(start, start + _CALL)
            model.encode_text(texts[part], languages[part])

    kept = {
        f"{count} of {len(_KNOWN)} deltas kept": partial(encode, Model(there, capacity=count))
        for count in (len(_KNOWN), 10, 3)
    }
    every, *fewer = kept
    taken = interleaved(kept, setting)
    remark = f"{len(texts)} texts in calls of {_CALL}, languages by Zipf's law"
    return Measured(tuple(taken.times_as_fast(name, every, remark=remark) for name in fewer))


def embedding(setting: Setting) -> Measured:
    """A file of features, by one process and in two shards after each other."""
    backbone = builtin(setting.device)
    there = workspace_in(setting.folder / "embedding", backbone)
    delta = store_noise(there, "de", "noise", 0.01, spec=WARM_START_SPEC)
    texts = captions(setting, setting.size(2048, least=70))
    lines, out = setting.folder / "lines.txt", setting.folder / "out.npy"
    lines.write_text("".join(f"{' '.join(text.split())}\n" for text in texts), "utf-8")
    model = Model(there)

    def embed(shards: int) -> None:
        out.unlink(missing_ok=True)
        for shard in range(shards):
            request = EmbeddingRequest(out, shards=shards, shard=shard)
            embed_texts(there, open_texts(lines, "de", Reading()), request, "de", delta)
        if shards > 1:
            merge_shards(out, Silent())

    one, two = f"{len(texts):,} texts into a file", f"{len(texts):,} texts in two shards"
    taken = interleaved(
        {
            "encode_text": partial(model.encode_text, texts, "de"),
            one: partial(embed, 1),
            two: partial(embed, 2),
        },
        setting,
    )
    return Measured(tuple(taken.times_as_fast(name, "encode_text") for name in (one, two)))


ROWS = (
    Row("captions", "encoding captions of eleven languages", encoding),
    Row("mixing", "a batch of many languages against one of a single language", mixing),
    Row("capacity", "many languages where few deltas stay in memory", capacity),
    Row("embed", "features into a file against features in memory", embedding),
)
