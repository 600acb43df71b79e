"""The artifact directory: what is where, and the rules that keep it whole.

::

    xclipt.yaml                          format, and the backbone that everything here stands on
    deltas/LANG/current                  the name of the language's current delta, or mul/NAME
    deltas/LANG/NAME/manifest.yaml       what it is; written last, so it is there or it is not
    deltas/LANG/NAME/delta-HASH.safetensors
    deltas/LANG/NAME/training.safetensors    an interrupted training, gone when it ends
    deltas/mul/NAME/                     the same of a delta that was taught several languages
    translations/SOURCE-TARGET/TRANSLATOR/   translator.yaml and shards of JSON lines
    alignments/LANG/NAME/                pairs of texts: manifest.yaml and pairs-HASH.jsonl
    parallel/LANG/KEY/                   sentences and their English: pairs.yaml, pairs.tsv and
                                         offsets.npy, named by what they were read from
    features/SPACE/*.safetensors         features of pictures and captions, by content
    features/pairs-HASH/*.npy            features of sentence pairs' English sides, by number
    indexes/FOLDER-BACKBONE.safetensors  features of a searched folder's pictures, by file
    exports/                             where export-delta writes unless told otherwise
"""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from xclipt.artifacts.manifest import (
    MANIFEST,
    DeltaManifest,
    differences,
    repeated_facts,
)
from xclipt.backbones.identity import BackboneIdentity
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.kinds import stored_spec
from xclipt.documents import read_yaml, record
from xclipt.errors import UsageError, XcliptError, recommended
from xclipt.files import (
    content_hash,
    delete,
    locked,
    read_regular,
    remove_folder,
    sweep,
    write_bytes,
    write_text,
)
from xclipt.languages import SEVERAL, relatives
from xclipt.progress import Silent

if TYPE_CHECKING:  # what only looks, such as status, need not wait for torch
    from torch import Tensor

    from xclipt.artifacts.features import FeatureStore
    from xclipt.backbones.backbone import Backbone

FORMAT = 1
MARK = "xclipt.yaml"
INTERRUPTED = "training.safetensors"
"""Where a delta's training that was cut off goes on from."""
CURRENT = "current"
"""The file that names a language's current delta."""

_FOLDERS = (
    *("deltas", "translations", "alignments", "parallel", "features", "indexes"),
    "exports",
)
FLOAT32 = "float32"
_LEVELS = 3  # kind, language and name

_LONGEST_NAME = 4096

