"""``xclipt verify``: whether everything in an artifact directory is what it should be."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclipt.alignment.store import check_alignment
from xclipt.artifacts.arrays import read_arrays
from xclipt.artifacts.directory import CURRENT, INTERRUPTED, MARK, ArtifactDirectory, StoredDelta
from xclipt.artifacts.feature_rows import read_chunk
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest, repeated_facts
from xclipt.artifacts.shards import read_shard
from xclipt.backbones.identity import BackboneIdentity
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.outline import Shapes, not_finite, outline, require_shapes
from xclipt.errors import XcliptError, recommended
from xclipt.files import SUMS, check_sums, is_aside
from xclipt.languages import SEVERAL
from xclipt.parallel.stored import CARDS, check_pairs
from xclipt.search.stored import check_index
from xclipt.translation.store import accept_lines, check_translator, damaged_lines

if TYPE_CHECKING:
    from xclipt.backbones.text_tower import TextTower

_ASIDE = "left by a command that was killed, or still runs; the next one that writes removes it"
_LOOKS = 5
_REPLACED = "of the delta that was here before, or of one that is being stored; else delete it"
_STARTED = "no delta yet; the command that began it goes on, or delete it"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        path: Within the artifact directory.
        problem: What is wrong with it and the remedy, in one line; empty where it is well.
        unfinished: What a command that was killed or runs still has left to do with it, which is
            no fault; empty where it is done.
    """

    path: str
    problem: str = ""
    unfinished: str = ""


def verify(directory: ArtifactDirectory) -> list[Finding]:
    """Look at all that is stored, and tell what is not what was written.

    A delta is checked for its manifest, its place, its backbone's fingerprint, the hash of its
    weights, the facts that they repeat, their count, names and shapes, and files that nothing
    refers to; translations, alignment sets, parallel sentences, features, indexes and exports for
    their content.

    Args:
        directory: The directory; nothing in it is changed. Where its backbone cannot be described,
            that is a finding, and names and shapes are not checked.

    Returns:
        A finding for each delta and each damaged, dangling or unfinished file, by path.
    """
    root = directory.root
    findings = []
    outlines = _Outlines(directory.backbone)
    for language in _folders(root / "deltas"):
        findings += list(_language(directory, language, outlines))
    if outlines.problem:
        findings.insert(0, Finding(MARK, outlines.problem))
    for pattern, check in (
        ("features/*/*", _features),
        ("translations/*/*/translator.yaml", check_translator),
        ("translations/*/*/*.jsonl", _translations),
        (f"alignments/*/*/{MANIFEST}", lambda path: check_alignment(path.parent)),
        (CARDS, lambda path: check_pairs(path.parent)),
        ("indexes/*.safetensors", check_index),
        (f"exports/*/*/*/{SUMS}", lambda path: check_sums(path.parent)),
    ):
        for path in sorted(root.glob(pattern)):
            place = path.relative_to(root)
            if aside := next(filter(is_aside, (place, *place.parents)), None):
                findings.append(Finding(str(aside), unfinished=_ASIDE))
            elif problem := check(path):
                findings.append(Finding(str(place), problem))
    return list(dict.fromkeys(findings))


def accept(directory: ArtifactDirectory) -> list[str]:
    """Take edited manifests and translations as they are: their files are made to agree.

    Returns:
        The paths of what was edited, within the directory.

    Raises:
        XcliptError: An edit is no setting, an edited delta is damaged too, or a file cannot be
            written.
    """
    root, accepted = directory.root, []
    for path in sorted(root.glob(f"deltas/*/*/{MANIFEST}")):
        manifest = DeltaManifest.read(path)
        repeated = repeated_facts(path.parent / manifest.weights.file)
        if manifest.format == 1 or repeated is None or repeated == manifest.facts():
            continue
        edited = StoredDelta(manifest, path.parent, current=False)
        tensors = edited.tensors(edited=True)
        _ = edited.spec  # an edit that is no setting is refused before anything is written
        directory.write_delta(*manifest.packed(tensors), make_current=False)
        accepted.append(str(path.relative_to(root)))
    shards = sorted(root.glob("translations/*/*/*.jsonl"))
    return accepted + [str(shard.relative_to(root)) for shard in shards if accept_lines(shard)]


