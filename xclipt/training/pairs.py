"""What the training loop takes its batches from: pairs in memory, or sentences on disk."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairBatch:
    """Some pairs, row by row of the same one.

    Attributes:
        tokens: Token ids of the trained texts.
        images: Image features ``(batch, dim)``, not normalised; ``None`` where there is no picture.
        partner_tokens: Token ids of the partners, or ``None`` without alignment.
        partner_features: ``(batch, dim)`` of the frozen tower, for a frozen teacher.
    """

    tokens: Sequence[list[int]]
    images: Tensor | None = None
    partner_tokens: Sequence[list[int]] | None = None
    partner_features: Tensor | None = None


class Pairs(Protocol):
    """Pairs of one language, or of several one after another."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, rows: Sequence[int]) -> PairBatch:
        """Those of the given numbers, in that order."""


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of one language in memory; the attributes are :class:`PairBatch`'s, of all of them."""

    images: Tensor
    tokens: Sequence[list[int]]
    partner_tokens: Sequence[list[int]] | None = None
    partner_features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Sequence[int]) -> PairBatch:
        partners, features = self.partner_tokens, self.partner_features
        return PairBatch(
            tokens=[self.tokens[i] for i in rows],
            images=self.images[rows],
            partner_tokens=[partners[i] for i in rows] if partners is not None else None,
            partner_features=features[rows] if features is not None else None,
        )


class Joined:
    """Pairs of several languages without pictures, numbered one after another.

    Args:
        parts: A language each.
    """

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self._parts = parts
        self.sizes = tuple(map(len, parts))
        self._ends = [*accumulate(self.sizes)]

    def __len__(self) -> int:
        return sum(self.sizes)

    def batch(self, rows: Sequence[int]) -> PairBatch:
        owners = [bisect_right(self._ends, row) for row in rows]
        taken = []
        for owner in sorted({*owners}):
            first = self._ends[owner] - self.sizes[owner]
            mine = [i for i, one in enumerate(owners) if one == owner]
            taken.append((mine, self._parts[owner].batch([rows[i] - first for i in mine])))
        order = torch.tensor([i for mine, _ in taken for i in mine]).argsort()
        features = [b.partner_features for _, b in taken if b.partner_features is not None]
        return PairBatch(
            tokens=_in_order([b.tokens for _, b in taken], order) or [],
            partner_tokens=_in_order([b.partner_tokens for _, b in taken], order),
            partner_features=torch.cat(features)[order] if features else None,
        )


def _in_order(
    parts: Sequence[Sequence[list[int]] | None], order: Tensor
) -> Sequence[list[int]] | None:
    rows = [row for part in parts if part is not None for row in part]
    return [rows[i] for i in order.tolist()] if rows else None


def rows_of_epochs(pairs: int, size: int, seed: int, *, filled: bool) -> Iterator[list[int]]:
    """Batches of row numbers, epoch after epoch, each in an order of its own.

    Args:
        pairs: How many there are.
        size: Rows a batch.
        seed: Decides the orders.
        filled: An epoch's last batch takes rows from the epoch's start, and is not left short.
    """
    epoch = 0
    while True:
        order = list(range(pairs))
        random.Random(f"{seed}-{epoch}").shuffle(order)
        for start in range(0, pairs, size):
            batch = order[start : start + size]
            yield batch + order[: size - len(batch)] if filled else batch
        epoch += 1


def rows_by_size(
    sizes: Sequence[int], size: int, temperature: float, seed: int
) -> Iterator[list[int]]:
    """Batches of row numbers over several languages that are numbered one after another.

    Each row's language is drawn with probability ``n ** (1 / temperature)`` of its size ``n``
    (Arivazhagan et al. 2019): 1 draws in proportion, higher temperatures more evenly. A language's
    rows come in their own order, and in an order of the seed's from the second time on.

    Args:
        sizes: Rows of each language.
        size: Rows a batch.
        temperature: At least 1.
        seed: Any integer.
    """
    firsts = [end - own for end, own in zip(accumulate(sizes), sizes, strict=True)]
    weights = [own ** (1 / temperature) for own in sizes]
    streams = [_endless(first, own, seed) for first, own in zip(firsts, sizes, strict=True)]
    draw = random.Random(f"languages-{seed}")
    while True:
        yield [next(stream) for stream in draw.choices(streams, weights, k=size)]


def _endless(first: int, count: int, seed: int) -> Iterator[int]:
    yield from range(first, first + count)
    epoch = 1
    while True:
        order = list(range(first, first + count))
        random.Random(f"{seed}-{epoch}").shuffle(order)
        yield from order
        epoch += 1