_JOINT = f"{SEVERAL}/"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(current|con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""``current`` is a file of ours; the others are devices to Windows, whatever their ending."""


def in_numbers(name: str, dtype: str) -> str:
    """The name of what is computed in numbers of a type; float32 goes without saying."""
    return name if dtype == FLOAT32 else f"{name}-{dtype}"


def check_name(name: str, what: str = "a delta") -> None:
    """Refuse what cannot be a folder's name on every file system, or is a name of ours.

    Raises:
        UsageError: Says what may be in a name, and what is reserved.
    """
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"{name!r} cannot name {what}: use up to 100 letters, digits, '.', '_' and '-', from a "
            "letter or digit to anything but a '.'"
        )
    if _RESERVED.fullmatch(name):
        raise UsageError(f"{name!r} cannot name {what}: it is a reserved word; take another")


@dataclass(frozen=True)
class StoredDelta:
    """A delta on disk. ``folder`` holds the manifest and the weights that it names."""

    manifest: DeltaManifest
    folder: Path
    current: bool
    """Whether it is the current one of its language, or of one of its languages."""

    @property
    def spec(self) -> DeltaSpec:
        """Kind and settings.

        Raises:
            XcliptError: The manifest names a kind or a setting that this xclipt does not know.
        """
        try:
            return stored_spec(self.manifest.kind, self.manifest.setting)
        except XcliptError as error:
            raise XcliptError(f"{self.folder / MANIFEST}: {error}") from None

    def require_facts(self) -> None:
        """Refuse a manifest that was edited: its facts are not those that its weights repeat.

        Raises:
            XcliptError: Names the entries that differ.
        """
        if self.manifest.format == 1:
            return
        repeated = repeated_facts(self.folder / self.manifest.weights.file)
        if repeated is None:
            return  # :meth:`tensors` tells what is wrong with the file
        if edited := differences(self.manifest.facts(), repeated):
            raise XcliptError(
                f"{self.folder}: {MANIFEST} was edited: it and the weights differ in {edited}; put "
                "it back, or take the edit as it is with `xclipt verify --accept`"
            )

    def load_backbone(self) -> "Backbone":
        """The backbone that it was trained on, in float32 on the CPU.

        Raises:
            XcliptError: Its weights cannot be had or are damaged.
        """
        import torch

        from xclipt.backbones.registry import load_backbone

        name, images = self.manifest.backbone["id"], self.manifest.backbone.get("image_tower")
        return load_backbone(name, torch.device("cpu"), torch.float32, Silent(), images)

    def within(self, backbone: "Backbone") -> "Backbone":
        """The backbone with this delta in its text tower, on the same frozen weights.

        Raises:
            XcliptError: The delta's file is damaged or does not fit the tower.
        """
        from xclipt.deltas.adapted import AdaptedTower

        tensors = self.tensors()
        adapted = AdaptedTower(backbone.text_tower, self.spec, tokenizer=backbone.tokenizer)
        adapted.load(tensors)
        return adapted.within(backbone)

    def tensors(self, *, edited: bool = False) -> "dict[str, Tensor]":
        """The weights, after their hash was checked.

        Args:
            edited: Take a manifest that was edited since.

        Raises:
            XcliptError: As :meth:`checked`, or the file is none of tensors.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = self.checked(edited=edited)
        try:
            return load(data)
        except SafetensorError as error:
            path = self.folder / self.manifest.weights.file
            raise XcliptError(f"{path}: not a safetensors file ({error})") from None

    def checked(self, *, edited: bool = False) -> bytes:
        """The file of the weights, if it is what was written.

        Args:
            edited: Take a manifest that was edited since.

        Raises:
            XcliptError: The file is missing, or is not what the manifest says.
        """
        path = self.folder / self.manifest.weights.file
        try:
            data = read_regular(path)
        except OSError as error:
            raise XcliptError(f"{path}: cannot read the delta ({error.strerror})") from None
        if content_hash(data) != self.manifest.weights.sha256:
            raise XcliptError(f"{path}: its content is not what {MANIFEST} says; train it again")
        if not edited:
            self.require_facts()
        return data


class ArtifactDirectory:
    """An artifact directory that exists and is bound to one backbone.

    Open one with :meth:`open` or, where it may have to be made, :meth:`open_or_create`.
    """

    def __init__(self, root: Path, backbone: BackboneIdentity) -> None:
        self.root = root
        self.backbone = backbone

    @staticmethod
    def is_at(root: Path) -> bool:
        """Whether there is an artifact directory, sound or not."""
        return (root / MARK).exists()

    @classmethod
    def open(cls, root: Path) -> "ArtifactDirectory":
        """Open an existing directory.

        Raises:
            XcliptError: It is not one, is of a newer format, or a link leads out of it.
        """
        mark = root / MARK
        try:
            plain = read_yaml(mark)
            made_by, identity = plain["format"], record(BackboneIdentity, plain["backbone"])
        except FileNotFoundError:
            raise XcliptError(
                f"{root}: not an artifact directory (no {MARK}); "
                "`xclipt train-delta --lang fr --shots 10` makes one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise XcliptError(f"{mark}: cannot read ({str(error).splitlines()[0]})") from None
        if made_by != FORMAT:
            raise XcliptError(f"{mark}: format {made_by}, this xclipt reads {FORMAT}: upgrade it")
        _require_within(root)
        return cls(root, identity)

    @classmethod
    def open_or_create(
        cls, root: Path, backbone: BackboneIdentity
    ) -> tuple["ArtifactDirectory", bool]:
        """Open the directory for ``backbone``, or make it; also tells whether it was made.

        Raises:
            XcliptError: It belongs to another backbone, holds other files, or cannot be written.
        """
        if cls.is_at(root):
            directory = cls.open(root)
            directory.require_backbone(backbone)
            directory.sweep()
            return directory, False
        sweep(root, MARK)  # a kill at this very point would else leave a folder that is refused
        if root.exists() and (not root.is_dir() or _not_the_mark(root)):
            raise XcliptError(
                f"{root}: is there already and is not an artifact directory; name another one: "
                "`artifacts=DIR`"
            )
        plain = {"format": FORMAT, "backbone": backbone.plain()}
        write_text(root / MARK, yaml.safe_dump(plain, sort_keys=False))
        return cls(root, backbone), True

    def discard_if_empty(self) -> None:
        """Take the directory away again if it holds nothing but the mark."""
        if [path.name for path in self.root.iterdir()] == [MARK]:
            (self.root / MARK).unlink()
            self.root.rmdir()

    def sweep(self) -> None:
        """Remove what killed commands left aside, anywhere in it; those that run are spared.

        Whatever writes here does so first.
        """
        for where, folders, _ in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            sweep(Path(where))

    def require_there(self) -> None:
        """Refuse to write where the directory has been deleted meanwhile.

        Raises:
            XcliptError: The mark is gone.
        """
        self.require_at(self.root)

    @classmethod
    def require_at(cls, root: Path) -> None:
        """:meth:`require_there` of the directory at ``root``."""
        if not cls.is_at(root):
            raise XcliptError(
                f"{root}: has been deleted or moved meanwhile (no {MARK}); nothing is stored: "
                "put it back, and run the same command"
            )

    def require_backbone(self, backbone: BackboneIdentity) -> None:
        """Refuse any backbone but the directory's own.

        Raises:
            XcliptError: Names both fingerprints.
        """
        if backbone.fingerprint != self.backbone.fingerprint:
            raise XcliptError(
                f"{self.root}: its backbone is {self.backbone.named} "
                f"({self.backbone.fingerprint[:12]}), not {backbone.named} "
                f"({backbone.fingerprint[:12]}); name another directory: `artifacts=DIR`"
            )

    def features(self, space: str, dim: int, dtype: str = FLOAT32) -> "FeatureStore":
        """The features that are kept of a space of this backbone.

        Args:
            space: ``images``, ``texts`` and the like.
            dim: Width of the joint space.
            dtype: In which numbers they are computed; they are stored in float32.
        """
        from xclipt.artifacts.features import FeatureStore

        return FeatureStore(self._features(space, dtype), dim)

    def partners(self, sha256: str, dtype: str) -> Path:
        """Where features of the English sides of sentence pairs are, by the pairs' hash."""
        return self._features(f"pairs-{sha256[:12]}", dtype)

    def _features(self, space: str, dtype: str) -> Path:
        name = in_numbers(f"{space}-{self.backbone.fingerprint[:12]}", dtype)
        return self.root / "features" / name

    @property
    def exports(self) -> Path:
        """Where exports go unless told otherwise."""
        return self.root / "exports"

    def alignment_folder(self, language: str, name: str) -> Path:
        """Where an alignment set is, or would be.

        Raises:
            XcliptError: The name could leave the directory or cannot be a folder's.
        """
        return self._folder("alignments", language, name, "an alignment set")

    def delta_folder(self, language: str, name: str) -> Path:
        """Where a delta is, or would be.

        Args:
            language: ISO 639-1 code, or ``mul``.
            name: The delta's; ``mul/NAME`` is one that was taught several languages.

        Raises:
            XcliptError: The name could leave the directory or cannot be a folder's.
        """
        if name.startswith(_JOINT):
            language, name = SEVERAL, name.removeprefix(_JOINT)
        return self._folder("deltas", language, name, "a delta")

    def _folder(self, kind: str, language: str, name: str, what: str) -> Path:
        check_name(name, what)
        if not _NAME.fullmatch(language):
            raise UsageError(f"{language!r} is no language's code")
        folder = self.root / kind / language
        # Where upper and lower case are one, the two would be one folder.
        twins = (path.name for path in folder.glob("*") if path.name.lower() == name.lower())
        if twin := next((twin for twin in twins if twin != name), None):
            raise UsageError(
                f"{name!r} cannot name {what}: {folder} has '{twin}', which differs in case alone"
            )
        return self.root / kind / language / name

    def write_delta(
        self, manifest: DeltaManifest, data: bytes, *, make_current: bool = True
    ) -> StoredDelta:
        """Store a delta, replacing one of the same name.

        The manifest is the last to be written: a kill leaves the old delta or the new one.

        Args:
            manifest: Everything about it.
            data: The file of its weights, as :func:`~xclipt.artifacts.manifest.pack` made it.
            make_current: Make it the current one of its languages.

        Raises:
            XcliptError: The directory is gone, or cannot be written to.
        """
        self.require_there()
        folder = self.delta_folder(manifest.language, manifest.name)
        weights = manifest.weights
        with locked(folder):  # else one writer might delete what another is about to describe
            write_bytes(folder / weights.file, data)
            write_text(folder / MANIFEST, manifest.to_yaml())
            for old in folder.glob("delta-*.safetensors"):
                if old.name != weights.file:
                    delete(old)
        for language in manifest.taught if make_current else ():
            self.set_current(language, manifest.reference)
        self.require_there()  # else only what was written here is in its place now
        return StoredDelta(manifest, folder, make_current)

    def set_current(self, language: str, name: str) -> None:
        """Make a delta the one that is used for a language.

        Raises:
            XcliptError: There is no such delta of that language.
        """
        if name not in self.names(language):
            raise self._no_delta(language, name)
        write_text(self.root / "deltas" / language / CURRENT, f"{name}\n")

    def removal(self, language: str, name: str) -> Path:
        """The folder that :meth:`remove` would delete.

        Raises:
            XcliptError: There is no such delta, it is current while there are others, or its
                folder is not really in this directory.
        """
        folder = self.delta_folder(language, name)
        if name not in self.names(language):
            raise self._no_delta(language, name)
        reference = f"{_JOINT}{name}" if language == SEVERAL else name
        for user in self._users(language, name):
            if others := [other for other in self.names(user) if other != reference]:
                raise XcliptError(
                    f"{folder}: is the current delta of {user}; first choose another: "
                    + recommended("use", user, others[0])
                )
        if folder.resolve() != self.root.resolve() / "deltas" / language / name:
            raise XcliptError(f"{folder}: is a link to elsewhere; delete it by hand")
        return folder

    def remove(self, language: str, name: str) -> None:
        """Delete a delta, and the features of captions that were computed with it.

        The folder goes aside first: a kill leaves the delta or what the next command that writes
        sweeps, never half a delta.

        Raises:
            XcliptError: As :meth:`removal`, or a file cannot be deleted.
        """
        folder = self.removal(language, name)
        try:
            digest = DeltaManifest.read(folder / MANIFEST).weights.sha256[:12]
        except XcliptError:
            digest = ""
        try:
            for user in self._users(language, name):
                (self.root / "deltas" / user / CURRENT).unlink()
            remove_folder(folder)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        except OSError as error:
            raise XcliptError(f"{folder}: cannot delete ({error.strerror})") from None
        # The same weights may be there under another name.
        if digest and not any(self.root.glob(f"deltas/*/*/delta-{digest}.safetensors")):
            for cache in self.root.glob(f"features/texts-{digest}-*"):
                shutil.rmtree(cache, ignore_errors=True)

    def languages(self) -> list[str]:
        """Languages that have a delta, their own or with others."""
        found = {path.parent.parent.name for path in self.root.glob(f"deltas/*/*/{MANIFEST}")}
        found.discard(SEVERAL)
        return sorted(found.union(*(manifest.taught for manifest in self._joint())))

    def deltas(self) -> list[StoredDelta]:
        """All deltas, by language and name; those of several languages come as ``mul``'s."""
        return [
            StoredDelta(
                DeltaManifest.read(path),
                path.parent,
                bool(self._users(path.parent.parent.name, path.parent.name)),
            )
            for path in sorted(self.root.glob(f"deltas/*/*/{MANIFEST}"))
        ]

    def _joint(self) -> list[DeltaManifest]:
        return [*map(DeltaManifest.read, sorted(self.root.glob(f"deltas/{SEVERAL}/*/{MANIFEST}")))]

    def _users(self, language: str, name: str) -> list[str]:
        """The languages whose current delta it is."""
        if language != SEVERAL:
            return [language] if self.current_name(language) == name else []
        named = sorted(path.parent.name for path in self.root.glob(f"deltas/*/{CURRENT}"))
        return [user for user in named if self.current_name(user) == f"{_JOINT}{name}"]

    def delta(self, language: str, name: str) -> StoredDelta:
        """One delta by name.

        Raises:
            XcliptError: It is not there, is another backbone's, or its manifest was edited.
        """
        folder = self.delta_folder(language, name)
        path = folder / MANIFEST
        if not path.is_file():
            raise self._no_delta(language, name)
        manifest = DeltaManifest.read(path)
        if manifest.backbone["fingerprint"] != self.backbone.fingerprint:
            raise XcliptError(
                f"{folder}: was trained on backbone {manifest.backbone['fingerprint'][:12]}, "
                f"this directory's is {self.backbone.fingerprint[:12]}"
            )
        own = manifest.language, manifest.name
        stored = StoredDelta(manifest, folder, bool(self._users(*own)))
        stored.require_facts()
        return stored

    def names(self, language: str) -> list[str]:
        """What a language's deltas are called; ``mul/NAME`` those that it shares with others."""
        found = (self.root / "deltas" / language).glob(f"*/{MANIFEST}")
        shared = [m.reference for m in self._joint() if language in m.languages]
        return [*sorted(path.parent.name for path in found), *shared]

    def _no_delta(self, language: str, name: str) -> UsageError:
        known = ", ".join(self.names(language)) or "none"
        return UsageError(f"{self.root}: no delta '{name}' for '{language}' (there: {known})")

    def current(self, language: str) -> StoredDelta | None:
        """The language's current delta, ``None`` where it has none.

        Raises:
            XcliptError: It is not there, is another backbone's, or its manifest was edited.
        """
        language = self.home(language)
        name = self.current_name(language)
        if name is None:
            return None
        try:
            return self.delta(language, name)
        except UsageError as error:  # nobody asked for it by name
            path = self.root / "deltas" / language / CURRENT
            raise XcliptError(f"{path}: {error}") from None

    def delta_stamps(self) -> dict[str, tuple[int, int, int]]:
        """What has changed when any language's current delta has: inode, size and time of change of
        the files that name and describe deltas, by their paths.

        All of them are only ever replaced, so that no change leaves the three as they were.
        """
        stamps = {}
        for pattern in (f"deltas/*/{CURRENT}", f"deltas/*/*/{MANIFEST}"):
            for path in self.root.glob(pattern):
                with suppress(OSError):  # gone since
                    status = path.stat()
                    stamps[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return stamps

    def home(self, language: str) -> str:
        """The language whose deltas serve ``language``: itself, or a relative where it has none."""
        others = relatives(language)
        if not others or self.names(language):
            return language
        return next((code for code in others if self.names(code)), language)

    def current_name(self, language: str) -> str | None:
        """What the language's current delta is called, whether it is there or not."""
        path = self.root / "deltas" / language / CURRENT
        try:
            if name := read_regular(path, _LONGEST_NAME).decode().strip():
                return name
            raise ValueError("it is empty")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            there = self.names(language)
            remedy = f", then choose one: {recommended('use', language, there[0])}" if there else ""
            raise XcliptError(
                f"{path}: must be a file that names a delta ({error}); delete it{remedy}"
            ) from None


def _require_within(root: Path) -> None:
    """Refuse folders that are links to elsewhere: whatever is done here must stay here."""
    folders = [root / kind for kind in _FOLDERS]
    for _ in range(_LEVELS):
        for folder in folders:
            if folder.is_symlink() and not folder.resolve().is_relative_to(root.resolve()):
                raise XcliptError(
                    f"{folder}: is a link to elsewhere, {folder.readlink()}; put the folder itself "
                    "in its place, or delete the link"
                )
        folders = [path for folder in folders for path in _folders_of(folder)]


def _folders_of(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry) for entry in entries if entry.is_symlink() or entry.is_dir()]
    except OSError:
        return []


def _not_the_mark(root: Path) -> list[Path]:
    # Another process may be about to put the mark there.
    return [path for path in root.iterdir() if not path.name.startswith(f".{MARK}.")]
