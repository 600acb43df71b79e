"""Parts of an embedding on their way: who computes which rows, and what was computed so far.

Beside ``features.npy`` lies ``features.npy.shards``, in which every process puts what it has done::

    work.json                              what is computed, and in how many shards
    000000000-000001024-HASH.safetensors   features of rows 0 to 1,023, named by what is in it

Rows are cut into chunks of 64, whose borders are the same for any number of shards, and each chunk
is encoded by itself: it is the same bytes whoever encodes it (at the same number of threads). So
shards of another number, and what a killed one left, fit together.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xclipt.artifacts.arrays import read_array_file
from xclipt.documents import parse_json, read_json, record
from xclipt.embedding.described import LeftOut, Work
from xclipt.errors import UsageError, XcliptError
from xclipt.files import delete, locked, remove_folder, sweep, write_text, write_with

CHUNK = 64
BLOCK = 16 * CHUNK
"""So many rows are written together: the most that a kill can lose."""

_WORK = "work.json"
_HASH_DIGITS = 16


@dataclass(frozen=True)
class Block:
    """Features of some rows.

    Attributes:
        ids: Of those that have features.
        rows: Their numbers, ascending.
        features: ``(len(rows), dim)``, float32, L2-normalised.
        left_out: Those that have none, by their numbers.
    """

    ids: Sequence[str]
    rows: NDArray[np.int64]
    features: NDArray[np.float32]
    left_out: Sequence[tuple[int, LeftOut]]

    def within(self, rows: range) -> "Block":
        """What of it is of these rows."""
        first, last = np.searchsorted(self.rows, [rows.start, rows.stop])
        return Block(
            self.ids[first:last],
            self.rows[first:last],
            self.features[first:last],
            [one for one in self.left_out if one[0] in rows],
        )


def rows_of_shard(rows: int, shards: int, shard: int) -> range:
    """The rows of one of several shards: whole chunks, as many as those of the others or one more.

    Args:
        rows: Of all shards.
        shards: How many there are.
        shard: Its number, from 0.
    """
    chunks = -(-rows // CHUNK)
    first, last = (CHUNK * (chunks * part // shards) for part in (shard, shard + 1))
    return range(min(first, rows), min(last, rows))


@dataclass(frozen=True)
class Shards:
    """The folder of an output's shards, and what is computed in it.

    Attributes:
        path: The folder.
        work: What is computed.
        count: In how many shards it was last asked for.
    """

    path: Path
    work: Work
    count: int

    @staticmethod
    def folder(out: Path) -> Path:
        """Where the shards of an output lie."""
        return out.with_name(f"{out.name}.shards")

    @classmethod
    def sweep(cls, out: Path) -> None:
        """Remove what is left of a folder of an output's shards that could not be deleted."""
        sweep(out.parent, cls.folder(out).name)

    @classmethod
    def begin(cls, out: Path, work: Work, count: int) -> "Shards":
        """Make the folder for a piece of work, or see that it is that work's.

        Raises:
            XcliptError: It holds parts of another.
        """
        path = cls.folder(out)
        cls.sweep(out)
        with locked(path):
            sweep(path)
            told = 0
            if (path / _WORK).is_file():
                begun = cls.open(out)
                if differences := work.differences(begun.work):
                    raise XcliptError(
                        f"{path}: was begun with another {differences}; delete that folder, or "
                        "name another `out`"
                    )
                told = begun.count
            if told != count:
                document = {"work": asdict(work), "shards": count}
                write_text(path / _WORK, json.dumps(document, indent=2))
        return cls(path, work, count)

    @classmethod
    def open(cls, out: Path) -> "Shards":
        """The shards that somebody has begun.

        Raises:
            UsageError: Nobody has.
            XcliptError: The file that says what they are is damaged.
        """
        path = cls.folder(out)
        try:
            document = read_json(path / _WORK)
            return cls(path, record(Work, document["work"]), int(document["shards"]))
        except FileNotFoundError:
            raise UsageError(
                f"there are no shards of it ({path}); embed first", field="out", value=out
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise XcliptError(f"{path / _WORK}: cannot read ({error}); delete the folder") from None

    def missing(self, shard: int) -> list[range]:
        """The rows of a shard that are yet to be encoded, in pieces of at most a :data:`BLOCK`.

        Damaged files are deleted.
        """
        rows = rows_of_shard(self.work.source_rows, self.count, shard)
        chunks = set(_chunks(rows))
        for path, held in self._files():
            if wanted := chunks.intersection(_chunks(held)):
                try:
                    self._read(path, held)
                except XcliptError:
                    delete(path)
                else:
                    chunks -= wanted
        return list(_pieces(sorted(chunks), rows.stop))

    def add(self, rows: range, block: Block) -> None:
        """Keep the features of some rows.

        Raises:
            XcliptError: The folder cannot be written to.
        """
        from safetensors.numpy import save_file

        features = np.ascontiguousarray(block.features)
        arrays: dict[str, NDArray[Any]] = {"rows": block.rows, "features": features}
        metadata = {
            "ids": json.dumps(list(block.ids)),
            "left_out": json.dumps([(row, one.id, one.reason) for row, one in block.left_out]),
        }
        name = f"{rows.start:09}-{rows.stop:09}-{self._hash(arrays, metadata)}.safetensors"
        write_with(
            self.path / name, lambda path: save_file(arrays, path, metadata=metadata), swept=True
        )

    def blocks(self) -> Iterator[tuple[range, Block]]:
        """All rows, each once, in their order.

        Raises:
            XcliptError: Rows are missing or damaged. Says which shards are to be run.
        """
        held = self._files()
        gaps: list[range] = []
        begin = 0
        while begin < self.work.source_rows:
            fitting = [one for one in held if one[1].start <= begin < one[1].stop]
            for path, rows in sorted(fitting, key=lambda one: -one[1].stop):
                try:
                    block = self._read(path, rows)
                except XcliptError:
                    held.remove((path, rows))
                    continue
                if not gaps:
                    yield range(begin, rows.stop), block.within(range(begin, rows.stop))
                begin = rows.stop
                break
            else:
                later = (rows.start for _, rows in held if rows.start > begin)
                end = min(later, default=self.work.source_rows)
                gaps.append(range(begin, end))
                begin = end
        if gaps:
            raise self._incomplete(gaps)

    def remove(self) -> None:
        """Delete the folder.

        Raises:
            XcliptError: It cannot be deleted.
        """
        try:
            remove_folder(self.path)
        except OSError as error:
            raise XcliptError(f"{self.path}: cannot delete ({error.strerror})") from None

    def _incomplete(self, gaps: Sequence[range]) -> XcliptError:
        total = self.work.source_rows
        lacking = [
            str(shard)
            for shard in range(self.count)
            if any(_overlap(gap, rows_of_shard(total, self.count, shard)) for gap in gaps)
        ]
        named = ", ".join(lacking[:8]) + (", ..." if len(lacking) > 8 else "")
        which = "shard" if len(lacking) == 1 else "shards"
        return XcliptError(
            f"{self.path}: {sum(map(len, gaps)):,} of {total:,} rows are missing or damaged, first "
            f"row {gaps[0].start:,}; run {which} {named} of {self.count} again"
        )

    def _files(self) -> list[tuple[Path, range]]:
        found = []
        for path in sorted(self.path.glob("*.safetensors")):
            first, _, rest = path.name.partition("-")
            last = rest.partition("-")[0]
            if first.isdecimal() and last.isdecimal():
                found.append((path, range(int(first), int(last))))
        return found

    def _read(self, path: Path, rows: range) -> Block:
        """What a file holds.

        Raises:
            XcliptError: It cannot be read, or is not what was written for this work.
        """
        arrays, metadata = read_array_file(path)
        try:
            if path.stem.rpartition("-")[2] != self._hash(arrays, metadata):
                raise XcliptError(f"{path}: its content is not what was written")
            ids = parse_json(metadata["ids"])
            left_out = [(row, LeftOut(*rest)) for row, *rest in parse_json(metadata["left_out"])]
            block = Block(ids, arrays["rows"], arrays["features"], left_out)
        except (KeyError, ValueError, TypeError) as error:
            raise XcliptError(f"{path}: cannot read ({error})") from None
        if not len(ids) == len(block.rows) == len(block.features):
            raise XcliptError(f"{path}: ids and features are not as many")
        if sorted([*block.rows.tolist(), *(row for row, _ in left_out)]) != list(rows):
            raise XcliptError(f"{path}: its rows are not those of its name")
        return block

    def _hash(self, arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> str:
        """Of a file, and of the work: what a stray process still writes is of no other's."""
        digest = hashlib.sha256(json.dumps(asdict(self.work)).encode() + b"\n")
        for name in ("ids", "left_out"):
            digest.update(metadata[name].encode() + b"\n")
        for name in ("rows", "features"):
            digest.update(arrays[name].tobytes())
        return digest.hexdigest()[:_HASH_DIGITS]


def _chunks(rows: range) -> range:
    return range(rows.start // CHUNK, -(-rows.stop // CHUNK))


def _pieces(chunks: Sequence[int], end: int) -> Iterator[range]:
    """Chunks that follow one another, as rows, in pieces of at most a block."""
    begin = 0
    for i, chunk in enumerate(chunks):
        last = i + 1 == len(chunks) or chunks[i + 1] != chunk + 1
        if last or (i + 1 - begin) * CHUNK == BLOCK:
            yield range(CHUNK * chunks[begin], min(CHUNK * (chunk + 1), end))
            begin = i + 1


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)
