"""Features of texts and pictures into a file, by one process or by several, to the same bytes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.loaded import require_own_texts
from xclipt.backbones.backbone import Backbone, NonFiniteError
from xclipt.cores import a_core_each
from xclipt.data.pictures import check_picture_name, find_broken
from xclipt.devices import dtype_name
from xclipt.embedding.described import Description, Digest, LeftOut, Work
from xclipt.embedding.files import ROWS_AT_ONCE, Batches, file_kind
from xclipt.embedding.numbers import (
    FLOAT32,
    MOST_ROWS,
    NUMBERS,
    Loss,
    measure_loss,
    require_numbers,
)
from xclipt.embedding.shards import CHUNK, Block, Shards, rows_of_shard
from xclipt.embedding.sources import PICTURES, TEXTS, PictureSource, TextSource
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.model import no_delta
from xclipt.progress import Progress
from xclipt.workspace import Workspace

NONE = "none"
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class EmbeddingRequest:
    """Where features go, and which part of them is computed.

    Attributes:
        out: A file that ends in ``.npy``, ``.safetensors`` or ``.parquet``.
        numbers: What features are kept in: ``float32``, ``float16`` or ``int8``.
        shards: How many processes share the work.
        shard: Which of them this is, from 0; ``None`` where there is but one.
    """

    out: Path
    numbers: str = FLOAT32
    shards: int = 1
    shard: int | None = None

    def require_valid(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: Names the field.
        """
        file_kind(self.out, "out")
        require_numbers(self.numbers)
        if self.shards > 1 and self.shard is None:
            raise UsageError(
                f"`shard=0` to {self.shards - 1} says which", field="shards", value=self.shards
            )
        if not 0 <= (self.shard or 0) < self.shards:
            raise UsageError(
                f"must be from 0 to {self.shards - 1}: `shards` is {self.shards}",
                field="shard",
                value=self.shard,
            )


