"""A disk that is really full, one that cannot be written to, and a directory that goes away."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.processes import Fault
from tests.reliability.trials import VERIFY, Tally, one_line
from tests.reliability.worlds import COMMANDS, World, contents, matching

_SIZES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Pages of 4 kB that are free when a command begins."""


def cannot_mount() -> str:
    """Why no file system can be mounted here; empty where one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can mount a small file system"
    return ""


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own in a folder.

    Raises:
        OSError: It cannot be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(*arguments: str) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if ran.returncode:
        raise OSError(ran.stderr.strip())


class Surroundings:
    """Cases in one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def full(self, name: str, share: float = 1) -> Tally:
        """So many pages are free, and later enough."""
        tally = Tally()
        command = self._world.arguments(COMMANDS[name].arguments)
        for pages in _SIZES[:: 1 if share == 1 else 6]:
            folder = self._world.root / "full"
            with mounted(folder, "64m"):
                shutil.copytree(self._world.template, folder, dirs_exist_ok=True)
                before = self._earlier(name, folder)
                free = os.statvfs(folder)
                filler = folder / "filler"
                with filler.open("wb") as file:
                    file.write(bytes(free.f_bavail * free.f_frsize - 4096 * pages))
                (done,) = self._world.run(command, folder=folder).done
                tally.counts["cases"] += 1
                tally.counts["refused in one line" if done.code else "there was room"] += 1
                where = f"{name} with {pages} pages"
                if done.code and (wrong := one_line(done, "No space left on device")):
                    tally.broken.append(f"{where}: {wrong}")
                if self._earlier(name, folder) != before:
                    tally.broken.append(f"{where}: earlier files are lost or changed")
                filler.unlink()
                self._goes_on(tally, where, command, folder)
        return tally

    def read_only(self, name: str) -> Tally:
        """Nothing can be written."""
        tally = Tally()
        command = self._world.arguments(COMMANDS[name].arguments)
        folder = self._world.root / "full"
        with mounted(folder, "64m"):
            shutil.copytree(self._world.template, folder, dirs_exist_ok=True)
            before = contents(folder)
            _mount("-o", "remount,ro", str(folder))
            (done,) = self._world.run(command, folder=folder).done
            tally.counts["cases"] += 1
            wrong = one_line(done, "Read-only file system") if done.code else ""
            if wrong or contents(folder) != before:
                tally.broken.append(f"{name} on what is read-only: {wrong or 'it has changed'}")
            if not done.code and matching(before, COMMANDS[name].stores) != matching(
                contents(folder), COMMANDS[name].stores
            ):
                tally.broken.append(f"{name} on what is read-only: exit 0")
            tally.counts["refused in one line" if done.code else "done all the same"] += 1
            _mount("-o", "remount,rw", str(folder))
            self._goes_on(tally, f"{name} after it was read-only", command, folder)
        return tally

    def vanishing(self, name: str, events: list[int]) -> Tally:
        """The artifact directory is moved away at a write event."""
        tally = Tally()
        command = self._world.arguments(COMMANDS[name].arguments)
        for at in events:
            folder = self._world.fresh()
            ran = self._world.run(command, folder=folder, fault=Fault("vanish", at))
            tally.counts["cases"] += 1
            where = f"{name} without its directory from {at} on"
            if not ran.done:
                tally.broken.append(f"{where}: died {ran}")
            elif ran.done[0].code and (wrong := one_line(ran.done[0], "")):
                tally.broken.append(f"{where}: {wrong}")
            elif not ran.done[0].code and (folder / "artifacts").exists():
                tally.broken.append(f"{where}: exit 0, and results where nobody finds them")
            else:
                tally.counts["refused in one line" if ran.done[0].code else "done already"] += 1
            if (folder / "artifacts/xclipt.yaml").exists():
                tally.broken.append(f"{where}: it is made again")
            shutil.rmtree(folder / "artifacts", ignore_errors=True)
            (folder / "artifacts.moved").rename(folder / "artifacts")
            self._goes_on(tally, where, command, folder)
            self._world.discard(folder)
        return tally

    def _earlier(self, name: str, folder: Path) -> dict[str, bytes]:
        now = contents(folder)
        return {path: now.get(path, b"") for path in self._world.earlier(name)}

    def _goes_on(self, tally: Tally, where: str, command: tuple[str, ...], folder: Path) -> None:
        for step in (VERIFY, command, VERIFY):
            (done,) = self._world.run(step, folder=folder).done
            if done.code and "no delta 'other'" not in done.err:  # removed before
                tally.broken.append(f"{where}: then {step[0]}: {done.err or done.out}")