class _Outlines:
    """What tensors deltas have on a backbone; :attr:`problem` tells why that cannot be known."""

    def __init__(self, backbone: BackboneIdentity) -> None:
        self._backbone = backbone
        self.problem = ""

    def of(self, spec: DeltaSpec) -> Shapes | None:
        folder = Path(self._backbone.id)
        if folder.is_absolute() and not folder.is_dir():  # that it has gone is told in any case
            return self._work_out(spec)
        return outline(self._backbone.fingerprint, spec, lambda: self._work_out(spec))

    def _work_out(self, spec: DeltaSpec) -> Shapes | None:
        from xclipt.deltas.adapted import shapes

        return shapes(self._tower, spec) if self._tower else None

    @cached_property
    def _tower(self) -> "TextTower | None":
        from xclipt.backbones.registry import blueprint

        try:
            return blueprint(self._backbone.id).text_tower
        except XcliptError as error:
            self.problem = f"names and shapes cannot be checked: {error}"
            return None


def _language(
    directory: ArtifactDirectory, folder: Path, outlines: "_Outlines"
) -> Iterator[Finding]:
    root = directory.root
    if folder.is_symlink() or not folder.is_dir():
        yield Finding(str(folder.relative_to(root)), "not a language's folder; delete it")
        return
    complete = []
    for path in sorted(folder.iterdir()):
        place = str(path.relative_to(root))
        if path.name == CURRENT:
            continue
        if is_aside(path):
            yield Finding(place, unfinished=_ASIDE)
        elif path.is_symlink() or not path.is_dir():
            yield Finding(place, "nothing refers to it; delete it")
        elif (path / MANIFEST).exists():
            complete.append(path.name)
            yield Finding(place, _first_problem(directory, path, outlines))
            for file in _dangling(path):
                where = str(file.relative_to(root))
                if is_aside(file):
                    yield Finding(where, unfinished=_ASIDE)
                elif _is_of_a_start(file):
                    yield Finding(where, unfinished=_REPLACED)
                else:
                    yield Finding(where, "nothing refers to it; delete it")
        elif all(map(_is_of_a_start, path.iterdir())):
            yield Finding(place, unfinished=_STARTED)
        else:
            yield Finding(place, f"no {MANIFEST}, so no delta; delete it")
    language = folder.name
    if language == SEVERAL:
        return
    current, there = directory.current_name(language), directory.names(language)
    place = str((folder / CURRENT).relative_to(root))
    if current is None and complete:
        chosen = recommended("use", language, complete[0])
        yield Finding(place, unfinished=f"no delta is current; choose one: {chosen}")
    elif current is not None and current not in there:
        remedy = f"choose one: {recommended('use', language, there[0])}" if there else "delete it"
        yield Finding(place, f"names '{current}', which is not there; {remedy}")


def _is_of_a_start(path: Path) -> bool:
    """Whether a file is one that is written before the manifest is."""
    weights = path.name.startswith("delta-") and path.suffix == ".safetensors"
    return weights or path.name == INTERRUPTED or is_aside(path)


def _first_problem(directory: ArtifactDirectory, folder: Path, outlines: "_Outlines") -> str:
    """What is wrong with a delta that nobody replaces while it is looked at."""
    for _ in range(_LOOKS):
        before = _stamp(folder / MANIFEST)
        problem = _problem(directory, folder, outlines)
        if not problem or _stamp(folder / MANIFEST) == before:
            break
    return problem


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _problem(directory: ArtifactDirectory, folder: Path, outlines: "_Outlines") -> str:
    try:
        manifest = DeltaManifest.read(folder / MANIFEST)
        own = (manifest.language, manifest.name)
        if own != (folder.parent.name, folder.name):
            return f"its manifest is that of {'/'.join(own)}; move it there"
        stored = directory.delta(*own)
        arrays = read_arrays(stored.checked())
        count = sum(array.size for array in arrays.values())
        if count != manifest.weights.parameters:
            return f"holds {count:,} numbers, its manifest says {manifest.weights.parameters:,}"
        if wanted := outlines.of(stored.spec):
            require_shapes(folder, wanted, {name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise not_finite(folder, name)
    except XcliptError as error:
        return str(error).removeprefix(f"{folder}: ")
    return ""


def _dangling(folder: Path) -> list[Path]:
    known = {MANIFEST, INTERRUPTED}
    try:
        known.add(DeltaManifest.read(folder / MANIFEST).weights.file)
    except XcliptError:
        return []
    return sorted(path for path in folder.iterdir() if path.name not in known)


def _features(path: Path) -> str:
    if path.suffix == ".npy":
        sound = read_chunk(path) is not None
        return "" if sound else "is not what was written; delete it, it is computed again"
    if path.suffix != ".safetensors":
        return "nothing refers to it; delete it"
    try:
        read_shard(path)
    except XcliptError as error:
        return f"{error}; delete it, it is computed again"
    return ""


def _translations(path: Path) -> str:
    lines = damaged_lines(path)
    if not lines:
        return ""
    return (
        f"{len(lines)} lines were edited or are damaged and are not used, first line {lines[0]}; "
        "put them back, or take them as they are with `xclipt verify --accept`"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
