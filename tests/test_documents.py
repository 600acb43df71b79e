"""Documents nested, repeated or large without end cost next to nothing, and are refused."""

import os
import time
import tracemalloc
from dataclasses import dataclass

import pytest

from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import MARK, ArtifactDirectory
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.documents import MAX_ALIASES, MAX_BYTES, parse_json, read_json, read_yaml, record
from xclipt.errors import XcliptError

BOMB = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HOSTILE = {
    "aliases": BOMB + "format: 1\n",
    "merged": BOMB.replace("[", "{x: ").replace("]", "}"),
    "deep flow": "format: " + "[" * 100_000,
    "deep blocks": "".join(f"{' ' * n}k:\n" for n in range(3000)),
    "brackets": "[" * 200 + "]" * 200,
    "mapping as a key": "? {a: b}\n: 1\n",
    "no text": b"\xff\xfe\x00\x00\xd8",
    "control": "a: \x07\n",
    "tag": "!!python/object/apply:os.system [echo]\n",
    "nothing": "",
}


@pytest.fixture
def cheap():
    """Fails where what was done took a second or 50 MB."""
    tracemalloc.start()
    started = time.process_time()
    yield
    took, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 5 and peak < 50_000_000  # tracing makes it several times as slow


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "read", [DeltaManifest.read, lambda path: ArtifactDirectory.open(path.parent)]
)
def test_manifest_and_mark_are_refused_in_one_line(read, document, tmp_path, cheap):
    path = tmp_path / MARK
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    with pytest.raises(XcliptError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("document", [*HOSTILE.values()][:-1], ids=[*HOSTILE][:-1])
def test_the_configuration_is_refused_in_one_line(document, tmp_path, cheap):
    path = tmp_path / "config.yaml"
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    run = run_xclipt(
        "train-delta", "--config", path, "--lang", "germn", "--artifacts", tmp_path / "a"
    )
    assert run.code == 2 and "unexpected" not in run.err and run.err.count("\n") == 1
    assert "--config" in run.err


def test_a_few_aliases_are_taken(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(f"a: &a [1]\nb: [{', '.join(['*a'] * MAX_ALIASES)}]\n")
    assert read_yaml(path)["b"] == [[1]] * MAX_ALIASES


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 200 + "1" + "}" * 200, "nul", b"\xff"])
def test_json_beyond_the_limits_is_a_value_error(text, cheap):
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert not isinstance(caught.value, RecursionError)


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_never_ends_is_not_read(read, tmp_path, cheap):
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("zero", "not a regular file"), ("pipe", "not a regular file")):
        with pytest.raises(OSError, match=why):
            read(tmp_path / name)


def test_the_largest_document_is_refused_by_its_size(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(OSError, match="larger than"):
        read_yaml(tmp_path / "large")


@dataclass(frozen=True)
class _Measured:
    value: float


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), True, "1"])
def test_what_is_no_finite_number_is_refused(value):
    assert record(_Measured, {"value": 10**300}).value == 10**300
    with pytest.raises(ValueError, match=r"value is .* which is no number"):
        record(_Measured, {"value": value})
