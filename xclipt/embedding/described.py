"""What an embedding is: which features of what, by which backbone and delta."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xclipt.documents import record
from xclipt.embedding.numbers import NUMBERS, Loss
from xclipt.errors import XcliptError

FORMAT = 1


@dataclass(frozen=True)
class Work:
    """What is computed. Who computes a part of it must agree with the others in all of this.

    Attributes:
        kind: ``texts`` or ``pictures``.
        source: What they are of.
        source_sha256: What its content is known by.
        source_rows: How many texts or pictures it names.
        layout: How texts were read.
        folder: What pictures' ids are paths within, absolute.
        language: ISO 639-1 code of texts; ``None`` where none was named.
        delta: ``LANG/NAME``; ``None`` is the frozen base.
        delta_sha256: Fingerprint of its weights.
        backbone: Its id.
        backbone_fingerprint: Over weights, tokenizer and preprocessing.
        dtype: The numbers that were computed in.
        numbers: Those that features are kept in.
        dim: Width of the features.
    """

    kind: str
    source: str
    source_sha256: str
    source_rows: int
    layout: str
    folder: str | None
    language: str | None
    delta: str | None
    delta_sha256: str | None
    backbone: str
    backbone_fingerprint: str
    dtype: str
    numbers: str
    dim: int
    format: int = FORMAT

    def differences(self, other: "Work") -> str:
        """What of it is otherwise in ``other``: ``delta (de/new here, de/old there)``."""
        said = []
        for entry in fields(self):
            here, there = getattr(self, entry.name), getattr(other, entry.name)
            if here != there:
                both = f" ({_short(here)} here, {_short(there)} there)"
                said.append(entry.name.replace("_", " ") + both)
        return ", ".join(said)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


@dataclass(frozen=True)
class LeftOut:
    """A picture that has no features, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Description:
    """A finished embedding.

    Attributes:
        work: What was computed.
        rows: How many features there are.
        sha256: Of features and ids (:class:`Digest`).
        left_out: Pictures that could not be read.
        loss: What ``numbers`` lose; ``None`` for float32, or where rows are too few to tell.
        normalised: L2, of what the numbers stand for.
    """

    work: Work
    rows: int
    sha256: str
    left_out: tuple[LeftOut, ...] = ()
    loss: Loss | None = None
    normalised: bool = field(default=True, kw_only=True)

    def to_json(self) -> str:
        """As it stands in files."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def of(cls, plain: Any, where: object) -> "Description":
        """From a document.

        Raises:
            XcliptError: It is no description, or one of a newer format.
        """
        try:
            made_by = plain["work"]["format"]
            if made_by != FORMAT:
                raise XcliptError(
                    f"{where}: is of format {made_by}, this xclipt reads {FORMAT}: upgrade it"
                )
            described = record(cls, plain)
            if described.work.numbers not in NUMBERS:
                raise ValueError(f"numbers {described.work.numbers!r}")
            return described
        except (ValueError, KeyError, TypeError) as error:
            raise XcliptError(f"{where}: is nothing that `xclipt embed` wrote ({error})") from None


class Digest:
    """SHA-256 of features as they are kept, row after row, and of their ids, however they lie."""

    def __init__(self) -> None:
        self._features, self._ids = hashlib.sha256(), hashlib.sha256()

    def add(self, ids: Sequence[str], kept: NDArray[Any]) -> None:
        """The next rows."""
        self._features.update(np.ascontiguousarray(kept).tobytes())
        self._ids.update("".join(f"{json.dumps(one)}\n" for one in ids).encode())

    def hexdigest(self) -> str:
        """Of all rows so far."""
        both = self._features.digest() + self._ids.digest()
        return hashlib.sha256(both).hexdigest()
