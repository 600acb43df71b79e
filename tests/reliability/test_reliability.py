"""A seeded sample of what ``python -m tests.reliability`` tries: see RELIABILITY.md."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability import kernel
from tests.reliability.__main__ import PARTS, run
from tests.reliability.damage import HARMS, KINDS
from tests.reliability.processes import Case, Fault, Forks, prepared
from tests.reliability.worlds import COMMANDS, World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(kernel.unavailable()), reason=kernel.unavailable() or "-"),
]
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
SHARE = 0.01
"""At least one case of every command and kind, in some minutes."""
QUICK = {name: command for name, command in COMMANDS.items() if not command.slow}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with Forks(prepared) as forks:
        yield World(tmp_path_factory.mktemp("reliability"), forks)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "fuzzing"])  # test_readers.py
def test_a_sample(world, part):
    found = run(world, [part], SEED, SHARE, QUICK)[part]
    assert not found.broken, "\n".join(found.broken)
    assert found.counts["cases"] + found.counts["processes"] >= _least(part), found.counts


def _least(part: str) -> int:
    """So many cases at least: a sample of none proves nothing."""
    others = {
        "crowds": 40,
        "moments": 2,
        "surroundings": 4,  # without file systems of its own
        "damage": len(KINDS) * len(HARMS) // 2,
    }
    return others.get(part, len(QUICK))


def write_in_many_ways():
    import numpy as np
    import torch
    from safetensors.torch import save_file

    Path("text").write_text("x")
    np.save("array.npy", np.zeros(4))
    save_file({"a": torch.zeros(2)}, "tensors.safetensors")
    torch.save({"a": torch.zeros(2)}, "pickle.bin")
    descriptor = os.open("raw", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, b"abcd", 0)
    os.ftruncate(descriptor, 2)
    os.fsync(descriptor)
    Path("raw").rename("renamed")
    os.link("renamed", "linked")
    Path("renamed").unlink()
    Path("folder").mkdir()
    Path("folder").rmdir()
    Path("text").read_text()


@pytest.fixture
def one(world, tmp_path):
    return lambda step, fault=None: world.forks.run(Case((step,), tmp_path, fault))[0]


def test_nothing_that_writes_passes_the_shim_by(one, tmp_path):
    ran = one(write_in_many_ways)
    assert ran.done[0].code == 0, ran
    assert Counter(event.kind for event in ran.events).keys() == {
        *("open", "write", "truncate", "flush", "rename", "link", "unlink", "mkdir"),
    }
    written = {event.path for event in ran.events if event.kind == "write"}
    assert {"text", "array.npy", "pickle.bin", "raw"} <= written
    assert any(path.startswith(".tmp") for path in written), "safetensors, by its own name"


def write_two():
    Path("one").write_bytes(b"x" * 10)
    Path("two").write_bytes(b"y" * 10)


def test_faults_come_where_they_are_asked_for(one, tmp_path):
    events = [(event.kind, event.path) for event in one(write_two).events]
    assert events == [("open", "one"), ("write", "one"), ("open", "two"), ("write", "two")]
    (tmp_path / "one").unlink()
    assert one(write_two, Fault("SIGKILL", 1)).signal == signal.SIGKILL
    assert (tmp_path / "one").read_bytes() == b"x" * 5, "half of it had arrived"
    ran = one(write_two, Fault("ENOSPC", 2))
    assert ran.signal == 0 and "No space left on device: 'two'" in ran.done[0].err
    ran = one(write_two, Fault("ENOSPC", 1, lasting=True))
    assert ran.signal == 0 and "No space left on device" in ran.done[0].err


def hang():
    signal.pause()


def test_who_hangs_is_told_and_killed(one, monkeypatch):
    ran = one(hang, Fault("SIGTERM", after=0.5))
    assert ran.signal == signal.SIGTERM and not ran.hung
