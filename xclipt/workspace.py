"""An artifact directory with its backbone in memory: what every command works in."""

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torch import Tensor

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.artifacts.features import FeatureStore, cached_features
from xclipt.backbones.backbone import Backbone, NonFiniteError
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.registry import load_backbone
from xclipt.data.pictures import find_broken
from xclipt.deltas.kind import DeltaSpec, with_prompt
from xclipt.devices import choose_device, choose_dtype, dtype_name
from xclipt.errors import XcliptError
from xclipt.files import file_key, text_key
from xclipt.languages import name as language_name
from xclipt.progress import Progress, Silent


@dataclass(frozen=True)
class EncodedPictures:
    """Features of pictures ``(n, dim)`` and the SHA-256 of each one's file."""

    features: Tensor
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class Workspace:
    """Where a command works: the directory, the backbone that it is bound to, and a listener."""

    directory: ArtifactDirectory
    backbone: Backbone
    progress: Progress
    _remarked: set[str] = field(default_factory=set, repr=False, compare=False)

    def features(self, space: str) -> FeatureStore:
        """The features that are kept of a space, such as ``images``, in the backbone's numbers."""
        return self.directory.features(space, self.backbone.dim, dtype_name(self.backbone.dtype))

    def encode_pictures(self, paths: Sequence[Path]) -> EncodedPictures:
        """Features of picture files, from the cache where their content is known.

        Raises:
            XcliptError: A file is missing, or some are no pictures: they are counted and named.
            NonFiniteError: The backbone is damaged.
        """
        keys = []
        for path in paths:
            try:
                keys.append(file_key(path))
            except OSError as error:
                raise XcliptError(f"{path}: cannot read ({error.strerror})") from None

        def compute(rows: list[int]) -> Tensor:
            wanted = [paths[i] for i in rows]
            try:
                return self.backbone.encode_pictures(wanted, self.progress)
            except NonFiniteError:
                raise
            except XcliptError as error:
                raise _naming_all_broken(paths, error) from None

        store = self.features("images")
        return EncodedPictures(cached_features(store, keys, compute, self.progress), tuple(keys))

    def encode_texts(
        self,
        captions: Sequence[str],
        delta: StoredDelta | None = None,
        *,
        prompt: str | None = None,
        language: str | None = None,
    ) -> Tensor:
        """Features of captions ``(n, dim)`` with a delta or, without one, of the frozen tower.

        Args:
            captions: Texts.
            delta: Whose features they are.
            prompt: Put before every caption; ``None`` is the delta's own hard prompt.
            language: The captions'; some towers are told.

        Raises:
            XcliptError: The delta is damaged or does not fit.
            NonFiniteError: Backbone or delta make no numbers of a caption: whose, and of which.
        """
        self.note_language(language)
        space = f"texts-{delta.manifest.weights.sha256[:12]}" if delta else "texts"
        whose = f"{delta.manifest.language}/{delta.manifest.name}" if delta else None
        if prompt is not None:
            captions = [with_prompt(prompt, caption) for caption in captions]
        elif delta:
            captions = [delta.spec.prompted(caption) for caption in captions]

        @cache
        def backbone() -> Backbone:
            return delta.within(self.backbone) if delta else self.backbone

        def compute(rows: list[int]) -> Tensor:
            wanted = [captions[i] for i in rows]
            try:
                return backbone().encode_texts(wanted, self.progress, language)
            except NonFiniteError as error:
                raise self.not_finite(wanted[error.position], whose) from None

        identified = self.backbone.tokenizer.identified
        return cached_features(
            self.features(space),
            [text_key(identified(caption, language)) for caption in captions],
            compute,
            self.progress,
        )

    def not_finite(self, text: str, delta: str | None = None) -> NonFiniteError:
        """The error of a text that has no finite features.

        Args:
            text: As the tower was given it.
            delta: Whose features they are; it is not blamed for what the frozen backbone does too.
        """
        if delta:
            try:
                self.backbone.encode_texts([text])
            except NonFiniteError:
                delta = None
        return self.backbone.not_finite(reprlib.repr(text), delta)

    def language_remark(self, language: str | None) -> str | None:
        """What there is to say once of a language that the text tower takes for English.

        Args:
            language: ISO 639-1 code.
        """
        if language in self._remarked or not self.backbone.tokenizer.takes_for_english(language):
            return None
        assert language is not None
        self._remarked.add(language)
        return (
            f"'{language}' ({language_name(language)}): {self.backbone.identity.id} is told the "
            "language of a text and has no token for this one, so that it gets English's"
        )

    def note_language(self, language: str | None) -> None:
        """Remark once on a language that the text tower takes for English."""
        if remark := self.language_remark(language):
            self.progress.note(remark)

    def note_cut(
        self, source: str, texts: Iterable[tuple[Sequence[str], DeltaSpec | None]]
    ) -> None:
        """Remark once how many different texts the text tower sees the beginning of alone.

        Args:
            source: Where the texts are from.
            texts: Captions with the delta that they are encoded with, if any.
        """
        seen: set[str] = set()
        cut: set[str] = set()
        for captions, spec in texts:
            prompted = [spec.prompted(text) for text in captions] if spec else captions
            seen |= set(captions)
            cut |= {captions[i] for i in self.backbone.cut(prompted, spec.positions if spec else 0)}
        self.remark_cut(source, len(cut), len(seen))

    def remark_cut(self, source: str, cut: int, seen: int) -> None:
        """As :meth:`note_cut`, where somebody else has counted."""
        if cut:
            self.progress.note(
                f"{source}: {cut:,} of {seen:,} texts do not fit the text tower's "
                f"{self.backbone.tokenizer.max_length} tokens and are cut"
            )


