"""Chunks of features on disk are what numpy would write, or nothing."""

from pathlib import Path

import numpy as np
import pytest

from xclipt.artifacts.feature_rows import save_array


@pytest.mark.parametrize("array", [np.eye(3, 5, dtype="f4"), np.eye(3, 5, dtype="f4").T])
def test_what_numpy_would_write(tmp_path, array):
    ours, theirs = tmp_path / "ours.npy", tmp_path / "theirs.npy"
    save_array(ours, array)
    np.save(theirs, np.ascontiguousarray(array))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_for_the_last_bytes():
    with pytest.raises(OSError, match="No space left"):
        save_array(Path("/dev/full"), np.eye(3, dtype=np.float32))
