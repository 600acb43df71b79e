"""What is kept: its order, that it is found again, whole, and that memory does not grow."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.factories.parallel import ENGLISH, TELUGU, empty_directory, read
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError
from xclipt.files import file_key
from xclipt.parallel import buckets
from xclipt.parallel.pairs import SentencePair
from xclipt.parallel.sources import ParallelRequest
from xclipt.parallel.store import store_pairs
from xclipt.parallel.stored import StoredPairs, kept_pairs
from xclipt.progress import Progress, Silent, Task
from xclipt.verify import verify

MANY = [(f"A dog of number {i} runs.", f"Ein Hund Nummer {i} läuft.") for i in range(2000)]


def write(path: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{english}\t{text}\n" for english, text in pairs))
    return path


@pytest.fixture
def stored(tmp_path: Path) -> StoredPairs:
    return read(tmp_path, write(tmp_path / "a.tsv", MANY), language="de")


def test_the_order_is_that_of_seed_and_content_alone(tmp_path: Path, stored: StoredPairs) -> None:
    order = list(stored)
    assert {(pair.english, pair.text) for pair in order} == set(MANY)
    assert order != [SentencePair(*pair) for pair in MANY]
    shuffled = random.Random(7).sample(MANY, len(MANY))
    again = read(tmp_path, write(tmp_path / "b.tsv", shuffled + shuffled[:9]), language="de")
    assert list(again) == order
    assert again.sha256 == stored.sha256
    other = read(tmp_path, tmp_path / "a.tsv", language="de", seed=2)
    assert list(other) != order
    assert other.sha256 != stored.sha256
    # Of a part of the pairs, the order is the same part of the order.
    part = set(shuffled[:500])
    some = read(tmp_path, write(tmp_path / "c.tsv", part), language="de")
    assert list(some) == [pair for pair in order if (pair.english, pair.text) in part]


def test_the_order_is_a_fair_draw(stored: StoredPairs) -> None:
    places = [int(pair.english.split()[4]) for pair in stored[:500]]
    assert abs(sum(places) / 500 - 999.5) < 100  # four standard errors


def test_rows_and_slices(stored: StoredPairs) -> None:
    order = list(stored)
    assert len(stored) == len(order) == 2000
    assert [stored[i] for i in (0, 1, 1999, -1)] == [order[i] for i in (0, 1, 1999, -1)]
    for part in (
        slice(10),
        slice(5, 9),
        slice(-3, None),
        slice(None, None, -1),
        slice(0, 100, 7),
        slice(0),
    ):
        assert list(stored[part]) == order[part]
        assert len(stored[part]) == len(order[part])
    assert stored[5:][2] == order[7]
    assert list(stored[100:200][10:20]) == order[110:120]
    for index in (2000, -2001):
        with pytest.raises(IndexError):
            stored[index]
    with pytest.raises(IndexError):
        stored[:10][10]
    assert order[3] in stored


def test_a_sum_is_that_of_the_pairs_that_are_there(tmp_path: Path, stored: StoredPairs) -> None:
    first = read(
        tmp_path,
        write(tmp_path / "b.tsv", [(pair.english, pair.text) for pair in stored[:10]]),
        language="de",
    )
    assert first.sha256 == stored[:10].sha256 != stored.sha256
    assert stored[:2000].sha256 == stored[:].sha256 == stored.sha256
    assert file_key(stored.folder / "pairs.tsv").hex() == stored.sha256


def test_a_person_can_read_it(stored: StoredPairs) -> None:
    first = (stored.folder / "pairs.tsv").read_text().split("\n")[0]
    assert first == f"{stored[0].english}\t{stored[0].text}"
    card = (stored.folder / "pairs.yaml").read_text()
    assert "language: de" in card
    assert "source: a.tsv" in card


def test_what_is_kept_can_be_a_source_itself(tmp_path: Path, stored: StoredPairs) -> None:
    again = read(tmp_path, stored.folder / "pairs.tsv", language="de")
    assert list(again) == list(stored)
    assert not again.left_out


class NoReading(Silent):
    def start(self, description: str, total: int) -> Task:
        raise AssertionError(f"{description} again")


def test_the_same_content_is_not_read_again(tmp_path: Path, stored: StoredPairs) -> None:
    moved = tmp_path / "elsewhere" / "b.tsv"
    moved.parent.mkdir()
    (tmp_path / "a.tsv").rename(moved)
    request = ParallelRequest((str(moved),), "de")
    again = store_pairs(empty_directory(tmp_path / "artifacts"), request, NoReading())
    assert again.folder == stored.folder
    assert again.source == "b.tsv"  # manifests name what was named
    moved.write_text(moved.read_text().replace("number 7 ", "number seven "))
    with pytest.raises(AssertionError, match=r"Reading b.tsv"):
        store_pairs(empty_directory(tmp_path / "artifacts"), request, NoReading())


def test_the_same_bytes_under_a_name_that_says_otherwise_are_other_pairs(tmp_path: Path) -> None:
    forth = write(tmp_path / "en-de.tsv", [("Gando mira", "Belto sura")])
    back = tmp_path / "de-en.tsv"
    back.write_bytes(forth.read_bytes())
    assert read(tmp_path, forth, language="de")[0].english == "Gando mira"
    assert read(tmp_path, back, language="de")[0].english == "Belto sura"


def test_how_it_is_read_is_part_of_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "two.tsv"
    path.write_bytes("".join(f"{a}\t{b}\n" for a, b in MANY[:9]).encode("cp1252"))
    one = read(tmp_path, path, language="de", reading=Reading(encoding="cp1252"))
    other = read(tmp_path, path, language="de", reading=Reading(encoding="cp1250"))
    assert one.folder != other.folder


def test_more_than_fits_into_memory_is_the_same(
    tmp_path: Path, stored: StoredPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_MOST_IN_MEMORY", 1000)
    directory = tmp_path / "other"
    again = read(directory, tmp_path / "a.tsv", language="de")
    assert again.sha256 == stored.sha256
    assert sorted(path.name for path in again.folder.iterdir()) == [
        "offsets.npy",
        "pairs.tsv",
        "pairs.yaml",
    ]
    for name in ("offsets.npy", "pairs.tsv", "pairs.yaml"):
        assert (again.folder / name).read_bytes() == (stored.folder / name).read_bytes()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["pairs.tsv", "offsets.npy"])
def test_damage_is_found(tmp_path: Path, stored: StoredPairs, name: str) -> None:
    directory = empty_directory(tmp_path / "artifacts")
    findings = [finding for finding in verify(directory) if "parallel" in finding.path]
    assert not findings
    damage(stored.folder / name)
    findings = [finding for finding in verify(directory) if "parallel" in finding.path]
    place = stored.folder.relative_to(directory.root) / "pairs.yaml"
    remedy = "delete the folder, and its sources are read again"
    assert [(finding.path, finding.problem) for finding in findings] == [
        (str(place), f"{name} is not what was written; {remedy}")
    ]
    with pytest.raises(XcliptError, match=f"{stored.folder}: {name} is not what was written"):
        read(tmp_path, tmp_path / "a.tsv", language="de")


def test_a_card_that_cannot_be_read(tmp_path: Path, stored: StoredPairs) -> None:
    directory = empty_directory(tmp_path / "artifacts")
    assert [len(pairs) for pairs in kept_pairs(directory)] == [2000]
    (stored.folder / "pairs.yaml").write_text("format: [")
    (finding,) = [finding for finding in verify(directory) if "parallel" in finding.path]
    assert "pairs.yaml: cannot read" in finding.problem
    assert kept_pairs(directory) == []
    with pytest.raises(XcliptError, match=r"pairs.yaml: cannot read"):
        read(tmp_path, tmp_path / "a.tsv", language="de")


class Interrupting(Silent):
    def start(self, description: str, total: int) -> Task:
        raise KeyboardInterrupt


def test_nothing_is_left_of_an_interruption(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", MANY)
    directory = empty_directory(tmp_path / "artifacts")
    with pytest.raises(KeyboardInterrupt):
        store_pairs(directory, ParallelRequest((str(path),), "de"), Interrupting())
    assert not directory.root.exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.factories.parallel import read
from xclipt import files
files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing renamed
read(Path(sys.argv[1]), Path(sys.argv[1]) / "a.tsv", language="de")
"""


