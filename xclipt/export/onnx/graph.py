"""ONNX graphs: made by torch.onnx, run in onnxruntime, and held against PyTorch there."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xclipt.backbones.model_files import first_line
from xclipt.errors import FailedError, XcliptError

TOLERANCE = 1e-4
"""The most that a feature may differ from PyTorch's, relative to the largest one."""

GRAPH = "model.onnx"
FEATURES = "features"
"""What every graph's output is called, ``(batch, dim)`` float32, not normalised."""

_LARGEST_FILE = 1_900_000_000
"""Bytes of weights in the graph's own file; protobuf ends at 2 GiB."""


def require_packages(format: str) -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        XcliptError: Names the first that is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise XcliptError(
            f"{error.name} is not installed: pip install 'xclipt[onnx]'",
            field="format",
            value=format,
        ) from None


def exported(
    format: str,
    module: nn.Module,
    example: Sequence[Any],
    inputs: Sequence[str],
    shapes: Mapping[str, Any],
) -> Any:
    """The program that torch.onnx makes of a module, in memory.

    Args:
        format: The format that asks for it, for the message.
        module: In evaluation mode, on the CPU.
        example: What it is called with, in order.
        inputs: The names of all tensors in the example.
        shapes: By the names of the module's parameters, which sizes may change.

    Raises:
        FailedError: The module is none that torch.onnx can export.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                module,
                (*example, {}),  # a mapping at the end is taken for keyword arguments
                input_names=[*inputs],
                output_names=[FEATURES],
                dynamic_shapes=dict(shapes),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's are as many as its passes
        reason = first_line(error.__cause__ or error)  # its own is advice to who wrote the module
        raise FailedError(
            f"torch.onnx cannot export the tower ({reason})", field="format", value=format
        ) from error
    finally:
        logger.setLevel(level)


def save(program: Any, path: Path, module: nn.Module) -> None:
    """Write a program, its weights beside it where one file cannot hold them."""
    large = 4 * sum(parameter.numel() for parameter in module.parameters()) > _LARGEST_FILE
    program.save(path, external_data=large)


def open_session(path: Path) -> Any:
    """The graph in onnxruntime, on the processor."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session: Any, given: Mapping[str, Any]) -> NDArray[Any]:
    """The features of a batch, by the arrays of the graph's inputs."""
    (features,) = session.run([FEATURES], dict(given))
    return features  # type: ignore[no-any-return]


def difference(theirs: NDArray[Any], ours: Tensor) -> float:
    """The largest difference of two features, relative to the largest value."""
    return float((torch.from_numpy(theirs) - ours).abs().max() / ours.abs().max())


def require_close(differences: Sequence[float], format: str) -> float:
    """The largest of the differences.

    Raises:
        FailedError: It is more than :data:`TOLERANCE`, or one is no number.
    """
    worst = float(np.max(differences))  # Python's own max passes over what is no number
    if not worst <= TOLERANCE:
        raise FailedError(
            f"onnxruntime's features differ from PyTorch's by {worst:.1e}, more than "
            f"{TOLERANCE:.0e}; nothing was written",
            field="format",
            value=format,
        )
    return worst
