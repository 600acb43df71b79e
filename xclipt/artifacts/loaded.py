"""Deltas in memory: read when they are first asked for, the least recently used dropped."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xclipt.artifacts.directory import ArtifactDirectory, StoredDelta
from xclipt.deltas.kind import DeltaSpec
from xclipt.errors import XcliptError


@dataclass(frozen=True, eq=False)
class LoadedDelta:
    """A delta whose tensors are on the backbone's device."""

    language: str
    name: str
    spec: DeltaSpec
    tensors: dict[str, Tensor] = field(repr=False)


class DeltaCache:
    """The current deltas of a directory, at most ``capacity`` of them in memory.

    Thread-safe. What was found is kept until it is dropped or :meth:`forget` is called, whatever
    happens on disk meanwhile.

    Raises:
        XcliptError: ``capacity`` is less than 1.
    """

    def __init__(self, directory: ArtifactDirectory, device: torch.device, capacity: int) -> None:
        if capacity < 1:
            raise XcliptError("must be at least 1", field="capacity", value=capacity)
        self._directory = directory
        self._device = device
        self._capacity = capacity
        self._loaded: OrderedDict[str, LoadedDelta] = OrderedDict()
        self._without: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, language: str) -> LoadedDelta | None:
        """The language's current delta, ``None`` where it has none.

        Raises:
            XcliptError: It is damaged, another backbone's, or was trained on translated text.
        """
        with self._lock:
            if language in self._loaded:
                self._loaded.move_to_end(language)
                return self._loaded[language]
            if language in self._without:
                return None
            delta = self._read(language)
            if delta is None:
                self._without.add(language)
                return None
            self._loaded[language] = delta
            while len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)
            return delta

    def forget(self) -> None:
        """Look at the directory anew when a language is next asked for."""
        with self._lock:
            self._loaded.clear()
            self._without.clear()

    def _read(self, language: str) -> LoadedDelta | None:
        stored = self._directory.current(language)
        if stored is None:
            return None
        require_own_texts(stored)
        tensors = {name: t.to(self._device) for name, t in stored.tensors().items()}
        return LoadedDelta(language, stored.manifest.reference, stored.spec, tensors)


def require_own_texts(stored: StoredDelta) -> None:
    """Refuse a delta that was trained on translations of the language's texts.

    Raises:
        XcliptError: Its texts would have to be translated first.
    """
    manifest = stored.manifest
    if manifest.text != "target":
        raise XcliptError(
            f"{stored.folder}: was trained on translations of its texts (text: {manifest.text}), "
            f"which are not made here; make another delta of '{manifest.language}' current"
        )
