import hashlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xclipt.data import checksums, download
from xclipt.data.download import (
    Addresses,
    CannotWriteError,
    Downloader,
    FileFetched,
    RemoteFile,
    fetch,
    multi30k_captions,
    xtd_captions,
    xtd_photographs,
)
from xclipt.data.sets import multi30k, xtd
from xclipt.data.sets.coco import find_coco
from xclipt.data.sets.multi30k import LATER, TASK1, TASK2
from xclipt.errors import XcliptError

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAMES = ("COCO_train2014_000000000001.jpg", "COCO_val2014_000000000002.jpg")


class Server:
    """A web server on loopback whose faults a test sets by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cut: dict[str, list[int]] = {}
        self.status: dict[str, list[int]] = {}
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str | None]] = []
        self.busy = self.most_busy = 0
        self.counting = threading.Lock()
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with server.counting:
                    server.busy += 1
                    server.most_busy = max(server.most_busy, server.busy)
                    server.asked.append((self.path, self.headers["Range"]))
                try:
                    self.answer()
                finally:
                    with server.counting:
                        server.busy -= 1

            def answer(self) -> None:
                if self.path in server.silent:
                    server.ended.wait(5)
                elif server.status.get(self.path):
                    self.send_error(server.status[self.path].pop(0))
                elif self.path not in server.files:
                    self.send_error(404)
                else:
                    self.send_file()

            def send_file(self) -> None:
                body, start = server.files[self.path], 0
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
                if asked and server.ranges:
                    start = int(asked[1])
                    if start >= len(body):
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                end = server.cut[self.path].pop(0) if server.cut.get(self.path) else len(body)
                self.wfile.write(body[start:end])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = Server()
    yield started
    started.close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def downloader(waits: list[float]) -> Downloader:
    return Downloader(timeout=5, attempts=3, wait=waits.append)


def remote(server: Server, size: int | None = len(BODY), sha256: str | None = SHA256) -> RemoteFile:
    server.files.setdefault("/f.bin", BODY)
    return RemoteFile(f"{server.url}/f.bin", "deep/f.bin", size, sha256)


def only_file(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files == [folder / "deep" / "f.bin"]
    return files[0].read_bytes()


def leave_part(folder: Path, data: bytes) -> Path:
    part = folder / "deep" / "f.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(data)
    return part


def test_a_file_is_fetched(server: Server, downloader: Downloader, tmp_path: Path) -> None:
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY
    assert server.asked == [("/f.bin", None)]


@pytest.mark.parametrize("known", [True, False])
def test_a_part_is_resumed(
    server: Server, downloader: Downloader, tmp_path: Path, known: bool
) -> None:
    leave_part(tmp_path, BODY[:1000])
    downloader.download(remote(server) if known else remote(server, None, None), tmp_path)
    assert only_file(tmp_path) == BODY
    assert server.asked == [("/f.bin", "bytes=1000-")]


def test_a_server_may_ignore_range(server: Server, downloader: Downloader, tmp_path: Path) -> None:
    server.ranges = False
    leave_part(tmp_path, BODY[:1000])
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_tried_again(
    server: Server, downloader: Downloader, tmp_path: Path, ranges: bool, waits: list[float]
) -> None:
    server.ranges = ranges
    server.cut["/f.bin"] = [100_000, 150_000]
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY
    assert server.asked == [
        ("/f.bin", None),
        ("/f.bin", "bytes=100000-"),
        ("/f.bin", "bytes=150000-"),
    ]
    assert waits == [0.5, 2.0]


def test_what_stays_cut_off_is_kept_for_the_next_run(
    server: Server, downloader: Downloader, tmp_path: Path
) -> None:
    server.cut["/f.bin"] = [10, 20, 30]
    with pytest.raises(XcliptError, match=r"f.bin: cut off after 30 of 256,000 bytes .tried 3"):
        downloader.download(remote(server), tmp_path)
    assert (tmp_path / "deep" / "f.bin.part").read_bytes() == BODY[:30]
    assert not (tmp_path / "deep" / "f.bin").exists()
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY


@pytest.mark.parametrize("part", [BODY, BODY + b"more", b"x" * 1000, b"x" * len(BODY)])
def test_parts_that_are_whole_too_long_or_wrong(
    server: Server, downloader: Downloader, tmp_path: Path, part: bytes
) -> None:
    leave_part(tmp_path, part)
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY


def test_a_whole_part_of_unknown_size(
    server: Server, downloader: Downloader, tmp_path: Path
) -> None:
    leave_part(tmp_path, BODY)
    downloader.download(remote(server, None, None), tmp_path)
    assert only_file(tmp_path) == BODY


@pytest.mark.parametrize(
    ("size", "sha256", "says"),
    [
        (len(BODY), "0" * 64, f"wrong SHA-256 {SHA256}"),
        (len(BODY) + 1, None, "cut off|instead of"),
        (len(BODY) - 1, None, "instead of 255,999"),
    ],
)
def test_wrong_sizes_and_checksums_are_refused(
    server: Server,
    downloader: Downloader,
    tmp_path: Path,
    size: int,
    sha256: str | None,
    says: str,
) -> None:
    with pytest.raises(XcliptError, match=says):
        downloader.download(remote(server, size, sha256), tmp_path)
    assert not (tmp_path / "deep" / "f.bin").exists()


def test_404_is_not_tried_again(server: Server, downloader: Downloader, tmp_path: Path) -> None:
    with pytest.raises(XcliptError, match="/nothing: HTTP 404"):
        downloader.download(RemoteFile(f"{server.url}/nothing", "nothing"), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_busy_servers_are_tried_again(
    server: Server, downloader: Downloader, tmp_path: Path, status: int
) -> None:
    server.status["/f.bin"] = [status, status]
    downloader.download(remote(server), tmp_path)
    assert only_file(tmp_path) == BODY
    server.status["/g.bin"] = [status] * 3
    with pytest.raises(XcliptError, match=rf"g.bin: HTTP {status} .*tried 3 times"):
        downloader.download(RemoteFile(f"{server.url}/g.bin", "g.bin"), tmp_path)


def test_silent_and_absent_servers_are_given_up(server: Server, tmp_path: Path) -> None:
    server.silent.add("/f.bin")
    hasty = Downloader(timeout=0.1, attempts=2, wait=lambda _: None)
    with pytest.raises(XcliptError, match=r"no answer in time .tried 2"):
        hasty.download(remote(server), tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/f.bin"
        with pytest.raises(XcliptError, match=r"refused.*tried 2"):
            hasty.download(RemoteFile(url, "f.bin"), tmp_path)
    assert len(server.asked) == 2


def test_a_folder_that_cannot_be_written(
    server: Server, downloader: Downloader, tmp_path: Path
) -> None:
    (tmp_path / "deep").write_text("a file in the way")
    with pytest.raises(CannotWriteError, match="cannot write"):
        downloader.download(remote(server), tmp_path)
    assert server.asked == []


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """Small XTD and Multi30K repositories with true checksums."""

    def publish(prefix: str, files: dict[str, bytes]) -> dict[str, tuple[int, str]]:
        server.files |= {f"/{prefix}/{path}": data for path, data in files.items()}
        return {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()}

    captions = dict.fromkeys(xtd.CAPTIONS_FILES.values(), b"one\ntwo\n")
    names = {xtd.PICTURES_FILE: "\n".join(NAMES).encode()}
    monkeypatch.setattr(checksums, "XTD", publish("xtd", captions | names))
    raw = {TASK1.captions_files("en", "val")[0]: b"gzipped"}
    monkeypatch.setattr(checksums, "MULTI30K", publish("m30k", raw))
    five = dict.fromkeys(TASK2.captions_files("de", "val"), b"gzipped too")
    monkeypatch.setattr(checksums, "MULTI30K_TASK2", publish("m30k", five))
    publish("coco", {f"{name.split('_')[1]}/{name}": b"\xff\xd8" + name.encode() for name in NAMES})
    return Addresses(f"{server.url}/xtd", f"{server.url}/m30k", f"{server.url}/coco")


def test_xtd_is_fetched_once(
    server: Server, published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    events: list[FileFetched] = []
    report = fetch("xtd", tmp_path, events.append, addresses=published, downloader=downloader)
    assert (report.folder, report.fetched, report.present) == (tmp_path / "xtd", 14, 0)
    assert [(event.done, event.total) for event in events] == [
        *((number, 12) for number in range(1, 13)),
        (1, 2),
        (2, 2),
    ]
    dataset = xtd.XtdDataset(report.folder, find_coco(report.folder))
    for item in dataset.captions("ja", "test"):
        assert dataset.picture_path(item.image).read_bytes() == b"\xff\xd8" + item.image.encode()
    assert len(server.asked) == 14
    for root in (tmp_path, tmp_path / "xtd"):
        again = fetch("xtd", root, events.append, addresses=published, downloader=downloader)
        assert (again.folder, again.fetched, again.present) == (tmp_path / "xtd", 0, 14)
    assert len(server.asked) == 14
    assert Counter(event.outcome for event in events) == {"fetched": 14, "present": 28}


def test_only_what_is_not_right_is_fetched(
    server: Server, published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    fetch("xtd", tmp_path, addresses=published, downloader=downloader)
    server.asked.clear()
    (tmp_path / "xtd/MIC/test_1kcaptions_de.txt").write_bytes(b"one\ntwa\n")
    (tmp_path / "xtd/images" / NAMES[0]).unlink()
    report = fetch("xtd", tmp_path, addresses=published, downloader=downloader)
    assert (report.fetched, report.present) == (2, 12)
    assert {path for path, _ in server.asked} == {
        "/xtd/MIC/test_1kcaptions_de.txt",
        f"/coco/train2014/{NAMES[0]}",
    }
    assert (tmp_path / "xtd/MIC/test_1kcaptions_de.txt").read_bytes() == b"one\ntwo\n"


def test_failures_are_named_and_the_rest_goes_on(
    server: Server, published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    server.files[f"/coco/train2014/{NAMES[0]}"] = b"<html>sign in</html>"
    events: list[FileFetched] = []
    with pytest.raises(XcliptError) as caught:
        fetch("xtd", tmp_path, events.append, addresses=published, downloader=downloader)
    assert "xtd: 1 of 2 files could not be fetched" in str(caught.value)
    assert f"{NAMES[0]}: not a JPEG photograph (tried 3 times)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [event.file.path for event in events if event.outcome == "failed"] == [
        f"images/{NAMES[0]}"
    ]
    assert [path.name for path in (tmp_path / "xtd/images").iterdir()] == [NAMES[1]]


def test_captions_alone(published: Addresses, downloader: Downloader, tmp_path: Path) -> None:
    report = fetch("xtd", tmp_path, photographs=False, addresses=published, downloader=downloader)
    assert report.fetched == 12
    assert not (tmp_path / "xtd/images").exists()
    (tmp_path / "coco/val2014").mkdir(parents=True)
    report = fetch("xtd", tmp_path, addresses=published, downloader=downloader)
    assert report.notes == (f"xtd: uses the photographs in {tmp_path.resolve() / 'coco'}",)
    assert not (tmp_path / "xtd/images").exists()


def test_multi30k_says_where_its_photographs_are_to_be_had(
    published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    report = fetch("multi30k", tmp_path, addresses=published, downloader=downloader)
    assert report.fetched == 1
    assert "no public address" in report.notes[0]
    assert str(tmp_path / "multi30k/flickr30k-images") in report.notes[0]
    (tmp_path / "flickr30k-images").mkdir()
    assert fetch("multi30k", tmp_path, addresses=published, downloader=downloader).notes == ()


def test_task_2_is_fetched_to_where_task_1_is(
    published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    def fetched(name: str, root: Path) -> tuple[Path, int]:
        report = fetch(name, root, addresses=published, downloader=downloader)
        assert report.notes[0].startswith(f"{name}: its photographs")
        return report.folder, report.fetched

    assert fetched("multi30k-task2", tmp_path / "a") == (tmp_path / "a/multi30k", 5)
    assert fetched("multi30k", tmp_path / "b") == (tmp_path / "b/multi30k", 1)
    for root in ("b", "b/multi30k"):
        report = fetched("multi30k-task2", tmp_path / root)
        assert report == (tmp_path / "b/multi30k", 5 if root == "b" else 0)
    captions = TASK2.captions_files("de", "val")[4]
    assert (tmp_path / "b/multi30k" / captions).read_bytes() == b"gzipped too"


def test_no_more_connections_than_promised(
    server: Server, downloader: Downloader, tmp_path: Path
) -> None:
    server.files |= {f"/{k}": BODY for k in range(40)}
    files = [RemoteFile(f"{server.url}/{k}", f"{k}") for k in range(40)]
    assert download._fetch_all("x", files, tmp_path, None, downloader) == (40, 0)
    assert 1 <= server.most_busy <= 4


def test_two_processes_do_not_write_the_same_parts(
    published: Addresses, downloader: Downloader, tmp_path: Path
) -> None:
    with (
        download._only_one(tmp_path / "xtd"),
        pytest.raises(XcliptError, match="another process is downloading"),
    ):
        fetch("xtd", tmp_path, addresses=published, downloader=downloader)
    assert fetch("xtd", tmp_path, addresses=published, downloader=downloader).fetched == 14


def test_what_has_no_address(tmp_path: Path) -> None:
    for name in ("emoji", "mine"):
        with pytest.raises(XcliptError, match=f"download: '{name}' has no public address"):
            fetch(name, tmp_path)
    with pytest.raises(XcliptError, match=r"\.\./x\.jpg is no photograph of COCO"):
        xtd_photographs(["../x.jpg"], Addresses())


def test_addresses_of_the_publishers() -> None:
    urls = {file.url for file in xtd_captions(Addresses()) + multi30k_captions(Addresses())}
    raw = "https://raw.githubusercontent.com"
    assert (
        f"{raw}/adobe-research/Cross-lingual-Test-Dataset-XTD10/main/STAIR/test_1kcaptions_jp.txt"
        in urls
    )
    assert f"{raw}/multi30k/dataset/master/data/task1/raw/test_2016_flickr.cs.gz" in urls
    assert [file.url for file in xtd_photographs(NAMES, Addresses())] == [
        f"http://images.cocodataset.org/train2014/{NAMES[0]}",
        f"http://images.cocodataset.org/val2014/{NAMES[1]}",
    ]
    listed = {file.path for file in xtd_captions(Addresses())}
    assert listed == {xtd.PICTURES_FILE, *xtd.CAPTIONS_FILES.values(), "LICENSE.md"}
    for task in (TASK1, TASK2):
        listed = {file.path for file in multi30k_captions(Addresses(), task)}
        assert listed == {task.pictures_file(split) for split in task.languages} | {
            file
            for split, languages in task.languages.items()
            for language in languages
            for file in task.captions_files(language, split)
        }


def test_the_real_files_are_what_the_checksums_say(data_root: Path) -> None:
    for folder, files in (
        (xtd.find_folder(data_root), xtd_captions(Addresses())),
        (multi30k.find_folder(data_root, TASK1), multi30k_captions(Addresses())),
    ):
        assert folder is not None
        assert all(file.size and file.sha256 for file in files)
        # The later test splits need not be there.
        files = [file for file in files if not any(split in file.path for split in LATER)]
        wrong = {file.path: download._what_is_wrong(folder / file.path, file) for file in files}
        assert set(wrong.values()) == {""}, wrong
