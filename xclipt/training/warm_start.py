"""Warm starts: trained weights that a delta's training begins from, instead of the identity."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.kinds import spec_from
from xclipt.documents import parse_json
from xclipt.errors import XcliptError
from xclipt.files import content_hash, write_with
from xclipt.languages import SEVERAL, resolve

AUTO, NONE, OPENDELTA = "auto", "none", "opendelta"
SUFFIX = ".safetensors"

_FITS = "fits"
_ALIGNED_ROUTINES = (1, 2)
"""Those of ``auto``: routine 3 trains on English, and a baseline does without alignment."""


@dataclass(frozen=True)
class WarmStart:
    """Tensors to begin from.

    Attributes:
        name: The backbone's, the file's, or ``LANG/NAME`` of the delta that they are taken from.
        sha256: Hash of their file.
        tensors: By their names in the delta.
        pictures: Keys of the pictures that the delta was trained or validated on, as
            :class:`~xclipt.artifacts.manifest.TrainingData` has them: a delta that begins from it
            must not be measured on them either.
    """

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class WarmStarts:
    """Where warm starts come from.

    Attributes:
        directory: Where deltas are; ``None`` where there is none yet.
        shipped: The file that comes with the backbone, if one does.
    """

    directory: ArtifactDirectory | None
    shipped: Path | None

    def setting(self, wanted: str, routine: int | None) -> DeltaSpec | None:
        """Kind and settings of what a training would begin from; ``None`` without a warm start.

        Args:
            wanted: As in :meth:`choose`.
            routine: 1, 2, 3 or ``None``: :mod:`xclipt.alignment.routines`.

        Raises:
            XcliptError: There is no such delta or file.
        """
        if wanted in (NONE, OPENDELTA):
            return None
        if wanted == AUTO:
            return self._shipped_setting(routine)
        if wanted.endswith(SUFFIX):
            return _read_setting(Path(wanted))
        return _stored(self.directory, wanted).spec if self.directory else None

    def choose(
        self, wanted: str, spec: DeltaSpec, routine: int | None, fingerprint: str
    ) -> WarmStart | None:
        """What a delta begins from; ``None`` is the kind's own beginning.

        Args:
            wanted: ``auto``, the shipped start where it suits the kind and its setting and the
                routine aligns the language's own text; ``none``, the identity; ``opendelta``,
                OpenDelta's own initial values; a file of :func:`write`; or a
                delta of the directory, ``LANG/NAME``, or ``LANG`` for the language's current one.
            spec: The delta that is to be trained.
            routine: 1, 2, 3 or ``None``: :mod:`xclipt.alignment.routines`.
            fingerprint: The backbone's.

        Raises:
            XcliptError: There is no such delta or file, or it is of another kind or setting.
        """
        if wanted in (NONE, OPENDELTA):
            return None
        if wanted == AUTO:
            if self._shipped_setting(routine) is None:
                return None
            assert self.shipped is not None
            return read(self.shipped, spec, fingerprint, name="builtin")
        if wanted.endswith(SUFFIX):
            start = read(Path(wanted), spec, fingerprint)
            if start is None:
                raise XcliptError(
                    "was trained for another backbone, kind or setting",
                    field="start",
                    value=wanted,
                )
            return start
        stored = _stored(self.directory, wanted)
        if stored.spec != spec:
            raise XcliptError(
                f"is a {stored.manifest.kind} of another setting than is to be trained; give the "
                "same settings, or `start=none`",
                field="start",
                value=wanted,
            )
        return WarmStart(
            f"{stored.manifest.language}/{stored.manifest.name}",
            stored.manifest.weights.sha256,
            stored.tensors(),
            stored.manifest.data.pictures,
        )

    def _shipped_setting(self, routine: int | None) -> DeltaSpec | None:
        usable = self.shipped is not None and routine in _ALIGNED_ROUTINES
        return _read_setting(self.shipped) if usable and self.shipped else None


def write(path: Path, tensors: Mapping[str, Tensor], spec: DeltaSpec, fingerprint: str) -> None:
    """Write a warm start in float16, with the backbone and the setting that it is for.

    Raises:
        XcliptError: The file cannot be written.
    """
    metadata = {_FITS: json.dumps(_fit(spec, fingerprint))}
    halves = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    write_with(path, lambda aside: save_file(halves, aside, metadata))


def read(
    path: Path, spec: DeltaSpec, fingerprint: str, name: str | None = None
) -> WarmStart | None:
    """A warm start in float32; ``None`` if it is for another delta or backbone.

    Args:
        path: The file.
        spec: The delta that is to be trained.
        fingerprint: The backbone's.
        name: What to call it; by default as the file.

    Raises:
        XcliptError: The file cannot be read as one.
    """
    with _reading(path), safe_open(path, "pt") as file:
        fits = _fits(file)
        if fits | {"setting": asdict(_spec_of(fits))} != _fit(spec, fingerprint):
            return None
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    return WarmStart(name or path.name, content_hash(path.read_bytes()), tensors)


def _stored(directory: ArtifactDirectory | None, wanted: str) -> StoredDelta:
    code, _, name = wanted.partition("/")
    try:
        language = code if code == SEVERAL else resolve(code)
        if directory is None:
            raise XcliptError("there is no artifact directory yet")
        stored = directory.delta(language, name) if name else directory.current(language)
    except XcliptError as error:
        raise XcliptError(str(error), field="start", value=wanted) from None
    if stored is None:
        raise XcliptError(
            f"{language} has no current delta; name one as LANG/NAME", field="start", value=wanted
        )
    return stored


def _read_setting(path: Path) -> DeltaSpec:
    with _reading(path), safe_open(path, "pt") as file:
        return _spec_of(_fits(file))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, XcliptError) as error:
        reason = str(error).splitlines()[0]
        raise XcliptError(
            f"cannot be read as a start ({reason})", field="start", value=path
        ) from None


def _fits(file: Any) -> dict[str, Any]:
    fits: dict[str, Any] = parse_json(file.metadata()[_FITS])
    return fits


def _spec_of(fits: Mapping[str, Any]) -> DeltaSpec:
    return spec_from(fits["kind"], fits["setting"])


def _fit(spec: DeltaSpec, fingerprint: str) -> dict[str, object]:
    # A tuned head and a hard prompt change nothing in the tensors that a start holds.
    setting = asdict(spec) | {"tune_head": False, "hard_prompt": ""}
    return {"backbone": fingerprint, "kind": spec.kind, "setting": setting}
