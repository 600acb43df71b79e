"""Files: the one way to write them, what their content is known by, and the user's cache."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from platformdirs import user_cache_path

from xclipt.errors import XcliptError
from xclipt.interruption import held

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_BINARY = getattr(os, "O_BINARY", 0)  # of Windows

SUMS = "SHA256SUMS"
"""The file that lists what an export consists of."""
_MOST_SUMS = 2**20


@contextmanager
def replacing(path: Path, *, swept: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``.

    A reader sees the old file or the new one, never a part. After an exception nothing is left;
    what a kill leaves, the next writer of ``path`` removes. What is written is this very file:
    for libraries that replace it by another of their own, there is :func:`write_with`.

    Args:
        path: The file.
        swept: The caller has swept the folder, for one that is to hold very many files.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    with _aside(path, folder=False, swept=swept) as aside:
        yield aside
        _flush(aside)
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
        _flush(path.parent)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder; when the block ends well it becomes ``folder``, or its files go there.

    Where ``folder`` is not there yet it comes all at once. Else what the ``SHA256SUMS`` there
    lists goes, what is new comes file by file, each of them whole, and the new ``SHA256SUMS`` last:
    a folder that a kill leaves in between claims nothing. Other files in it stay.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    with _aside(folder, folder=True) as aside:
        yield aside
        files = [path for path in sorted(aside.rglob("*")) if path.is_file()]
        for path in files:  # some libraries make them the writer's alone to read
            path.chmod(0o666 & ~_umask())
            _flush(path)
        if not folder.exists():
            aside.chmod(0o777 & ~_umask())
            _rename_unless_there(aside, folder)
        else:
            old = _listed(folder)
            (folder / SUMS).unlink(missing_ok=True)
            for path in old.difference(folder / path.relative_to(aside) for path in files):
                path.unlink(missing_ok=True)
            for path in sorted(files, key=lambda path: path.name == SUMS):
                moved = folder / path.relative_to(aside)
                moved.parent.mkdir(parents=True, exist_ok=True)
                path.replace(moved)
                _flush(moved.parent)
        _flush(folder.parent)


def _listed(folder: Path) -> set[Path]:
    """The files within ``folder`` that its ``SHA256SUMS`` lists."""
    try:
        lines = read_regular(folder / SUMS, _MOST_SUMS).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    paths = {folder / line.partition("  ")[2] for line in lines}
    return {path for path in paths if path.resolve().is_relative_to(folder.resolve())} - {folder}


@contextmanager
def placing(folder: Path) -> Iterator[Path]:
    """Give an empty folder; when the block ends well it becomes ``folder``, all at once.

    Where ``folder`` is there by then, another writer was quicker, and its content stays. After an
    exception nothing is left; what a kill leaves, :func:`sweep` removes.

    Raises:
        XcliptError: The directory cannot be written to, or the disk is full.
    """
    with _aside(folder, folder=True) as aside:
        yield aside
        for path in aside.iterdir():
            _flush(path)
        aside.chmod(0o777 & ~_umask())
        _rename_unless_there(aside, folder)
        _flush(folder.parent)


@contextmanager
def _aside(path: Path, *, folder: bool, swept: bool = False) -> Iterator[Path]:
    """An empty, locked file or folder beside what is to be written, gone when the block ends."""
    with _blaming(path), _within_parents(path):
        if not swept:
            sweep(path.parent, path.name)
        aside, lock = _name_aside(path), None
        try:
            while lock is None:
                try:
                    lock = _made_and_locked(aside, folder)
                except FileNotFoundError:  # somebody swept it before it was locked
                    if not path.parent.exists():
                        raise
                    aside = _name_aside(path)
            yield aside
        finally:
            with held():
                if folder:
                    shutil.rmtree(aside, ignore_errors=True)
                else:
                    with suppress(OSError):  # renamed, as a rule; else whoever writes next sweeps
                        aside.unlink()
                if lock is not None:
                    os.close(lock)


def _name_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _made_and_locked(aside: Path, folder: bool) -> int:
    """The descriptor that holds the lock on a new file or folder."""
    if folder:
        aside.mkdir(0o700)
    if folder and fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    flags = os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY
    descriptor = os.open(aside, flags, 0o600)
    if fcntl is None:  # an open file could not be renamed there
        os.close(descriptor)
        return os.open(os.devnull, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if aside.exists():
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(aside)


@contextmanager
def _within_parents(path: Path) -> Iterator[None]:
    """Make the folders that ``path`` is to lie in; after an exception they are gone again."""
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # somebody else has put something there
            for parent in made:
                parent.rmdir()
        raise


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise XcliptError(f"{path}: cannot write ({error.strerror or error})") from error
    except Exception as error:
        # What is written in Rust, such as safetensors and tokenizers, wraps what the system says.
        said = re.search(r"(?:I/O error: )?([^:]+) \(os error \d+\)", str(error))
        if said is None or isinstance(error, XcliptError):
            raise
        raise XcliptError(f"{path}: cannot write ({said[1].strip()})") from error


def _rename_unless_there(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)  # over a folder with content it fails
    except OSError:
        if not folder.is_dir():
            raise


def write_bytes(path: Path, data: bytes, *, swept: bool = False) -> None:
    """Write ``data`` to ``path`` atomically; ``swept`` as :func:`replacing` has it."""
    with replacing(path, swept=swept) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str, *, swept: bool = False) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, text.encode(), swept=swept)


def write_with(path: Path, write: Callable[[Path], object], *, swept: bool = False) -> None:
    """Let a function of another library write a file that then becomes ``path``.

    It has a folder to itself: safetensors, for one, writes to a file of its own naming first, which
    a kill would leave for ever, and puts that in the place of the one that is locked here.
    """
    with _aside(path, folder=True, swept=swept) as folder:
        aside = folder / path.name
        with held():  # what is written in Rust does not try again where a signal came between
            write(aside)
        _flush(aside)
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
        _flush(path.parent)


def read_regular(path: Path, most: int = sys.maxsize) -> bytes:
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


def require_regular(path: Path) -> None:
    """Refuse what is no regular file, before a library is given its path.

    Raises:
        OSError: As :func:`open_regular`.
    """
    open_regular(path).close()


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


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it, at once for who looks; a kill leaves it aside.

    Raises:
        OSError: It cannot be renamed or deleted.
    """
    with held():
        aside = folder.rename(_name_aside(folder))
        try:
            shutil.rmtree(aside)
        except FileNotFoundError:  # another process sweeps it meanwhile
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that ask for the same out of the block.

    Where the system has no locks, nobody is kept out.

    Raises:
        XcliptError: It cannot be made.
    """
    with _blaming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = None if fcntl is None else os.open(folder, os.O_RDONLY)
        try:
            if lock is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            if lock is not None:
                os.close(lock)


def delete(path: Path) -> None:
    """Delete a file, if it is there.

    Raises:
        XcliptError: It cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise XcliptError(f"{path}: cannot delete ({error.strerror})") from error


def is_aside(path: Path) -> bool:
    """Whether a file or folder is what a writer had aside, by its name."""
    return path.name.startswith(".") and path.suffix == ".tmp"


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
