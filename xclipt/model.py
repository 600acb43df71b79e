"""The Python API: texts in any language and pictures in, features out."""

import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.loaded import DeltaCache, LoadedDelta
from xclipt.backbones.backbone import Backbone, NonFiniteError
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.mixed import MixedLoraTower, can_mix
from xclipt.detection import detect
from xclipt.errors import FallbackWarning, UsageError, XcliptError
from xclipt.languages import name as language_name
from xclipt.languages import resolve
from xclipt.progress import Progress, Silent
from xclipt.workspace import Workspace, open_workspace

Fallback = Literal["error", "base"]
AUTO = "auto"
_BASE = "en"
"""Deltas are aligned with English, so English without one is no makeshift."""


@dataclass(frozen=True)
class TextLanguage:
    """How a text is encoded.

    Attributes:
        language: ISO 639-1 code; ``None`` where none was named or detected.
        delta: Name of the delta; ``None`` is the frozen base.
        confidence: How sure the detector was, 0 to 1; ``None`` for a language that was named.
        fallback: Whether the base stands in for a delta that is not there.
    """

    language: str | None
    delta: str | None
    confidence: float | None
    fallback: bool


@dataclass(frozen=True, eq=False)
class PreparedText:
    """A text as a tower takes it, with the delta that it is encoded with.

    Attributes:
        how: Its language, and the delta's name.
        text: As the tower is given it: after the delta's hard prompt, if it has one.
        tokens: Its ids, cut at what the tower takes.
        delta: ``None`` is the frozen base.
    """

    how: TextLanguage
    text: str
    tokens: list[int] = field(repr=False)
    delta: LoadedDelta | None

    @property
    def positions(self) -> int:
        """How many of the tower's positions the delta takes."""
        return self.delta.spec.positions if self.delta else 0


