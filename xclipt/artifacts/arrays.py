"""Safetensors files without torch: ``status``, ``use`` and ``verify`` need not wait for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, deserialize, safe_open

from xclipt.errors import XcliptError
from xclipt.files import read_regular, require_regular

if TYPE_CHECKING:
    import numpy as np

_KINDS = {"F": "f", "I": "i", "U": "u"}


def read_arrays(data: bytes) -> "dict[str, np.ndarray[Any, Any]]":
    """The arrays of a safetensors file's bytes; bfloat16, which numpy lacks, as float32.

    Raises:
        XcliptError: It is no safetensors file, or holds numbers that numpy does not know.
    """
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise XcliptError(f"not a safetensors file ({error})") from None
    return {
        name: _numbers(entry["dtype"], entry["data"]).reshape(entry["shape"])
        for name, entry in entries
    }


def read_array_file(path: Path) -> "tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]":
    """The arrays of a safetensors file, and its metadata.

    Raises:
        XcliptError: It cannot be read, or is no such file.
    """
    try:
        metadata = read_metadata(path)
        return read_arrays(read_regular(path)), metadata
    except (OSError, SafetensorError) as error:
        raise XcliptError(str(error).splitlines()[0]) from None


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        OSError, SafetensorError: It cannot be read, or is no such file.
    """
    require_regular(path)
    with safe_open(path, "np") as file:
        return file.metadata() or {}


def _numbers(dtype: str, data: bytes) -> "np.ndarray[Any, Any]":
    import numpy as np

    if dtype == "BF16":
        return (np.frombuffer(data, "u2").astype("u4") << 16).view("f4")
    if dtype == "BOOL":
        return np.frombuffer(data, "bool")
    kind, bits = _KINDS.get(dtype[:1]), dtype[1:]
    if kind is None or not bits.isdecimal():
        raise XcliptError(f"holds numbers of type {dtype}")
    return np.frombuffer(data, f"{kind}{int(bits) // 8}")
