"""An interrupted training on disk: one safetensors file that is taken up by the same request."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xclipt.documents import parse_json, record
from xclipt.files import write_with
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
        """The saved state, or a fresh one where there is none that fits."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return TrainingState()
                plain = parse_json(metadata["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = record(_Told, plain)
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
            f"{part}/{name}": tensor.contiguous()
            for part in _PARTS
            for name, tensor in getattr(state, part).items()
        }
        plain = {
            "step": state.step,
            "history": [asdict(evaluated) for evaluated in state.history],
            "losses": state.losses,
        }
        metadata = {"key": self.key, "state": json.dumps(plain)}
        write_with(self.path, lambda path: save_file(tensors, path, metadata=metadata))

    def delete(self) -> None:
        """The training has ended."""
        self.path.unlink(missing_ok=True)
