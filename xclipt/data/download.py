"""Fetches what has a public address: the captions of XTD and Multi30K, and XTD's photographs."""

import hashlib
import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import xclipt.data.sets.multi30k as multi30k
import xclipt.data.sets.xtd as xtd
from xclipt import __version__
from xclipt.data import checksums
from xclipt.data.formats.lines import read_pictures
from xclipt.data.sets.coco import IMAGES, find_coco
from xclipt.errors import XcliptError
from xclipt.files import write_with

CONNECTIONS = 4
_CHUNK = 1 << 16
_WORTH_RETRYING = frozenset((408, 425, 429))
_JPEG = b"\xff\xd8"
_COCO_NAME = re.compile(r"COCO_(train|val)2014_\d{12}\.jpg")


@dataclass(frozen=True)
class Addresses:
    """The servers that publish the data sets, without a slash at the end."""

    xtd: str = (
        "https://raw.githubusercontent.com/adobe-research/Cross-lingual-Test-Dataset-XTD10/main"
    )
    multi30k: str = "https://raw.githubusercontent.com/multi30k/dataset/master"
    coco: str = "http://images.cocodataset.org"


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its address, its path within the data set's folder, and what it must be.

    ``size`` and ``sha256`` are ``None`` where the publisher's file has no known ones.
    """

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class FileFetched:
    """One file is done with: ``detail`` says why it failed, or is empty."""

    file: RemoteFile
    outcome: Literal["present", "fetched", "failed"]
    detail: str
    done: int
    total: int


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did; ``notes`` say what it cannot fetch and where that is to be had."""

    dataset: str
    folder: Path
    fetched: int
    present: int
    notes: tuple[str, ...]


Progress = Callable[[FileFetched], None]

_FetchFiles = Callable[[Sequence[RemoteFile], Path], tuple[int, int]]
"""Fetches files into a folder; tells how many were fetched, and how many were there already."""


def xtd_captions(addresses: Addresses) -> list[RemoteFile]:
    """XTD's captions, its list of photographs and its licence."""
    return _listed(addresses.xtd, checksums.XTD)


def multi30k_captions(
    addresses: Addresses, task: multi30k.Task = multi30k.TASK1
) -> list[RemoteFile]:
    """Multi30K's captions of a task and its lists of photographs."""
    first = task is multi30k.TASK1
    return _listed(addresses.multi30k, checksums.MULTI30K if first else checksums.MULTI30K_TASK2)


def xtd_photographs(images: Sequence[str], addresses: Addresses) -> list[RemoteFile]:
    """XTD's photographs on COCO's server.

    Raises:
        XcliptError: A name is not one of COCO 2014.
    """
    files = []
    for image in images:
        match = _COCO_NAME.fullmatch(image)
        if not match:
            raise XcliptError(f"{xtd.PICTURES_FILE}: {image} is no photograph of COCO 2014")
        url = f"{addresses.coco}/{match[1]}2014/{image}"
        files.append(RemoteFile(url, f"{IMAGES}/{image}"))
    return files


def fetch(
    dataset: str,
    data_dir: Path,
    progress: Progress | None = None,
    *,
    photographs: bool = True,
    addresses: Addresses | None = None,
    downloader: "Downloader | None" = None,
) -> FetchReport:
    """Fetch what is missing of a published data set into its folder in ``data_dir``.

    Files that are there and right are left alone; a caption file with another checksum is replaced.
    A file that fails does not stop the others, and running again goes on where this stopped.

    Args:
        dataset: ``xtd``, ``multi30k`` or ``multi30k-task2``.
        data_dir: The data root, or the data set's own folder.
        progress: Called after each file, in the caller's thread.
        photographs: Whether to fetch photographs too, where they are public.
        addresses: Other servers than the publishers'.
        downloader: Other time-outs and retries than the usual.

    Raises:
        XcliptError: The data set has no public address, the folder cannot be written, another
            process is downloading into it, or at least one file could not be fetched.
    """
    if dataset not in _PUBLISHED:
        raise XcliptError(
            f"'{dataset}' has no public address; {', '.join(_PUBLISHED)} have", field="download"
        )
    fetch_files = partial(
        _fetch_all, dataset, progress=progress, downloader=downloader or Downloader()
    )
    return _PUBLISHED[dataset](data_dir, photographs, addresses or Addresses(), fetch_files)


def _fetch_xtd(
    data_dir: Path, photographs: bool, addresses: Addresses, fetch_files: _FetchFiles
) -> FetchReport:
    folder = xtd.find_folder(data_dir) or data_dir / xtd.NAME
    fetched, present = fetch_files(xtd_captions(addresses), folder)
    pictures, notes = find_coco(folder), []
    if photographs and pictures == folder / IMAGES:
        images = read_pictures(folder / xtd.PICTURES_FILE)
        more = fetch_files(xtd_photographs(images, addresses), folder)
        fetched, present = fetched + more[0], present + more[1]
    elif photographs:
        notes.append(f"{xtd.NAME}: uses the photographs in {pictures}")
    return FetchReport(xtd.NAME, folder, fetched, present, tuple(notes))


def _fetch_multi30k(
    task: multi30k.Task,
    data_dir: Path,
    photographs: bool,
    addresses: Addresses,
    fetch_files: _FetchFiles,
) -> FetchReport:
    # The tasks share photographs, and so a folder.
    tasks = (task, multi30k.TASK1, multi30k.TASK2)
    found = (multi30k.find_folder(data_dir, known) for known in tasks)
    folder = next(filter(None, found), data_dir / multi30k.NAME)
    fetched, present = fetch_files(multi30k_captions(addresses, task), folder)
    notes = []
    if not multi30k.find_photographs(folder).is_dir():
        notes.append(
            f"{task.name}: its photographs (Flickr30k) have no public address; ask for them "
            "at https://forms.illinois.edu/sec/229675 and put them into "
            f"{folder / multi30k.PHOTOGRAPHS}"
        )
    return FetchReport(task.name, folder, fetched, present, tuple(notes))


