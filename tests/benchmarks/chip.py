"""How much of a chip's own speed training and encoding reach, on text towers of full size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.material import BFLOAT16, builtin
from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    Target,
    at_least,
    interleaved,
)
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec

PEAKS = {"H100": 989e12, "H200": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12}
"""Dense bfloat16 operations a second by the name of the chip, as its maker gives them."""
FULL_SIZE = {
    "M-CLIP-large": "mclip-l14",
    "SigLIP 2 So400m": "google/siglip2-so400m-patch14-384",
    "XLM-R-H": "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
}
_LENGTH = 64
_PRODUCT = "the largest product"


def utilisation(setting: Setting) -> Measured:
    """Share of the chip's bfloat16 speed; on a processor that of the builtin tower alone."""
    own = builtin(setting.device, BFLOAT16)
    if setting.device.type != "cuda":
        return Measured((*_shares(setting, "builtin", own, setting.size(64, least=4)),))
    figures: list[Figure] = []
    for name, known in FULL_SIZE.items():
        tower = _random_tower(known, setting.device)
        backbone = replace(own, text_tower=tower)
        texts = setting.size(4096, least=4)
        figures += _shares(setting, name, backbone, texts, (at_least(0.4), at_least(0.5)))
        del tower, backbone
        torch.cuda.empty_cache()
    return Measured(tuple(figures))


def _shares(
    setting: Setting,
    name: str,
    backbone: Backbone,
    texts: int,
    targets: tuple[Target | None, Target | None] = (None, None),
) -> Iterator[Figure]:
    rows = torch.randint(5, 1000, (texts, _LENGTH)).tolist()
    delta = AdaptedTower(backbone.text_tower, LoraSpec())
    backbone = replace(backbone, dim=_dim(backbone, rows[:1]))
    adapted = delta.within(backbone)

    def train() -> None:
        for start in range(0, texts, 256):
            adapted.embed_tokens(rows[start : start + 256]).sum().backward()
        for parameter in delta.parameters():
            parameter.grad = None

    def encode() -> None:
        backbone.encode_tokens(rows)

    size = 8192 if setting.device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=setting.device, dtype=BFLOAT16)
    told = [peak for chip, peak in PEAKS.items() if chip in _chip(setting)]
    candidates: dict[str, Callable[[], object]] = {
        f"{name}, training": train,
        f"{name}, encoding": encode,
        _PRODUCT: lambda: matrix @ matrix,
    }
    taken = interleaved(candidates, setting)
    speed = {what: _operations(run) / taken.median(what) for what, run in candidates.items()}
    peak, against = speed[_PRODUCT], f"a product of {size} x {size}"
    if told:
        peak, against = told[0], "the chip's bfloat16 peak"
    for what, target in zip([*candidates][:2], targets, strict=True):
        remark = (
            f"{speed[what] / 1e12:.3g} TFLOP/s of {peak / 1e12:.3g}; {texts:,} texts of {_LENGTH}"
        )
        yield Figure(what, against, speed[what] / peak, target=target, remark=remark)


def _operations(run: Callable[[], object]) -> int:
    """Floating-point operations of products of matrices, attention's among them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _dim(backbone: Backbone, rows: Sequence[list[int]]) -> int:
    with torch.inference_mode():
        ids = torch.tensor(rows, device=backbone.device)
        return int(backbone.text_tower(ids, torch.ones_like(ids)).shape[-1])


def _random_tower(name: str, device: torch.device) -> TextTower:
    tower = blueprint(name).text_tower.to_empty(device=device)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(std=0.02)
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for place, buffer in tower.named_buffers():
        positions = place.endswith("position_ids")
        buffer.copy_(torch.arange(buffer.shape[-1]) if positions else torch.zeros(()))
    return tower


def _chip(setting: Setting) -> str:
    return torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else ""


ROWS = (Row("chip", "the share of the chip's speed that a text tower reaches", utilisation),)
