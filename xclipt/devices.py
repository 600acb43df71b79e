"""Where towers run and in which numbers they compute, by the names that people give them."""

import torch
from torch import Tensor

from xclipt.errors import XcliptError

AUTO = "auto"

_NUMBER_TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the fastest there is.

    Raises:
        XcliptError: It is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == AUTO:
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise XcliptError(f"choose auto, {', '.join(available)}", field="device", value=name)
    if not available[name]:
        raise XcliptError("this machine has none; use `device='auto'`", field="device", value=name)
    return torch.device(name)


def to_device(
    tensor: Tensor,
    device: torch.device | str,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """The tensor there; a GPU fetches it from pinned memory by itself, and nothing waits for it."""
    pinned = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    there = tensor.pin_memory() if pinned else tensor
    return there.to(device, non_blocking=pinned, memory_format=memory_format)


def choose_dtype(name: str) -> torch.dtype:
    """The number type of that name; ``auto`` is float32.

    Raises:
        XcliptError: It is none of them.
    """
    if name == AUTO:
        return torch.float32
    if name not in _NUMBER_TYPES:
        raise XcliptError(f"choose auto, {', '.join(_NUMBER_TYPES)}", field="dtype", value=name)
    return _NUMBER_TYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` and the like."""
    return str(dtype).removeprefix("torch.")


def computes_bfloat16_faster(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by itself, at twice the rate of float32 or more."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    there = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(there.get(instructions) for instructions in ("avx512_bf16", "amx_bf16"))
