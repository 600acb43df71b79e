"""Files: the one way to write them, what their content is known by, and the user's cache."""

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from platformdirs import user_cache_path
from safetensors import SafetensorError

from xclipt.errors import XcliptError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_BINARY = getattr(os, "O_BINARY", 0)  # of Windows

SUMS = "SHA256SUMS"
"""The file that lists what an export consists of."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``.

    A reader sees the old file or the new one, never a part. After an exception nothing is left.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside, lock = _make_aside(path)
    except OSError as error:
        raise XcliptError(f"{path}: cannot write ({error.strerror})") from error
    try:
        with _blaming(path):
            yield aside
            _flush(aside)
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
            _flush(path.parent)
    finally:
        aside.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder; when the block ends well its files are moved to ``folder``.

    For files that other libraries write. What is in ``folder`` already is replaced where the names
    are the same, and stays otherwise. Every file arrives whole, and none after an exception.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    with _folder_beside(folder) as aside:
        yield aside
        for path in sorted(path for path in aside.rglob("*") if path.is_file()):
            write_with(folder / path.relative_to(aside), path.replace)


@contextmanager
def placing(folder: Path) -> Iterator[Path]:
    """Give an empty folder; when the block ends well it becomes ``folder``, all at once.

    Where ``folder`` is there by then, another writer was quicker, and its content stays. After an
    exception nothing is left; what a kill leaves, :func:`sweep` removes.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    with _folder_beside(folder) as aside:
        yield aside
        for path in aside.iterdir():
            _flush(path)
        aside.chmod(0o777 & ~_umask())
        _rename_unless_there(aside, folder)
        _flush(folder.parent)


@contextmanager
def _folder_beside(folder: Path) -> Iterator[Path]:
    """An empty folder beside one that is to be written, gone when the block ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, folder.name)
        aside, lock = _make_folder_aside(folder)
    except OSError as error:
        raise XcliptError(f"{folder}: cannot write ({error.strerror})") from error
    try:
        with _blaming(folder):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise XcliptError(f"{path}: cannot write ({error.strerror or error})") from error
    except SafetensorError as error:  # safetensors wraps what the system says
        said = re.search(r"I/O error: (.+?) \(os error", str(error))
        raise XcliptError(f"{path}: cannot write ({said[1] if said else error})") from error


def _rename_unless_there(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)  # over a folder with content it fails
    except OSError:
        if not folder.is_dir():
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file that then becomes ``path``."""
    with replacing(path) as aside:
        write(aside)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes; pipes and devices are never waited for.

    Raises:
        OSError: It is no regular file, is larger, or cannot be read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes")
        return file.read()


def open_regular(path: Path) -> BufferedReader:
    """A file opened for reading, if it is a regular one or a link to one.

    Raises:
        OSError: It is a pipe, a device or a folder, or cannot be opened.
    """
    # Without O_NONBLOCK a pipe would be waited for before it can be asked what it is.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed writers of ``folder/name`` left aside there; the living are spared.

    A living writer holds a lock on its file. Where the system has no such locks, nothing is done.
    ``name`` is a pattern: leave it open only for folders that nobody else writes to.
    """
    if fcntl is None:
        return
    for aside in folder.glob(f".{name}.*.tmp"):
        try:
            lock = os.open(aside, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if aside.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(lock)


def is_aside(path: Path) -> bool:
    """Whether a file or folder is what a writer had aside, by its name."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def _make_aside(path: Path) -> tuple[Path, int | None]:
    while True:
        lock, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        if fcntl is None:
            os.close(lock)
            return Path(name), None
        fcntl.flock(lock, fcntl.LOCK_EX)
        if Path(name).exists():  # else somebody swept it before it was locked
            return Path(name), lock
        os.close(lock)


def _make_folder_aside(folder: Path) -> tuple[Path, int | None]:
    while True:
        name = tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent)
        if fcntl is None:
            return Path(name), None
        try:
            lock = os.open(name, os.O_RDONLY)
        except FileNotFoundError:  # somebody swept it
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if Path(name).exists():
            return Path(name), lock
        os.close(lock)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def text_key(text: str) -> bytes:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def file_key(path: Path) -> bytes:
    """SHA-256 of a file's bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def picture_key(sha256: bytes) -> str:
    """What a picture is known by in manifests and heads: the hash's first 16 hexadecimal digits."""
    return sha256.hex()[:16]


def write_sums(folder: Path, files: Sequence[Path]) -> Path:
    """Write ``SHA256SUMS``, as ``sha256sum -c`` reads it, for files below ``folder``."""
    sums = [f"{file_key(path).hex()}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(folder / SUMS, "".join(sums))
    return folder / SUMS


def check_sums(folder: Path) -> str:
    """What of ``SHA256SUMS`` in ``folder`` does not hold, by the first file; else empty."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        for line in lines:
            known, _, name = line.partition("  ")
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                return f"{SUMS} names a file elsewhere; export it again"
            if file_key(path).hex() != known:
                return f"{name} is not what was written; export it again"
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read ({error}); export it again"
    return ""


def cache_dir() -> Path:
    """``XCLIPT_CACHE`` if it is set, else the platform's cache directory for xclipt."""
    named = os.environ.get("XCLIPT_CACHE")
    return Path(named).expanduser() if named else user_cache_path("xclipt")