_PUBLISHED: dict[str, Callable[[Path, bool, Addresses, _FetchFiles], FetchReport]] = {
    xtd.NAME: _fetch_xtd,
    **{task.name: partial(_fetch_multi30k, task) for task in (multi30k.TASK1, multi30k.TASK2)},
}
"""How each data set is fetched that has a public address."""


class Downloader:
    """Fetches one file at a time over HTTP, resuming what was cut off.

    Args:
        timeout: Seconds without a byte before a connection is given up.
        attempts: How often a file is tried.
        wait: Called with the seconds to wait before another try.
    """

    def __init__(
        self,
        timeout: float = 30,
        attempts: int = 4,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.timeout = timeout
        self.attempts = attempts
        self.wait = wait

    def download(self, file: RemoteFile, folder: Path) -> None:
        """Put ``file`` into ``folder``; what was received so far lies beside it as ``.part``.

        Raises:
            XcliptError: The server refuses, or every attempt failed.
            CannotWriteError: The folder cannot be written to.
        """
        target = folder / file.path
        part = target.with_name(f"{target.name}.part")
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                self.wait(0.5 * 4 ** (attempt - 1))
            try:
                with _writing(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._transfer(file, part)
                    if wrong := _what_is_wrong(part, file):
                        part.unlink()
                        raise _TryAgainError(wrong)
            except _TryAgainError as error:
                reason = str(error)
                continue
            write_with(target, part.replace)
            return
        raise XcliptError(f"{file.url}: {reason} (tried {self.attempts} times)")

    def _transfer(self, file: RemoteFile, part: Path) -> None:
        have = part.stat().st_size if part.is_file() else 0
        if have and have == file.size:
            return
        headers = {"User-Agent": f"xclipt/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            request = urllib.request.Request(file.url, headers=headers)
            response = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return
                part.unlink()
                raise _TryAgainError("the part received before did not fit") from error
            if error.code in _WORTH_RETRYING or error.code >= 500:
                raise _TryAgainError(f"HTTP {error.code} {error.reason}") from error
            raise XcliptError(f"{file.url}: HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(_reason(error)) from error
        with response:
            self._receive(response, part, have, file.size)

    def _receive(
        self, response: http.client.HTTPResponse, part: Path, have: int, size: int | None
    ) -> None:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise _TryAgainError("the server sent another range than was asked for")
        else:
            have = 0
        length = response.headers.get("Content-Length", "")
        expected = have + int(length) if length.isdecimal() else size
        with part.open("ab" if have else "wb") as out:
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _TryAgainError(_reason(error)) from error
                if not chunk:
                    break
                out.write(chunk)
                have += len(chunk)
                if size is not None and have > size:
                    break
        if expected is not None and have < expected:
            raise _TryAgainError(f"cut off after {have:,} of {expected:,} bytes")


class CannotWriteError(XcliptError):
    """The disk, not the server, is at fault: no other file would fare better."""


class _TryAgainError(Exception):
    """This attempt failed in a way that another may not."""


def _listed(base: str, sums: dict[str, tuple[int, str]]) -> list[RemoteFile]:
    return [RemoteFile(f"{base}/{path}", path, *known) for path, known in sums.items()]


def _fetch_all(
    dataset: str,
    files: Sequence[RemoteFile],
    folder: Path,
    progress: Progress | None,
    downloader: Downloader,
) -> tuple[int, int]:
    missing = [file for file in files if _what_is_wrong(folder / file.path, file)]
    absent = set(missing)
    report = progress or (lambda _: None)
    done = 0
    for file in files:
        if file not in absent:
            done += 1
            report(FileFetched(file, "present", "", done, len(files)))
    if not missing:
        return 0, len(files)
    failures: list[str] = []
    with _only_one(folder), ThreadPoolExecutor(CONNECTIONS) as pool:
        waiting = {pool.submit(downloader.download, file, folder): file for file in missing}
        try:
            for future in as_completed(waiting):
                done += 1
                try:
                    future.result()
                except CannotWriteError:
                    raise
                except XcliptError as error:
                    failures.append(str(error))
                    report(FileFetched(waiting[future], "failed", str(error), done, len(files)))
                else:
                    report(FileFetched(waiting[future], "fetched", "", done, len(files)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        first = "; ".join(failures[:3]) + ("; ..." if len(failures) > 3 else "")
        raise XcliptError(
            f"{dataset}: {len(failures):,} of {len(files):,} files could not be fetched: {first}. "
            "Run with `download=True` again to go on"
        )
    return len(missing), len(files) - len(missing)


def _what_is_wrong(path: Path, file: RemoteFile) -> str:
    """Why the file at ``path`` is not the published one; empty if it is."""
    if not path.is_file():
        return "not there"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes instead of {file.size:,}"
    if file.sha256 is not None:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        return "" if found == file.sha256 else f"wrong SHA-256 {found}"
    if file.path.endswith(".jpg"):
        with path.open("rb") as opened:
            # A proxy's or hotel's page comes with status 200 too.
            return "" if opened.read(2) == _JPEG else "not a JPEG photograph"
    return ""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWriteError(f"{path}: cannot write ({error.strerror})") from error


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep a second process from writing into the same ``.part`` files."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".download.lock").open("w")
    with lock:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise XcliptError(
                    f"{folder}: another process is downloading into it; wait for it to end"
                ) from error
        yield


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
