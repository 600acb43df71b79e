"""Write events of a process, as the kernel tells of them: nothing that writes can pass it by.

A seccomp filter in the child hands every system call that changes files to the parent, which lets
it go on, makes it fail, or kills the child at it. Python's own files, Rust's (safetensors) and C's
(numpy, onnx) are all the same to it.
"""

import ctypes
import errno
import fcntl
import os
import platform
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_CALLS: dict[str, tuple[int, dict[int, str]]] = {
    "x86_64": (
        _X86_64,
        {
            **{2: "open", 85: "creat", 257: "openat", 82: "rename", 264: "renameat"},
            **{316: "renameat", 87: "unlink", 263: "unlinkat", 84: "rmdir", 83: "mkdir"},
            **{258: "mkdirat", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat"},
            **{1: "write", 18: "pwrite", 20: "writev", 296: "writev", 40: "sendfile"},
            **{326: "copy_file_range", 74: "fsync", 75: "fsync", 90: "chmod", 91: "fchmod"},
            **{268: "fchmodat", 452: "fchmodat", 76: "truncate", 77: "ftruncate"},
            **{285: "fallocate"},
        },
    ),
    "aarch64": (
        _AARCH64,
        {
            **{56: "openat", 38: "renameat", 276: "renameat", 35: "unlinkat", 34: "mkdirat"},
            **{37: "linkat", 36: "symlinkat", 64: "write", 68: "pwrite", 66: "writev"},
            **{70: "writev", 71: "sendfile", 285: "copy_file_range", 82: "fsync", 83: "fsync"},
            **{52: "fchmod", 53: "fchmodat", 452: "fchmodat", 45: "truncate", 46: "ftruncate"},
            **{47: "fallocate"},
        },
    ),
}
"""The kernel's number of the architecture, and calls by their numbers."""

_BY_PATH = {
    **{"open": (None, 0), "creat": (None, 0), "openat": (0, 1), "rename": (None, 1)},
    **{"renameat": (2, 3), "unlink": (None, 0), "unlinkat": (0, 1), "rmdir": (None, 0)},
    **{"mkdir": (None, 0), "mkdirat": (0, 1), "link": (None, 1), "linkat": (2, 3)},
    **{"symlink": (None, 1), "symlinkat": (1, 2), "chmod": (None, 0), "fchmodat": (0, 1)},
    **{"truncate": (None, 0)},
}
"""Which argument is the folder's descriptor, and which the path that is changed."""

_BY_DESCRIPTOR = {"copy_file_range": 2}
"""Which argument is the file's descriptor, where it is not the first."""

_KINDS = {
    **{"creat": "open", "openat": "open", "renameat": "rename", "unlinkat": "unlink"},
    **{"rmdir": "unlink", "mkdirat": "mkdir", "linkat": "link", "symlink": "link"},
    **dict.fromkeys(("pwrite", "writev", "sendfile", "copy_file_range", "fallocate"), "write"),
    **{"fchmod": "chmod", "fchmodat": "chmod", "ftruncate": "truncate", "symlinkat": "link"},
    "fsync": "flush",
}

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_AT_FDCWD = -100

_NO_NEW_PRIVILEGES, _SET_MODE_FILTER, _NEW_LISTENER = 38, 1, 8
_WAIT_KILLABLE = 32
"""Of Linux 5.19: a call that waits for the parent is not parted by a signal, nor would it be by
itself."""
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_LOAD, _EQUAL, _ANY_OF, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _GO_ON = 0xC0502100, 0xC0182101, 1


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


@dataclass(frozen=True)
class Event:
    """One thing that a process is about to do to a file.

    Attributes:
        kind: open, write, flush, rename, unlink, mkdir, link, chmod or truncate.
        path: Of the file.
    """

    kind: str
    path: str


def unavailable() -> str:
    """Why this machine cannot do it; empty where it can."""
    if platform.system() != "Linux" or platform.machine() not in _CALLS:
        return "write events are asked of Linux on x86-64 or ARM64"
    child = os.fork()
    if child == 0:
        try:
            os.close(install())
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return "" if status == 0 else "the kernel hands no system calls to another process"


def install() -> int:
    """From now on calls of this process that change files wait for who reads the descriptor.

    Raises:
        OSError: The kernel does not do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program()
    given = _Program(len(program), program)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    listener: int = libc.syscall(
        _SECCOMP[platform.machine()],
        _SET_MODE_FILTER,
        _NEW_LISTENER | _WAIT_KILLABLE,
        ctypes.byref(given),
    )
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _program() -> Any:
    """Of BPF: whether a call is one to ask about. Files opened for reading alone are not."""
    architecture, calls = _CALLS[platform.machine()]
    flags_of = {"open": 1, "openat": 2}
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW)]
    lines.append((_LOAD, 0, 0, 0))
    for number, name in calls.items():
        if name in flags_of:  # the accumulator is read again for every call, so its loss is none
            lines += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * flags_of[name]),
                (_ANY_OF, 1, 0, _CHANGES),
                (_RETURN, 0, 0, _ALLOW),
                (_RETURN, 0, 0, _NOTIFY),
            ]
        else:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))


@dataclass(frozen=True)
class _Call:
    id: int
    process: int
    name: str
    arguments: tuple[int, ...]


def receive(listener: int) -> _Call | None:
    """The call that waits; ``None`` where it has been given up."""
    notice = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, notice)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    id, process, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", notice)
    return _Call(id, process, _CALLS[platform.machine()][1][number], tuple(arguments))


def answer(listener: int, call: _Call, fails_with: int = 0) -> None:
    """Let a call go on, or fail."""
    reply = struct.pack("=QqiI", call.id, 0, -fails_with, 0 if fails_with else _GO_ON)
    try:
        fcntl.ioctl(listener, _SEND, reply)
    except OSError as error:
        if error.errno != errno.ENOENT:  # a signal has come between, and the call comes again
            raise


def event(call: _Call) -> Event:
    """What a call is about to do."""
    proc, name, arguments = Path(f"/proc/{call.process}"), call.name, call.arguments
    if name in _BY_PATH:
        folder, place = _BY_PATH[name]
        path = os.fsdecode(_memory(call.process, arguments[place], 4096).partition(b"\0")[0])
        at = _AT_FDCWD if folder is None else ctypes.c_int(arguments[folder]).value
        start = proc / "cwd" if at == _AT_FDCWD else proc / f"fd/{at}"
        path = path if path.startswith("/") else str(start.readlink() / path)
    else:
        path = str((proc / f"fd/{arguments[_BY_DESCRIPTOR.get(name, 0)]}").readlink())
    return Event(_KINDS.get(name, name), path)


def kill_amid(call: _Call) -> None:
    """Kill the process at a call; of what it was about to write the first half arrives."""
    if call.name == "write" and (size := call.arguments[2] // 2):
        data = _memory(call.process, call.arguments[1], size)
        descriptor = f"{call.arguments[0]}"
        proc = Path(f"/proc/{call.process}")
        position = int((proc / "fdinfo" / descriptor).read_text().split()[1])
        file = os.open(proc / "fd" / descriptor, os.O_WRONLY)
        try:
            os.pwrite(file, data, position)
        finally:
            os.close(file)
    os.kill(call.process, signal.SIGKILL)


def _memory(process: int, address: int, most: int) -> bytes:
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        found = b""
        while len(found) < most:  # a page that is not there may follow the end of a path
            memory.seek(address + len(found))
            page = min(most - len(found), 4096 - (address + len(found)) % 4096)
            try:
                part = memory.read(page)
            except OSError:
                break
            found += part
            if b"\0" in part and most == 4096:
                break
        return found
