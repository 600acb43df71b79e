"""What a delta's training starts from: nothing, a start that was trained for it, or a delta."""

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

from xclipt.artifacts.atomic import write_with
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import content_hash
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.deltas.spec import DeltaSpec, LoraSpec, spec_from
from xclipt.errors import XcliptError
from xclipt.languages import resolve

SHIPPED = Path(__file__).with_name("builtin_start.safetensors")
"""A LoRA for the builtin backbone that several languages were trained on together."""

AUTO, NONE = "auto", "none"

_FITS = "fits"
_ALIGNED_ROUTINES = (1, 2)
"""Those of ``auto``: routine 3 trains on English, and a baseline does without alignment."""


@dataclass(frozen=True)
class Start:
    """Tensors to start from.

    Attributes:
        name: ``builtin``, the file's, or ``LANG/NAME`` of the delta that they are taken from.
        sha256: Of their file.
        tensors: By their names in the delta.
        pictures: Keys of the pictures that the delta was trained or validated on, as
            :class:`~xclipt.artifacts.manifest.TrainingData` has them: a delta that starts from it
            must not be measured on them either.
    """

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]
    pictures: tuple[str, ...] = ()


def choose_start(
    directory: ArtifactDirectory, wanted: str, spec: DeltaSpec, routine: int | None
) -> Start | None:
    """What a delta starts from; ``None`` is the kind's own beginning.

    Args:
        wanted: ``auto``, the shipped start where it suits the backbone, the kind and its setting,
            and the routine aligns the language's own text; ``none``; a file of
            :mod:`~xclipt.training.train_start`; or a delta of the directory, ``LANG/NAME``, or
            ``LANG`` for the language's current one.
        routine: 1, 2, 3 or ``None``: :mod:`xclipt.alignment.routines`.

    Raises:
        XcliptError: There is no such delta or file, or it is of another kind or setting.
    """
    if wanted == NONE:
        return None
    if wanted == AUTO:
        aligns = routine in _ALIGNED_ROUTINES
        return shipped_start(spec, directory.backbone.fingerprint) if aligns else None
    if wanted.endswith(SHIPPED.suffix):
        return _own_start(Path(wanted), spec, directory.backbone.fingerprint)
    stored = _named_delta(directory, wanted)
    manifest = stored.manifest
    if spec_from(manifest.kind, manifest.setting) != spec:
        raise XcliptError(
            f"--start {wanted}: is a {manifest.kind} of another setting than is to be trained; "
            f"give the same options, or --start none"
        )
    return Start(
        f"{manifest.language}/{manifest.name}",
        manifest.weights.sha256,
        stored.tensors(),
        manifest.data.pictures,
    )


def lora_like_start(
    directory: ArtifactDirectory | None, backbone: str, wanted: str, routine: int | None
) -> LoraSpec:
    """The LoRA that a delta is whose setting nobody names: as its start's, so that it fits.

    Without a start, or where that is no LoRA, :class:`~xclipt.deltas.spec.LoraSpec` as it is.

    Args:
        directory: Where a start ``LANG/NAME`` is; ``None`` where there is none yet.
        backbone: Its name: the shipped start is ``builtin``'s.
        wanted, routine: As in :func:`choose_start`.

    Raises:
        XcliptError: There is no such delta or file.
    """
    spec: DeltaSpec = LoraSpec()
    if wanted.endswith(SHIPPED.suffix):
        spec = _own_setting(Path(wanted))
    elif wanted == AUTO:
        if backbone == BUILTIN and routine in _ALIGNED_ROUTINES:
            spec = _own_setting(SHIPPED)
    elif wanted != NONE and directory:
        manifest = _named_delta(directory, wanted).manifest
        spec = spec_from(manifest.kind, manifest.setting)
    return spec if isinstance(spec, LoraSpec) else LoraSpec()


def shipped_start(spec: DeltaSpec, fingerprint: str) -> Start | None:
    """The shipped start in float32, if it is for such a delta and backbone."""
    return _read("builtin", SHIPPED, spec, fingerprint)


def write_start(
    path: Path, tensors: Mapping[str, Tensor], spec: LoraSpec, fingerprint: str
) -> None:
    """Write a start in float16, with the backbone and the setting that it is for."""
    metadata = {_FITS: json.dumps(_fit(spec, fingerprint))}
    halves = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    write_with(path, lambda aside: save_file(halves, aside, metadata))


def _named_delta(directory: ArtifactDirectory, wanted: str) -> StoredDelta:
    code, _, name = wanted.partition("/")
    try:
        language = resolve(code)
        stored = directory.delta(language, name) if name else directory.current(language)
    except XcliptError as error:
        raise XcliptError(f"--start {wanted}: {error}") from None
    if stored is None:
        raise XcliptError(
            f"--start {wanted}: {language} has no current delta; name one as LANG/NAME"
        )
    return stored


def _own_start(path: Path, spec: DeltaSpec, fingerprint: str) -> Start:
    with _reading(path):
        start = _read(path.name, path, spec, fingerprint)
    if start is None:
        raise XcliptError(f"--start {path}: was trained for another backbone, kind or setting")
    return start


def _own_setting(path: Path) -> DeltaSpec:
    with _reading(path), safe_open(path, "pt") as file:
        return _spec_of(_fits(file))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise XcliptError(f"--start {path}: cannot be read as a start ({reason})") from None


def _read(name: str, path: Path, spec: DeltaSpec, fingerprint: str) -> Start | None:
    with safe_open(path, "pt") as file:
        fits = _fits(file)
        if fits | {"setting": asdict(_spec_of(fits))} != _fit(spec, fingerprint):
            return None
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    return Start(name, content_hash(path.read_bytes()), tensors)


def _fits(file: Any) -> dict[str, Any]:
    fits: dict[str, Any] = json.loads(file.metadata()[_FITS])
    return fits


def _spec_of(fits: Mapping[str, Any]) -> DeltaSpec:
    return spec_from(fits["kind"], fits["setting"])


def _fit(spec: DeltaSpec, fingerprint: str) -> dict[str, object]:
    # A tuned head and a hard prompt change nothing in the tensors that a start holds.
    setting = asdict(spec) | {"tune_head": False, "hard_prompt": ""}
    return {"backbone": fingerprint, "kind": spec.kind, "setting": setting}
