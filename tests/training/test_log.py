"""Logs of a training on a disk that has no room for them."""

import resource

import pytest

from xclipt.errors import XcliptError
from xclipt.training.log import listening
from xclipt.training.loop import StepRecord

STEP = StepRecord(1, {"total": 1.0}, 0.5, 1e-3, None)


@pytest.mark.parametrize("kind", ["log", "tensorboard"])
def test_a_full_disk_is_told_in_one_line(kind, tmp_path):
    place = tmp_path / kind
    given = (place, None) if kind == "log" else (None, place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(XcliptError, match=f"{kind}.*: cannot write"), listening(*given) as of:
        listener = of("fr/a")
        listener(STEP)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            for _ in range(3):
                listener(STEP)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
