"""A backbone: a text tower and an image tower with one embedding space, frozen."""

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from xclipt.backbones.identity import BackboneIdentity
from xclipt.backbones.text_tower import TextTower
from xclipt.cores import side_by_side
from xclipt.devices import to_device
from xclipt.errors import XcliptError
from xclipt.languages import flores_code
from xclipt.progress import Progress, Silent

_TOKENS_ON_CPU, _TOKENS_ON_GPU = 512, 16_384
"""Positions that go through a text tower together. A processor's caches want few; a GPU waits for
the next kernel where they are few, and computes for padding rather."""
_PICTURES_ON_CPU, _PICTURES_ON_GPU = 4, 32
"""EfficientNet-Lite0 takes 14 ms a picture of one core by fours, 17 by eights and 20 by 32s: what
lies between its layers leaves the cache."""
_BATCHES_AHEAD = 2
"""So many of a GPU's are read while it computes."""


class NonFiniteError(XcliptError):
    """A tower makes something of a text or picture that is no vector of numbers.

    Args:
        whose: The backbone or delta.
        what: The text or picture.
        remedy: What to do about it.
        position: Where ``what`` stands among those that were encoded together.
    """

    def __init__(self, whose: str, what: str, remedy: str, position: int = 0) -> None:
        super().__init__(f"{whose}: its features of {what} are not finite; {remedy}")
        self.position = position


@dataclass(frozen=True)
class CaptionTokenizer:
    """Turns captions into token ids the way one text tower wants them.

    Attributes:
        tokenizer: A transformers fast tokenizer.
        prefix: Put before every caption (``"query: "`` for E5).
        max_length: Tokens kept of a caption, special tokens included.
        padded: Rows are padded to ``max_length`` whatever stands beside them, not to the longest:
            what SigLIP's tower was trained on.
        clean: What is done to a text before all else; lower case, for example.
        languages: The token that tells the tower a text's language, by FLORES-200's code; empty for
            towers that are not told. It is the first of a row, or the last.
    """

    tokenizer: Any
    prefix: str
    max_length: int
    padded: bool = field(default=False, kw_only=True)
    clean: Callable[[str], str] = field(default=str, kw_only=True)
    languages: Mapping[str, int] = field(default_factory=dict, repr=False, kw_only=True)

    def __call__(
        self, captions: Sequence[str], language: str | Sequence[str | None] | None = None
    ) -> list[list[int]]:
        """Token ids of every caption, cut at ``max_length``, not padded.

        Args:
            captions: Texts.
            language: ISO 639-1 code of all of them, or of each. Where the tower is told, a language
                that it has no token for, or that is not known, is what the tokenizer takes it for
                by itself: English.
        """
        if not captions:
            return []
        ids: list[list[int]] = self._encode(captions)["input_ids"]
        if not self.languages:
            return ids
        one = language is None or isinstance(language, str)
        codes = cast("Sequence[str | None]", [language] * len(ids) if one else language)
        at = 0 if ids[0][0] in self.languages.values() else -1
        for row, code in zip(ids, codes, strict=True):
            row[at] = self.language_token(code) or row[at]
        return ids

    def language_token(self, language: str | None) -> int | None:
        """The token of an ISO 639-1 code, where the tower is told of languages and knows it."""
        return self.languages.get(flores_code(language)) if language and self.languages else None

    def takes_for_english(self, language: str | None) -> bool:
        """Whether the tower is told of languages, and has no token for this one."""
        return bool(language and self.languages) and self.language_token(language) is None

    def told(self, language: str) -> Any:
        """The tokenizer that by itself takes texts for the language's, where the tower is told."""
        if self.language_token(language) is None:
            return self.tokenizer
        told = copy.deepcopy(self.tokenizer)
        told.src_lang = told.init_kwargs["src_lang"] = flores_code(language)
        return told

    def identified(self, caption: str, language: str | None) -> str:
        """What tells the caption's tokens from those of all others: in most towers itself."""
        token = self.language_token(language)
        return caption if token is None else f"{token}\t{caption}"

    def longer(self, captions: Sequence[str], room: int) -> list[int]:
        """Positions of the captions of more than ``room`` tokens, which is at most ``max_length``.

        Args:
            captions: Texts.
            room: How many tokens are kept of each.
        """
        # Few need counting: a token has a byte at least, unless normalising lengthens the text.
        candidates = [
            i for i, text in enumerate(captions) if 2 * len((self.prefix + text).encode()) > room
        ]
        if not candidates:
            return []
        whole = self._encode([captions[i] for i in candidates], cut=False)["input_ids"]
        return [i for i, ids in zip(candidates, whole, strict=True) if len(ids) > room]

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text by itself, without special tokens."""
        ids: list[int] = self.tokenizer(self.clean(text), add_special_tokens=False)["input_ids"]
        return ids

    def _encode(self, captions: Sequence[str], *, cut: bool = True) -> Any:
        return self.tokenizer(
            [self.clean(self.prefix + caption) for caption in captions],
            truncation=cut,
            max_length=self.max_length if cut else None,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )

    def lengths(self, rows: Sequence[list[int]]) -> list[int]:
        """Positions that each row takes by itself in the tower."""
        return [self.max_length if self.padded else len(row) for row in rows]

    def pad(self, rows: Sequence[list[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Right-pad rows of ids to ``(batch, longest)``; returns ids and attention mask.

        To ``(batch, max_length)`` where they are to be :attr:`padded`.
        """
        longest = self.max_length if self.padded else max(map(len, rows))
        padding = self.tokenizer.pad_token_id
        ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return to_device(ids, device), to_device(mask, device)


