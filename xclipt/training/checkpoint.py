"""An interrupted training on disk: one safetensors file that is taken up by the same request."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from xclipt.artifacts.arrays import read_metadata
from xclipt.documents import parse_json, record
from xclipt.files import delete, read_regular, write_with
from xclipt.training.loop import Evaluated, TrainingState

_PARTS = ("optimiser", "weights", "best")


@dataclass(frozen=True)
class _Told:
    """What the file says beside its tensors."""

    step: int
    history: tuple[Evaluated, ...]
    losses: tuple[float, ...]


class Checkpoint:
    """Where a training's state is kept while it runs.

    Args:
        path: The file.
        key: A hash of everything that the training depends on; a file of another key is ignored.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def load(self) -> TrainingState:
        """The saved state, or a fresh one where there is none that fits or that is whole."""
        try:
            metadata = read_metadata(self.path)
            if metadata.get("key") != self.key:
                return TrainingState()
            tensors = load(read_regular(self.path))
            if metadata["sha256"] != _hash(tensors, metadata):
                return TrainingState()
            told = record(_Told, parse_json(metadata["state"]))
        except (OSError, SafetensorError, ValueError, KeyError):
            return TrainingState()
        parts = {
            part: {
                name.removeprefix(f"{part}/"): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{part}/")
            }
            for part in _PARTS
        }
        return TrainingState(
            step=told.step,
            history=[*told.history],
            losses=[*told.losses],
            **parts,
        )

    def save(self, state: TrainingState) -> None:
        """Replace the file by ``state``."""
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().contiguous()
            for part in _PARTS
            for name, tensor in getattr(state, part).items()
        }
        plain = {
            "step": state.step,
            "history": [asdict(evaluated) for evaluated in state.history],
            "losses": state.losses,
        }
        metadata = {"key": self.key, "state": json.dumps(plain)}
        metadata["sha256"] = _hash(tensors, metadata)
        write_with(self.path, lambda path: save_file(tensors, path, metadata=metadata))

    def delete(self) -> None:
        """The training has ended.

        Raises:
            XcliptError: The file cannot be deleted.
        """
        delete(self.path)


def _hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Over all that the file says: of a state with one bit turned another delta would be made."""
    digest = hashlib.sha256(f"{metadata['key']}\n{metadata['state']}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\n{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
