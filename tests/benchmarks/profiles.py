"""Where the time of xclipt's passes goes, operator by operator."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.material import (
    BFLOAT16,
    FLOAT32,
    builtin,
    captions,
    dtype_name,
    photographs,
)
from tests.benchmarks.measuring import Setting
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.deltas.adapted import AdaptedTower

_STEP = 32
_LAYER = (512, 384, 1536)
"""Rows of a layer of the builtin text tower, and their width before and after it."""


@dataclass(frozen=True)
class Profile:
    """What a pass spends its time on.

    Attributes:
        what: The pass.
        seconds: How long it takes by the clock, without a profiler.
        operations: Floating-point operations of its products of matrices.
        fastest: As many a second a single layer reaches by itself.
        shares: Of all operators' own time, the greatest first.
    """

    what: str
    seconds: float
    operations: int
    fastest: float
    shares: dict[str, float]

    def lines(self, shown: int = 7) -> list[str]:
        """As text, with so many operators."""
        speed = self.operations / self.seconds
        head = f"{self.what}: {self.seconds:.3g} s, {speed / 1e9:.0f} GFLOP/s"
        return [
            f"{head}; a layer by itself {self.fastest / 1e9:.0f}",
            *(f"  {share:6.1%} {name}" for name, share in list(self.shares.items())[:shown]),
        ]


def profiles(setting: Setting) -> Iterator[Profile]:
    """Of encoding captions, a step of training, and encoding photographs."""
    texts = captions(setting, setting.size(1100, least=_STEP))
    for dtype in (FLOAT32, BFLOAT16):
        backbone, name = builtin(setting.device, dtype), dtype_name(dtype)
        rows = backbone.tokenizer(texts)
        encode = partial(backbone.encode_tokens, rows)
        yield _profile(f"{len(rows):,} captions, {name}", encode, dtype, setting)
        step = partial(_step, backbone, rows[:_STEP])
        yield _profile(f"training on {_STEP} captions, {name}", step, dtype, setting)
    paths, own = photographs(setting, setting.size(200, least=4)), builtin(setting.device)
    encode = partial(own.encode_pictures, paths)
    yield _profile(f"{len(paths):,} photographs, float32", encode, FLOAT32, setting)


def _step(backbone: Backbone, rows: list[list[int]]) -> None:
    delta = AdaptedTower(backbone.text_tower, WARM_START_SPEC)
    delta.within(backbone).embed_tokens(rows).sum().backward()


def _profile(what: str, run: Callable[[], object], dtype: torch.dtype, setting: Setting) -> Profile:
    run()
    seconds = _seconds(run, setting)
    with FlopCounterMode(display=False) as counter:
        run()
    rows, narrow, wide = _LAYER
    layer = torch.nn.Linear(narrow, wide, device=setting.device, dtype=dtype)
    given = torch.randn(rows, narrow, device=setting.device, dtype=dtype)
    with torch.inference_mode():
        alone = min(_seconds(partial(layer, given), setting) for _ in range(50))
    return Profile(
        what, seconds, counter.get_total_flops(), 2 * rows * narrow * wide / alone, _shares(run)
    )


def _seconds(run: Callable[[], object], setting: Setting) -> float:
    setting.synchronise()
    started = time.perf_counter()
    run()
    setting.synchronise()
    return time.perf_counter() - started


def _shares(run: Callable[[], object]) -> dict[str, float]:
    """Of the processor's time, or of the GPU's where there is one."""
    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as recorded:
        run()
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in recorded.key_averages()
    }
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return {name: time / sum(spent.values()) for name, time in ordered}