@dataclass(frozen=True)
class Blueprint:
    """A backbone's text tower without its weights: enough to plan, count and check deltas.

    Attributes:
        text_tower: On the meta device.
        warm_start: As :attr:`Backbone.warm_start`.
    """

    text_tower: TextTower
    warm_start: Path | None = None

    @property
    def text_parameters(self) -> int:
        """Weights of the text tower with its head."""
        return sum(parameter.numel() for parameter in self.text_tower.parameters())


@dataclass(frozen=True)
class Backbone:
    """The frozen model that every delta of an artifact directory stands on.

    Attributes:
        identity: Name, revision and fingerprint.
        text_tower: Token ids and mask -> ``(batch, dim)``.
        image_tower: Pixels ``(batch, 3, height, width)`` -> ``(batch, dim)``.
        tokenizer: Belongs to the text tower.
        read_pixels: One picture's file -> ``(3, height, width)``; belongs to the image tower.
        text_parameters: Weights of the text tower with its head.
        dim: Width of the joint space.
        device: Where both towers are.
        dtype: Compute precision; weights stay float32.
        measure_fingerprint: Computes the fingerprint anew from the weights in memory.
        seen_pictures: :func:`~xclipt.files.picture_key` of each picture that it is known to have
            been trained on.
        warm_start: A file of trained weights that deltas on this backbone may begin from, if one
            comes with it (:mod:`xclipt.training.warm_start`).
        pixels: How :attr:`read_pixels` makes them, as a rule in the words of transformers'
            ``preprocessor_config.json``; empty where nothing says it.
    """

    identity: BackboneIdentity
    text_tower: TextTower
    image_tower: nn.Module
    tokenizer: CaptionTokenizer
    read_pixels: Callable[[Path], Tensor]
    text_parameters: int
    dim: int
    device: torch.device
    dtype: torch.dtype
    measure_fingerprint: Callable[[], str]
    seen_pictures: frozenset[str] = field(default=frozenset(), repr=False)
    warm_start: Path | None = None
    pixels: Mapping[str, object] = field(default_factory=dict, repr=False)

    def encode_texts(
        self,
        captions: Sequence[str],
        progress: Progress | None = None,
        language: str | None = None,
    ) -> Tensor:
        """Features of captions ``(n, dim)``, float32 on the CPU, not L2-normalised."""
        return self.encode_tokens(self.tokenizer(captions, language), progress)

    def encode_tokens(self, rows: Sequence[list[int]], progress: Progress | None = None) -> Tensor:
        """As :meth:`encode_texts`, from token ids.

        Raises:
            NonFiniteError: Names the first text by its number.
        """
        return self.in_batches(rows, lambda _, ids, mask: self.text_tower(ids, mask), progress)

    def in_batches(
        self,
        rows: Sequence[list[int]],
        encode: Callable[[list[int], Tensor, Tensor], Tensor],
        progress: Progress | None = None,
    ) -> Tensor:
        """What ``encode`` makes of token ids: ``(n, dim)``, float32 on the CPU.

        Captions are sorted by length, so that little is computed for padding. A GPU keeps the
        features until all are computed: nothing here waits for it before (transformers does once a
        batch, to see whether the mask leaves anything out).

        Args:
            rows: Token ids.
            encode: Is given positions in ``rows``, their ids and mask ``(batch, longest)``; on a
                processor by several threads at once.
            progress: Told how many rows are done.

        Raises:
            NonFiniteError: Names the first text by its number.
        """

        def encoded(batch: list[int]) -> Tensor:
            with torch.inference_mode(), self.autocast():
                ids, mask = self.tokenizer.pad([rows[i] for i in batch], self.device)
                return encode(batch, ids, mask).float()

        there = torch.empty(len(rows), self.dim, device=self.device)
        batches = list(self.batches(rows))
        each = side_by_side if self.device.type == "cpu" else map
        task = (progress or Silent()).start("Encoding captions", len(rows))
        try:
            for batch, some in zip(batches, each(encoded, batches), strict=True):
                there[to_device(torch.tensor(batch), self.device)] = some
                task.advance(len(batch))
        finally:
            task.finish()
        features = there.cpu()
        self.require_finite(features, lambda i: f"text {i + 1} of {len(rows)}")
        return features

    def batches(self, rows: Sequence[list[int]]) -> Iterator[list[int]]:
        """Positions of rows that go through the text tower together, those of like length."""
        budget = _TOKENS_ON_CPU if self.device.type == "cpu" else _TOKENS_ON_GPU
        return length_batches(self.tokenizer.lengths(rows), budget)

    def embed_tokens(self, rows: Sequence[list[int]]) -> Tensor:
        """Features of token ids ``(n, dim)`` on the device, through which gradients flow.

        The tower runs on captions of like length together, as in :meth:`encode_tokens`: one long
        caption would otherwise make all of the batch as long.
        """
        batches = list(self.batches(rows))
        parts = [self.embed_together([rows[i] for i in batch]) for batch in batches]
        order = torch.tensor([i for batch in batches for i in batch]).argsort()
        return torch.cat(parts)[to_device(order, self.device)]

    def embed_together(self, rows: Sequence[list[int]]) -> Tensor:
        """As :meth:`embed_tokens`, all rows in one batch, in their order."""
        with self.autocast(), self._attention():
            features: Tensor = self.text_tower(*self.tokenizer.pad(rows, self.device))
        return features.float()

    def encode_pictures(self, paths: Sequence[Path], progress: Progress | None = None) -> Tensor:
        """Features of pictures ``(n, dim)``, float32 on the CPU, not L2-normalised.

        Raises:
            XcliptError: A file is not a picture.
            NonFiniteError: Names the first file that the tower makes no numbers of.
        """
        there = torch.empty(len(paths), self.dim, device=self.device)
        task = (progress or Silent()).start("Encoding pictures", len(paths))
        done = 0
        for some in self._pictures_encoded(paths):
            there[done : done + len(some)] = some
            done += len(some)
            task.advance(len(some))
        features = there.cpu()
        task.finish()
        self.require_finite(features, lambda i: str(paths[i]))
        return features

    def _pictures_encoded(self, paths: Sequence[Path]) -> Iterator[Tensor]:
        """Features ``(some, dim)`` of pictures, in their order."""

        def encoded(pixels: Tensor) -> Tensor:
            with torch.inference_mode(), self.autocast():
                there = to_device(pixels, self.device, torch.channels_last)
                features: Tensor = self.image_tower(there).float()
                return features

        def read_and_encoded(some: Sequence[Path]) -> Tensor:
            return encoded(torch.stack([self.read_pixels(path) for path in some]))

        if self.device.type == "cpu":
            return side_by_side(read_and_encoded, _by(_PICTURES_ON_CPU, paths))
        return map(encoded, read_ahead(self.read_pixels, _by(_PICTURES_ON_GPU, paths)))

    def require_finite(
        self, features: Tensor, what: Callable[[int], str], delta: str | None = None
    ) -> None:
        """Refuse features ``(n, dim)`` that are not finite.

        Args:
            features: Of texts or pictures.
            what: What stands at a position.
            delta: Whose features they are, where they are not the frozen backbone's.

        Raises:
            NonFiniteError: Names the first.
        """
        bad = (~features.isfinite().all(-1)).nonzero()
        if len(bad):
            position = int(bad[0])
            raise self.not_finite(what(position), delta, position)

    def not_finite(self, what: str, delta: str | None = None, position: int = 0) -> NonFiniteError:
        """The error that tells that ``delta``, or the frozen backbone, makes no numbers of it."""
        whose = f"delta {delta}" if delta else f"backbone {self.identity.id}"
        remedy = "train it again" if delta else "its weights are damaged, get them anew"
        if self.dtype == torch.float16:
            remedy += ", or use `dtype=float32`"
        return NonFiniteError(whose, what, remedy, position)

    def cut(self, captions: Sequence[str], taken: int = 0) -> list[int]:
        """Positions of the captions of which the text tower sees the beginning alone.

        Args:
            captions: Texts.
            taken: Positions of the tower that something else takes.
        """
        return self.tokenizer.longer(captions, self.room(taken))

    def room(self, taken: int = 0) -> int:
        """How many tokens of a caption the text tower sees.

        Args:
            taken: As :meth:`cut` has it.
        """
        room = self.tokenizer.max_length
        if self.text_tower.max_length:
            room = min(room, self.text_tower.max_length - taken)
        return room

    def autocast(self) -> torch.autocast:
        """Mixed precision in :attr:`dtype`; does nothing for float32."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def _attention(self) -> AbstractContextManager[None]:
        # In bfloat16 on a CPU the backward pass of torch's fused attention takes half of a training
        # step; by plain matrix products it takes a tenth. In float32 they are alike.
        plain = self.device.type == "cpu" and self.dtype != torch.float32
        return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def read_ahead(
    read_pixels: Callable[[Path], Tensor], batches: Sequence[Sequence[Path]]
) -> Iterator[Tensor]:
    """Pixels ``(batch, 3, height, width)``, read by all cores while a GPU computes."""
    readers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures")
    reading: deque[list[Future[Tensor]]] = deque()

    def read() -> Tensor:
        return torch.stack([pixels.result() for pixels in reading.popleft()])

    try:
        for batch in batches:
            reading.append([readers.submit(read_pixels, path) for path in batch])
            if len(reading) > _BATCHES_AHEAD:
                yield read()
        while reading:
            yield read()
    finally:
        readers.shutdown(cancel_futures=True)


def _by(size: int, paths: Sequence[Path]) -> list[Sequence[Path]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices grouped so that a batch's padded size stays within ``budget`` tokens.

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