class Model:
    """A backbone in memory with the current deltas of its artifact directory.

    All methods may be called from several threads at once. Deltas are read when their language is
    first asked for; :meth:`refresh` sees what was trained since.

    Args:
        workspace: The directory and its backbone.
        capacity: Most deltas that are kept in memory; the least recently used is dropped.
    """

    def __init__(self, workspace: Workspace, *, capacity: int = 100) -> None:
        self.workspace = workspace
        self._backbone = workspace.backbone
        self._deltas = DeltaCache(workspace.directory, workspace.backbone.device, capacity)
        self._towers: dict[DeltaSpec, _SwappingTower] = {}
        self._mixed: dict[LoraSpec, MixedLoraTower] = {}
        self._warned: set[str] = set()
        self._building = threading.Lock()
        self._tokenizing = threading.Lock()

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self._backbone.dim

    @property
    def languages(self) -> list[str]:
        """Languages that have a current delta."""
        directory = self.workspace.directory
        return [code for code in directory.languages() if directory.current_name(code)]

    def encode_text(
        self,
        texts: str | Sequence[str],
        language: str | Sequence[str | None] | None = None,
        *,
        fallback: Fallback = "error",
    ) -> NDArray[np.float32]:
        """Features of texts ``(n, dim)``, L2-normalised.

        >>> model.encode_text(["un chat", "kedi"], language=["fr", "tr"])  # doctest: +SKIP

        Args:
            texts: One or several.
            language: One code, or one per text; ``None`` is the frozen base, ``"auto"`` detects
                (``pip install 'xclipt[detect]'``). Texts of many languages may be mixed: the
                features are those of a call per language, up to float32 rounding (within 1e-5).
            fallback: For a language without a delta: ``"error"`` raises, ``"base"`` encodes with
                the frozen base and warns once. English without a delta is the base by definition.

        Raises:
            XcliptError: No such language, no delta for it, or a delta that cannot be used.
            NonFiniteError: Backbone or delta make no numbers of a text: whose, and of which.
        """
        prepared = self.prepare(texts, language, fallback=fallback)
        for code in dict.fromkeys(one.how.language for one in prepared if one.how.fallback):
            self._warn_of_base(str(code))
        for code in dict.fromkeys(one.how.language for one in prepared):
            if remark := self.workspace.language_remark(code):
                warnings.warn(remark, FallbackWarning, stacklevel=2)
        return self.encode(prepared)

    def prepare(
        self,
        texts: str | Sequence[str],
        language: str | Sequence[str | None] | None = None,
        *,
        fallback: Fallback = "error",
    ) -> list[PreparedText]:
        """The first half of :meth:`encode_text`: all of it but the towers, and without a warning.

        What was prepared keeps its delta, whatever :meth:`refresh` sees meanwhile, so that texts of
        many calls can be encoded together.

        Raises:
            XcliptError: As :meth:`encode_text`.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if fallback not in ("error", "base"):
            raise XcliptError("choose error or base", field="fallback", value=fallback)
        resolved = self._resolved(texts, language)
        for found, _ in resolved:
            if found.fallback and fallback == "error":
                raise self._no_delta(str(found.language))
        prompted = [
            delta.spec.prompted(text) if delta else text
            for text, (_, delta) in zip(texts, resolved, strict=True)
        ]
        with self._tokenizing:  # the tokenizer keeps its truncation as state
            rows = self._backbone.tokenizer(prompted, [found.language for found, _ in resolved])
        return [
            PreparedText(found, text, row, delta)
            for (found, delta), text, row in zip(resolved, prompted, rows, strict=True)
        ]

    def encode(self, prepared: Sequence[PreparedText]) -> NDArray[np.float32]:
        """The second half: features of prepared texts ``(n, dim)``, L2-normalised.

        Raises:
            XcliptError: A delta does not fit the tower.
            NonFiniteError: As :meth:`encode_text`.
        """
        features = torch.empty(len(prepared), self.dim)
        for members in _groups([one.delta for one in prepared]):
            try:
                features[members] = self._encode_group(
                    [prepared[i].delta for i in members], [prepared[i].tokens for i in members]
                )
            except NonFiniteError as error:
                first = prepared[members[error.position]]
                whose = f"{first.delta.language}/{first.delta.name}" if first.delta else None
                raise self.workspace.not_finite(first.text, whose) from None
        return _normalised(features)

    def cut(self, prepared: Sequence[PreparedText]) -> list[int]:
        """Positions of the texts that :meth:`encode` encodes the beginning of alone."""
        full = [
            i
            for i, one in enumerate(prepared)
            if len(one.tokens) >= self._backbone.room(one.positions)
        ]
        with self._tokenizing:
            return [
                i for i in full if self._backbone.cut([prepared[i].text], prepared[i].positions)
            ]

    def encode_image(self, paths: str | Path | Sequence[str | Path]) -> NDArray[np.float32]:
        """Features of picture files ``(n, dim)``, L2-normalised. Nothing is kept on disk.

        Raises:
            XcliptError: A file is missing or is not a picture.
            NonFiniteError: The backbone is damaged.
        """
        several = [paths] if isinstance(paths, str | Path) else paths
        return _normalised(self._backbone.encode_pictures([Path(path) for path in several]))

    def resolve(
        self, texts: Sequence[str], language: str | Sequence[str | None] | None = AUTO
    ) -> list[TextLanguage]:
        """How :meth:`encode_text` encodes each text, and how sure the detector is.

        Raises:
            XcliptError: No such language, or a delta that cannot be used.
        """
        return [found for found, _ in self._resolved(list(texts), language)]

    def note_cut(
        self, source: str, texts: Sequence[str], language: str | Sequence[str | None] | None = None
    ) -> None:
        """Remark how many texts :meth:`encode_text` encodes the beginning of alone.

        Args:
            source: Where the texts are from.
            texts: As for :meth:`encode_text`.
            language: The same.
        """
        resolved = self._resolved(texts, language)
        self.workspace.note_cut(
            source,
            [
                ([text], delta.spec if delta else None)
                for text, (_, delta) in zip(texts, resolved, strict=True)
            ],
        )

    def warm(self, languages: Iterable[str] | None = None) -> None:
        """Read deltas now, all by default, so that no later call waits for the disk.

        Raises:
            XcliptError: One is damaged, or there is none for a language named.
        """
        for code in self.languages if languages is None else languages:
            delta = self._deltas.get(resolve(code))
            if delta is None:
                raise self._no_delta(resolve(code))
            self._tower(delta).swap(delta)

    def refresh(self) -> None:
        """Forget the deltas in memory: each is looked up on disk when it is next asked for."""
        self._deltas.forget()

    def _resolved(
        self, texts: Sequence[str], language: str | Sequence[str | None] | None
    ) -> list[tuple[TextLanguage, LoadedDelta | None]]:
        codes: list[str | None]
        if language is None or isinstance(language, str):
            codes = [language] * len(texts)
        else:
            codes = list(language)
        if len(codes) != len(texts):
            raise XcliptError(f"{len(codes)} codes for {len(texts)} texts", field="language")
        unknown = [i for i, code in enumerate(codes) if code == AUTO]
        detected = dict(zip(unknown, detect([texts[i] for i in unknown]), strict=True))
        resolved = []
        for i, typed in enumerate(codes):
            confidence = detected[i].confidence if i in detected else None
            code = detected[i].language if i in detected else typed and resolve(typed)
            delta = self._deltas.get(code) if code else None
            missing = bool(code) and delta is None and code != _BASE
            name = delta.name if delta else None
            resolved.append((TextLanguage(code, name, confidence, missing), delta))
        return resolved

    def _warn_of_base(self, code: str) -> None:
        if code not in self._warned:
            self._warned.add(code)
            warnings.warn(
                f"no delta for '{code}' ({language_name(code)}): its texts are encoded with the "
                "frozen base",
                FallbackWarning,
                stacklevel=3,
            )

    def _no_delta(self, code: str) -> XcliptError:
        return no_delta(self.workspace.directory, code, self.languages)

    def _encode_group(
        self, deltas: Sequence[LoadedDelta | None], rows: Sequence[list[int]]
    ) -> Tensor:
        given = [delta for delta in deltas if delta]
        if not given:
            return self._backbone.encode_tokens(rows)
        first = given[0]
        if all(delta is first for delta in given):
            return self._tower(first).encode(first, rows)
        return self._encode_mixed(given, rows)

    def _encode_mixed(self, deltas: Sequence[LoadedDelta], rows: Sequence[list[int]]) -> Tensor:
        architecture = deltas[0].spec.architecture
        assert isinstance(architecture, LoraSpec)
        with self._building:
            if architecture not in self._mixed:
                self._mixed[architecture] = MixedLoraTower(self._backbone, architecture)
            tower = self._mixed[architecture]
        for delta in dict.fromkeys(deltas):
            if not tower.fits(delta.tensors):
                raise XcliptError(
                    f"delta '{delta.name}' of '{delta.language}': its tensors do not fit this "
                    "tower; train it again"
                )
        return tower.encode([delta.tensors for delta in deltas], rows)

    def _tower(self, delta: LoadedDelta) -> "_SwappingTower":
        architecture = delta.spec.architecture
        with self._building:
            if architecture not in self._towers:
                self._towers[architecture] = _SwappingTower(self._backbone, architecture)
            return self._towers[architecture]


class _SwappingTower:
    """One architecture of delta in a tower of its own; deltas take turns in it. Thread-safe."""

    def __init__(self, backbone: Backbone, architecture: DeltaSpec) -> None:
        self._adapted = AdaptedTower(backbone.text_tower, architecture)
        self._backbone = self._adapted.within(backbone)
        self._holds: LoadedDelta | None = None
        self._lock = threading.Lock()

    def swap(self, delta: LoadedDelta) -> None:
        """Make ``delta`` the one that the tower holds.

        Raises:
            XcliptError: Its tensors do not fit.
        """
        with self._lock:
            self._swap(delta)

    def encode(self, delta: LoadedDelta, rows: Sequence[list[int]]) -> Tensor:
        """Features ``(len(rows), dim)`` of token ids with the delta, not normalised.

        Raises:
            XcliptError: The delta's tensors do not fit.
        """
        with self._lock:
            self._swap(delta)
            return self._backbone.encode_tokens(rows)

    def _swap(self, delta: LoadedDelta) -> None:
        if delta is not self._holds:
            self._holds = None  # should the new one fit in part only
            self._adapted.load(delta.tensors)
            self._holds = delta


def no_delta(directory: ArtifactDirectory, code: str, known: Sequence[str]) -> UsageError:
    """The error of a language that has no delta.

    Args:
        directory: Where there is none.
        code: The language's.
        known: Languages that have one.
    """
    return UsageError(
        f"language '{code}' ({language_name(code)}): {directory.root} has no delta for it (there: "
        f"{', '.join(known) or 'none'}); `fallback='base'` encodes with the frozen base"
    )


def load(
    artifacts: str | Path = "xclipt-artifacts",
    *,
    device: str = "auto",
    dtype: str = "float32",
    capacity: int = 100,
    progress: Progress | None = None,
) -> Model:
    """Open an artifact directory and load its backbone, to encode texts and pictures with.

    >>> import xclipt
    >>> model = xclipt.load("xclipt-artifacts")
    >>> model.encode_text(["un chat noir", "a black cat"], language=["fr", "en"]).shape
    (2, 512)

    Args:
        artifacts: The directory; ``xclipt train-delta`` makes one.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: Compute precision: ``float32``, ``bfloat16`` or ``float16``.
        capacity: Most deltas that are kept in memory.
        progress: Told of what takes long, such as the first use on a machine.

    Raises:
        XcliptError: There is no such directory or device, or the backbone cannot be had.
    """
    workspace = open_workspace(Path(artifacts), progress or Silent(), device=device, dtype=dtype)
    return Model(workspace, capacity=capacity)


def _groups(deltas: Sequence[LoadedDelta | None]) -> list[list[int]]:
    # What one pass can encode: the base, one delta, or any number of LoRAs of one architecture.
    groups: dict[object, list[int]] = {}
    for i, delta in enumerate(deltas):
        key: object = delta
        if delta and can_mix(delta.spec):
            key = delta.spec.architecture
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _normalised(features: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = F.normalize(features, dim=-1).numpy()
    return array
