"""``import-delta``: a delta from a folder into an artifact directory."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xclipt
from xclipt.alignment.routines import TARGET, TO_EN
from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest, TrainingData
from xclipt.backbones.identity import BackboneIdentity
from xclipt.backbones.model_files import read_json
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import require_fit
from xclipt.deltas.kinds import spec_from
from xclipt.errors import UsageError, XcliptError, blaming_what_was_named
from xclipt.export import opendelta, peft, released
from xclipt.export.exchange import ReadDelta
from xclipt.export.native import read_native
from xclipt.export.onnx import shared
from xclipt.export.opendelta import read_opendelta
from xclipt.export.peft import read_peft
from xclipt.files import SUMS
from xclipt.languages import resolve


@dataclass(frozen=True)
class Imported:
    """One delta, imported.

    Attributes:
        delta: As it is stored.
        format: The format that it came in.
        foreign: It came without a manifest of xclipt's, so nobody can tell which backbone and
            which data it was trained on; only names and shapes were checked.
    """

    delta: StoredDelta
    format: str
    foreign: bool

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        manifest = self.delta.manifest
        return {
            "language": manifest.language,
            "name": manifest.name,
            "kind": manifest.kind,
            "format": self.format,
            "foreign": self.foreign,
            "current": self.delta.current,
            "path": str(self.delta.folder),
            "trainable_parameters": manifest.weights.parameters,
            "bytes": manifest.weights.bytes,
        }


def import_delta(
    directory: ArtifactDirectory,
    folder: Path,
    *,
    language: str | None = None,
    name: str | None = None,
    make_current: bool = False,
    text: str | None = None,
    alpha: int | None = None,
) -> Imported:
    """Store the delta that a folder holds. It becomes current where its language has no other.

    Args:
        directory: Where to; the delta must stand on its backbone.
        folder: What xclipt, PEFT or OpenDelta wrote; or a ``.ckpt`` of the paper's released code.
        language: The delta's language. Needed for a folder that xclipt did not write; for others
            it must be the manifest's.
        name: Another name than its own.
        make_current: Make it current in any case.
        text: What it was trained on, ``target`` or ``to-en``; ``None`` is what the manifest says,
            and ``target`` without one.
        alpha: A LoRA's, where it comes from a ``.ckpt``; ``None`` is OpenDelta's default.

    Raises:
        XcliptError: The folder holds no delta, a damaged one, another backbone's, or one that does
            not fit the tower; or there is another delta of that name.
    """
    directory.sweep()
    outline = blueprint(directory.backbone.id)
    code = resolve(language) if language else None
    with blaming_what_was_named():
        read = _read(folder, outline.text_tower, alpha)
        if text not in (None, TARGET, TO_EN):
            raise XcliptError(f"choose {TARGET} or {TO_EN}", field="text", value=text)
        if read.manifest is None:
            described = _foreign_manifest(
                directory.backbone, outline.text_parameters, folder, read, code, text or TARGET
            )
        elif text not in (None, read.manifest.text):
            raise XcliptError(
                f"{folder} was trained on {read.manifest.text}", field="text", value=text
            )
        else:
            described = _own_manifest(directory, folder, read, read.manifest, code)
        if name is not None:
            described = replace(described, name=name)
        manifest, data = described.packed(read.tensors)
        where = directory.delta_folder(manifest.language, manifest.name)
        require_fit(
            folder,
            outline.text_tower,
            spec_from(manifest.kind, manifest.setting),
            read.tensors,
        )
    if (where / MANIFEST).exists():
        there = directory.delta(manifest.language, manifest.name)
        if there.manifest.weights.sha256 != manifest.weights.sha256:
            raise UsageError(
                f"{where}: there is another delta of that name; give this one another: `name=NAME`"
            )
    stored = directory.write_delta(manifest, data, make_current=make_current)
    for code in manifest.taught:
        if directory.current_name(code) is None:
            directory.set_current(code, manifest.reference)
    stored = directory.delta(manifest.language, manifest.name)
    return Imported(stored, read.format, read.manifest is None)


def _read(folder: Path, tower: TextTower, alpha: int | None) -> ReadDelta:
    if folder.is_file() and folder.suffix == released.SUFFIX:
        return released.read_released(folder, tower, alpha)
    if alpha is not None:
        raise XcliptError(f"{folder} says it itself; leave it out", field="alpha", value=alpha)
    if not folder.is_dir():
        raise XcliptError(f"{folder}: no such folder; name the folder that holds the delta")
    require_importable(folder)
    readers: list[tuple[bool, Callable[[Path, TextTower], ReadDelta]]] = [
        ((folder / peft.CONFIG).is_file(), read_peft),
        (_is_opendelta(folder / opendelta.CONFIG), read_opendelta),
        ((folder / MANIFEST).is_file(), read_native),
    ]
    for matches, read in readers:
        if matches:
            return read(folder, tower)
    raise XcliptError(
        f"{folder}: no delta; it has none of {MANIFEST}, {peft.CONFIG}, or a {opendelta.CONFIG} "
        f"with delta_type, and a {released.SUFFIX} is named itself"
    )


def require_importable(folder: Path) -> None:
    """Refuse exports that a delta cannot be had from again.

    Raises:
        UsageError: Says what they are.
    """
    beside = "import the native, hub, peft or opendelta export of the delta"
    if any(folder.glob("*.onnx")):
        raise UsageError(f"{folder}: ONNX cannot be imported, its graph is whole; {beside}")
    if (folder / shared.DESCRIPTION).is_file():
        raise UsageError(f"{folder}: inputs of an ONNX graph cannot be imported; {beside}")
    sums = folder / SUMS
    if sums.is_file() and not any(
        name in sums.read_text("utf-8", "replace")
        for name in ("  delta-", f"  {peft.CONFIG}", f"  {opendelta.WEIGHTS}")
    ):
        raise UsageError(
            f"{folder}: a merged tower cannot be imported, the delta is folded in; {beside}"
        )


def _own_name(path: Path) -> str:
    """A delta's name where none is given: its folder's, which a checkpoint has its recipe in."""
    folder = path.parent if path.suffix == released.SUFFIX else path
    return folder.name


def _is_opendelta(path: Path) -> bool:
    return path.is_file() and "delta_type" in read_json(path)


def _own_manifest(
    directory: ArtifactDirectory,
    folder: Path,
    read: ReadDelta,
    manifest: DeltaManifest,
    language: str | None,
) -> DeltaManifest:
    fingerprint = manifest.backbone["fingerprint"]
    if fingerprint != directory.backbone.fingerprint:
        raise XcliptError(
            f"{folder}: was trained on backbone {manifest.backbone['id']} ({fingerprint[:12]}), "
            f"{directory.root} is on {directory.backbone.id} "
            f"({directory.backbone.fingerprint[:12]}); name another directory: `artifacts=DIR`"
        )
    if language not in (None, manifest.language):
        raise XcliptError(
            f"{folder} is a delta for {manifest.language}", field="language", value=language
        )
    spec = StoredDelta(manifest, folder, current=False).spec
    described = {key: getattr(spec, key, None) for key in read.setting}
    changed = manifest.kind != read.kind or described != read.setting
    if changed or manifest.packed(read.tensors)[0].weights != manifest.weights:
        raise XcliptError(
            f"{folder}: its weights or settings are not those that {MANIFEST} describes; if they "
            f"were trained on, delete {MANIFEST} there and import it as a new delta with "
            "`language=LANG`"
        )
    return replace(manifest, backbone=directory.backbone.plain())


def _foreign_manifest(
    backbone: BackboneIdentity,
    text_parameters: int,
    folder: Path,
    read: ReadDelta,
    language: str | None,
    text: str,
) -> DeltaManifest:
    if language is None:
        raise XcliptError(
            f"{folder}: has no {MANIFEST} of xclipt's, so neither its language nor its backbone is "
            "known; give `language=LANG` if you know that it was trained on this backbone"
        )
    try:
        spec = spec_from(read.kind, read.setting)
    except XcliptError as error:
        raise XcliptError(f"{folder}: {error}") from None
    described, _ = DeltaManifest.of(
        read.tensors,
        language=language,
        name=_own_name(folder.resolve()),
        kind=read.kind,
        setting=asdict(spec),
        backbone=backbone.plain(),
        backbone_parameters=text_parameters,
        routine=None,
        text=text,
        recipe={"imported_from": read.format},
        seed=0,
        data=TrainingData("unknown", None, None, 0, "", None, 0, ()),
        steps=0,
        seconds=0.0,
        validation={"pictures": 0},
        versions={"xclipt": xclipt.__version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return described