@dataclass(frozen=True)
class Embedded:
    """What was done.

    Attributes:
        out: The file; it is there where ``description`` is.
        work: What is computed.
        description: Of the file; ``None`` while other shards may be under way.
        shard_rows: How many rows were this shard's.
        encoded: How many of them had not been encoded before.
        left_out: Of these, the pictures that could not be read.
    """

    out: Path
    work: Work
    description: Description | None
    shard_rows: int
    encoded: int
    left_out: tuple[LeftOut, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        description = self.description
        return {
            "out": str(self.out),
            "merged": description is not None,
            "rows": description.rows if description else None,
            "sha256": description.sha256 if description else None,
            "normalised": True,
            **asdict(self.work),
            "shard_rows": self.shard_rows,
            "encoded": self.encoded,
            "left_out": [asdict(one) for one in self.left_out],
            "loss": asdict(description.loss) if description and description.loss else None,
        }


def choose_delta(
    workspace: Workspace, language: str | None, name: str | None, fallback: str = "error"
) -> StoredDelta | None:
    """The delta that texts are encoded with; ``None`` is the frozen base.

    Args:
        workspace: Whose deltas they are.
        language: ISO 639-1 code; ``None`` is no language, and the base.
        name: The delta's; ``None`` is the current one, ``none`` the base.
        fallback: As :meth:`Model.encode_text` takes it.

    Raises:
        XcliptError: There is none, or it is for translated text.
    """
    if fallback not in ("error", "base"):
        raise UsageError("choose error or base", field="fallback", value=fallback)
    if name == NONE:
        return None
    if language is None:
        if name is not None:
            raise UsageError("`language` says whose it is", field="delta", value=name)
        return None
    directory = workspace.directory
    home = directory.home(language)
    stored = directory.delta(home, name) if name else directory.current(home)
    if stored is None:
        if language == "en":
            return None
        if fallback == "error":
            raise no_delta(directory, language, directory.languages())
        workspace.progress.note(
            f"no delta for '{language}' ({language_name(language)}): its texts are encoded with "
            "the frozen base"
        )
        return None
    require_own_texts(stored)
    return stored


def embed_texts(
    workspace: Workspace,
    source: TextSource,
    request: EmbeddingRequest,
    language: str | None = None,
    delta: StoredDelta | None = None,
) -> Embedded:
    """Embed texts, or one shard of them.

    Args:
        workspace: Its backbone encodes them.
        source: The texts.
        request: Where to, and which part.
        language: The texts'; some towers are told.
        delta: As :func:`choose_delta` found it.

    Raises:
        XcliptError: The delta is damaged, parts of other work are in the way, or the output cannot
            be written.
        NonFiniteError: Backbone or delta make no numbers of a text.
    """
    request.require_valid()
    workspace.note_language(language)
    manifest = delta.manifest if delta else None
    whose = f"{manifest.language}/{manifest.name}" if manifest else None
    work = _work(
        workspace,
        request,
        kind=TEXTS,
        source=source.name,
        source_sha256=source.sha256,
        source_rows=source.rows,
        layout=source.layout,
        language=language,
        delta=whose,
        delta_sha256=manifest.weights.sha256 if manifest else None,
    )
    if done := _done(request, work):
        return done
    backbone: Backbone = delta.within(workspace.backbone) if delta else workspace.backbone
    spec = delta.spec if delta else None
    cut: list[int] = []

    def encode(rows: range, entries: Sequence[tuple[str, str]]) -> Block:
        ids, texts = zip(*entries, strict=True)
        prompted = [spec.prompted(text) for text in texts] if spec else list(texts)
        cut.append(len(workspace.backbone.cut(prompted, spec.positions if spec else 0)))
        try:
            features = backbone.encode_texts(prompted, language=language)
        except NonFiniteError as error:
            raise workspace.not_finite(prompted[error.position], whose) from None
        return Block(ids, np.arange(rows.start, rows.stop), _normalised(features), [])

    done = _embed(workspace, work, request, source.read, encode)
    workspace.remark_cut(source.name, sum(cut), done.encoded)
    return done


def embed_pictures(
    workspace: Workspace, source: PictureSource, request: EmbeddingRequest
) -> Embedded:
    """Embed pictures, or one shard of them. Those that cannot be read are left out and listed.

    Features that the artifact directory keeps are not taken: how a picture's last digits come out
    depends on what was encoded with it, and here that must be its chunk.

    Raises:
        XcliptError: Not one can be read, parts of other work are in the way, or the output cannot
            be written.
        NonFiniteError: The backbone is damaged.
    """
    request.require_valid()
    if source.remark:
        workspace.progress.note(source.remark)
    for one in source.ids:
        check_picture_name(one, source.name, anywhere=True)
    work = _work(
        workspace,
        request,
        kind=PICTURES,
        source=source.name,
        source_sha256=source.sha256,
        source_rows=len(source.ids),
        folder=str(source.folder) if source.folder else None,
    )
    if done := _done(request, work):
        return done

    def read(first: int) -> Iterator[tuple[str, Path]]:
        return ((one, source.path(one)) for one in source.ids[first:])

    def encode(rows: range, entries: Sequence[tuple[str, Path]]) -> Block:
        usable = list(zip(rows, entries, strict=True))
        left_out: list[tuple[int, LeftOut]] = []
        features = np.empty((0, workspace.backbone.dim), np.float32)
        while usable:
            paths = [path for _, (_, path) in usable]
            try:
                features = _normalised(workspace.backbone.encode_pictures(paths))
                break
            except NonFiniteError:
                raise
            except XcliptError:
                broken = {one.path: one.reason for one in find_broken(paths)}
                if not broken:
                    raise
            left_out += [
                (row, LeftOut(one, broken[path])) for row, (one, path) in usable if path in broken
            ]
            usable = [entry for entry in usable if entry[1][1] not in broken]
        numbers = np.array([row for row, _ in usable], np.int64)
        return Block([one for _, (one, _) in usable], numbers, features, left_out)

    return _embed(workspace, work, request, read, encode)


def merge_shards(out: Path, progress: Progress) -> Embedded:
    """Join the shards of an output, once all rows are there, and delete their folder.

    Raises:
        UsageError: There are no shards of it.
        XcliptError: Rows are missing or damaged, not one picture could be read, or the output
            cannot be written.
    """
    kind = file_kind(out, "out")
    shards = Shards.open(out)
    work = shards.work
    kept = NUMBERS[work.numbers]
    digest, sample, left_out = Digest(), [np.empty((0, work.dim), np.float32)], list[LeftOut]()
    rows, stride = 0, -(-work.source_rows // MOST_ROWS)
    task = progress.start(f"Checking {shards.path.name}", work.source_rows)
    for held, block in shards.blocks():
        digest.add(block.ids, kept(block.features))
        rows += len(block.rows)
        left_out += [one for _, one in block.left_out]
        if work.numbers != FLOAT32:
            sample.append(block.features[block.rows % stride == 0])
        task.advance(len(held))
    task.finish()
    if not rows:
        raise XcliptError(
            f"{work.source}: not one of its {work.source_rows:,} files is a picture, the first is "
            f"{left_out[0].id} ({left_out[0].reason})"
        )
    loss: Loss | None = None
    if work.numbers != FLOAT32:
        loss = measure_loss(np.concatenate(sample), work.numbers)
    description = Description(work, rows, digest.hexdigest(), tuple(left_out), loss)
    kind.write(out, description, _batches(shards))
    shards.remove()
    return Embedded(out, work, description, work.source_rows, 0, tuple(left_out))


def _batches(shards: Shards) -> Batches:
    """All rows as they are kept, cut alike however they were computed."""
    work = shards.work
    kept = NUMBERS[work.numbers]

    def batches() -> Iterator[tuple[Sequence[str], NDArray[Any]]]:
        ids: list[str] = []
        parts = [np.empty((0, work.dim), np.float32)]
        for _, block in shards.blocks():
            ids += block.ids
            parts.append(block.features)
            while len(ids) >= ROWS_AT_ONCE:
                features = np.concatenate(parts)
                yield ids[:ROWS_AT_ONCE], kept(features[:ROWS_AT_ONCE])
                ids, parts = ids[ROWS_AT_ONCE:], [features[ROWS_AT_ONCE:]]
        if ids:
            yield ids, kept(np.concatenate(parts))

    return batches


def _work(workspace: Workspace, request: EmbeddingRequest, **known: Any) -> Work:
    backbone = workspace.backbone
    absent = {"layout": "", "folder": None, "language": None, "delta": None, "delta_sha256": None}
    return Work(
        **(absent | known),
        backbone=backbone.identity.id,
        backbone_fingerprint=backbone.identity.fingerprint,
        dtype=dtype_name(backbone.dtype),
        numbers=request.numbers,
        dim=backbone.dim,
    )


def _done(request: EmbeddingRequest, work: Work) -> Embedded | None:
    """What was done, where the output is there already and is what this work makes."""
    out = request.out
    try:
        file = file_kind(out, "out")(out)
        if file.description.work != work:
            return None
        file.require_sound()
    except XcliptError:
        return None
    if request.shards == 1:  # nobody else is at work, and a kill may have left them
        Shards.sweep(out)
        with suppress(XcliptError):
            shards = Shards.open(out)
            if shards.work == work:
                shards.remove()
    return Embedded(out, work, file.description, work.source_rows, 0, file.description.left_out)


def _embed(
    workspace: Workspace,
    work: Work,
    request: EmbeddingRequest,
    read: Callable[[int], Iterator[tuple[str, _Item]]],
    encode: Callable[[range, Sequence[tuple[str, _Item]]], Block],
) -> Embedded:
    shards = Shards.begin(request.out, work, request.shards)
    missing = shards.missing(request.shard or 0)
    rows = rows_of_shard(work.source_rows, request.shards, request.shard or 0)
    left_out: list[LeftOut] = []
    each = a_core_each if workspace.backbone.device.type == "cpu" else map
    task = workspace.progress.start(f"Embedding {work.source}", sum(map(len, missing)))
    try:
        position = missing[0].start if missing else 0
        entries = read(position)
        for piece in missing:
            next(islice(entries, piece.start - position, piece.start - position), None)
            position = piece.stop
            chunks = [piece[first : first + CHUNK] for first in range(0, len(piece), CHUNK)]
            held = [(chunk, list(islice(entries, len(chunk)))) for chunk in chunks]
            blocks = []
            for chunk, block in zip(chunks, each(lambda one: encode(*one), held), strict=True):
                blocks.append(block)
                task.advance(len(chunk))
            block = _joined(blocks)
            shards.add(piece, block)
            left_out += [one for _, one in block.left_out]
    finally:
        task.finish()
    encoded = sum(map(len, missing))
    if request.shards > 1:
        return Embedded(request.out, work, None, len(rows), encoded, tuple(left_out))
    merged = merge_shards(request.out, workspace.progress)
    return Embedded(request.out, work, merged.description, len(rows), encoded, merged.left_out)


def _joined(blocks: Sequence[Block]) -> Block:
    return Block(
        [one for block in blocks for one in block.ids],
        np.concatenate([block.rows for block in blocks]),
        np.concatenate([block.features for block in blocks]),
        [one for block in blocks for one in block.left_out],
    )


def _normalised(features: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = F.normalize(features, dim=-1).numpy()
    return array