def test_what_a_kill_leaves_is_ignored_and_swept(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", MANY)
    run = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert run.returncode == -signal.SIGKILL
    directory = empty_directory(tmp_path / "artifacts")
    (left,) = (directory.root / "parallel" / "de").iterdir()
    assert (left / "pairs.tsv").is_file()
    assert (left / "pairs.yaml").is_file()
    assert kept_pairs(directory) == []
    assert not [finding for finding in verify(directory) if "parallel" in finding.path]
    pairs = read(tmp_path, tmp_path / "a.tsv", language="de")
    assert [path.name for path in pairs.folder.parent.iterdir()] == [pairs.folder.name]
    assert len(pairs) == 2000


def test_two_writers_of_the_same_leave_it_once(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", MANY)

    class Overtaken(Silent):
        def start(self, description: str, total: int) -> Task:
            if not list((tmp_path / "artifacts").glob("parallel/de/[!.]*")):
                read(tmp_path, tmp_path / "a.tsv", language="de")
            return super().start(description, total)

    progress: Progress = Overtaken()
    directory: ArtifactDirectory = empty_directory(tmp_path / "artifacts")
    pairs = store_pairs(directory, ParallelRequest((str(tmp_path / "a.tsv"),), "de"), progress)
    assert len(pairs) == 2000
    assert [path.name for path in pairs.folder.parent.iterdir()] == [pairs.folder.name]


def test_progress_counts_megabytes_of_the_file(tmp_path: Path) -> None:
    class Watching(Silent):
        total, done, finished = 0, 0, False

        def start(self, description: str, total: int) -> Task:
            assert description == "Reading a.tsv, MB"
            self.total = total
            return self

        def advance(self, steps: int = 1, detail: str = "") -> None:
            self.done += steps

        def finish(self) -> None:
            self.finished = True

    path = tmp_path / "a.tsv"
    path.write_text(f"{ENGLISH[0]}\t{TELUGU[0]}\n" * 20000)
    watching = Watching()
    store_pairs(empty_directory(tmp_path), ParallelRequest((str(path),), "te"), watching)
    assert watching.total == path.stat().st_size // (1 << 20) == watching.done == 2
    assert watching.finished


_PEAK = """
import resource, sys
from pathlib import Path
from tests.factories.parallel import read
folder, *names = sys.argv[1:]
for name in names:
    read(Path(folder), Path(folder) / name, language="de")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peaks(folder: Path, *names: str) -> list[int]:
    """The most megabytes that were needed after each of some files."""
    command = [sys.executable, "-c", _PEAK, str(folder), *names]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return [int(peak) // unit for peak in run.stdout.split()]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    # A file of 12 MB: its lines alone, as Python's strings, would be some 30.
    sentence = "the dog and the cat of the house that stands at the river"
    satz = "der Hund und die Katze von dem Haus das an dem Fluss steht"
    write(tmp_path / "many.tsv", ((f"{sentence} {i}", f"{satz} {i}") for i in range(90_000)))
    write(tmp_path / "few.tsv", MANY)
    few, many = peaks(tmp_path, "few.tsv", "many.tsv")
    assert many - few < 16


@pytest.mark.slow
def test_memory_does_not_grow_with_a_translation_memory(tmp_path: Path) -> None:
    # Left in the tree, the many units without text would be some 100 MB.
    def unit(english: str, german: str) -> str:
        sides = (("en", english), ("de", german))
        parts = (f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in sides)
        return f"<tu>{''.join(parts)}</tu>\n"

    for name, empty in (("few", 10), ("many", 100_000)):
        units = "".join(unit(*pair) for pair in MANY) + unit("", "") * empty
        path = tmp_path / f"{name}.tmx"
        path.write_text(f'<tmx version="1.4"><header/><body>{units}</body></tmx>')
    few, many = peaks(tmp_path, "few.tmx", "many.tmx")
    assert many - few < 16