def _naming_all_broken(paths: Sequence[Path], error: XcliptError) -> XcliptError:
    broken = find_broken(paths)
    if len(broken) < 2:
        return error
    named = ", ".join(f"{picture.path.name} ({picture.reason})" for picture in broken[:3])
    return XcliptError(
        f"{broken[0].path.parent}: {len(broken)} of {len(paths)} pictures are broken: {named}"
        f"{', ...' if len(broken) > 3 else ''}; remove them and set `allow_missing=True`"
    )


def open_workspace(
    root: str | Path,
    progress: Progress | None = None,
    *,
    backbone: str | None = None,
    image_tower: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    create: bool = False,
) -> Workspace:
    """Open an artifact directory and load its backbone.

    >>> import xclipt
    >>> xclipt.open_workspace("xclipt-artifacts", create=True).backbone.identity.id
    'builtin'

    Args:
        root: The directory.
        progress: Told of what takes long.
        backbone: Name, hub id or folder; ``None`` is the directory's own, or the default.
        image_tower: Hub id or folder of the image tower that belongs to a text tower which was
            published by itself; ``None`` is the directory's own, or the one that is known.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: Compute precision: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is float32.
        create: Make the directory when it is not there.

    Raises:
        XcliptError: No such directory, backbone or device; or the directory is another backbone's.
    """
    root, progress = Path(root), progress or Silent()
    if not create:
        ArtifactDirectory.open(root)
    backbone = backbone_name(root, backbone)
    task = progress.start("Loading the backbone", None)
    try:
        loaded = load_backbone(
            backbone,
            choose_device(device),
            choose_dtype(dtype),
            progress,
            image_tower or _own_image_tower(root, backbone),
        )
    finally:
        task.finish()
    directory, _ = ArtifactDirectory.open_or_create(root, loaded.identity)
    return Workspace(directory, loaded, progress)


def open_backbone(
    name: str = BUILTIN,
    progress: Progress | None = None,
    *,
    device: str = "auto",
    dtype: str = "float32",
) -> Backbone:
    """Load a backbone by itself: its towers, tokenizer and preprocessing.

    >>> import xclipt
    >>> xclipt.open_backbone("builtin").encode_texts(["a black cat"]).shape
    torch.Size([1, 512])

    Args:
        name: Name, hub id or folder.
        progress: Told of what takes long.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: Compute precision: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is float32.

    Raises:
        XcliptError: No such backbone or device.
    """
    return load_backbone(name, choose_device(device), choose_dtype(dtype), progress or Silent())


def backbone_name(root: Path, asked: str | None) -> str:
    """The backbone to load: the one asked for, else the directory's own, else the default.

    Raises:
        XcliptError: The directory is damaged.
    """
    if not ArtifactDirectory.is_at(root):
        return asked or BUILTIN
    known = ArtifactDirectory.open(root)
    return asked or known.backbone.id


def _own_image_tower(root: Path, backbone: str) -> str | None:
    """The image tower that the directory's backbone was named with, if it is this backbone."""
    if not ArtifactDirectory.is_at(root):
        return None
    known = ArtifactDirectory.open(root).backbone
    return known.image_tower if known.id in (backbone, str(Path(backbone).resolve())) else None
