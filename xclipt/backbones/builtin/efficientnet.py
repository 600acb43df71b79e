"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant drops squeeze-excitation and uses ReLU6).

Module names are those of the published checkpoint, so its state dict loads as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

_HEAD_WIDTH = 1280
_TAPS = (10, 14, 15)
"""Blocks whose outputs are pooled too: the last of the stages 112, 192 and 320 channels wide."""
FEATURES = 112 + 192 + 320 + _HEAD_WIDTH
"""Width of the pooled feature vector."""
IMAGE_SIZE = 224
"""Pixels of a side that the network was trained on."""


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expand: int
    width_in: int
    width_out: int


_STAGES = (
    _Stage(1, 3, 1, 1, 32, 16),
    _Stage(2, 3, 2, 6, 16, 24),
    _Stage(2, 5, 2, 6, 24, 40),
    _Stage(3, 3, 2, 6, 40, 80),
    _Stage(3, 5, 1, 6, 80, 112),
    _Stage(4, 5, 2, 6, 112, 192),
    _Stage(1, 3, 1, 6, 192, 320),
)


class _SamePaddingConv2d(nn.Conv2d):
    """TensorFlow's SAME padding, which at stride 2 pads one more pixel at the end than before."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = input.shape[-2:]
        rows = max((-(-height // stride) - 1) * stride + kernel - height, 0)
        columns = max((-(-width // stride) - 1) * stride + kernel - width, 0)
        if rows % 2 == 0 and columns % 2 == 0:
            padding = (rows // 2, columns // 2)
        else:
            input = F.pad(
                input,
                (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2),
            )
            padding = (0, 0)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, 1, self.groups)


def _turned(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution of a picture that stands on its head and is mirrored.

    There SAME padding puts the odd pixel first, as convolutions with equal padding do at stride 2,
    whose last pixel no window reaches: no copy of the input has to be padded, a fifth of the time
    of the network.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    turned = nn.Conv2d(
        conv.in_channels, conv.out_channels, kernel, stride, kernel // 2, groups=conv.groups
    )
    turned.weight, turned.bias = nn.Parameter(conv.weight.flip(2, 3)), conv.bias
    return turned


def _conv(
    width_in: int, width_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return _SamePaddingConv2d(width_in, width_out, kernel, stride, groups=groups, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class _InvertedResidual(nn.Module):
    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int, expand: int
    ) -> None:
        super().__init__()
        inner = width_in * expand
        self.expands = expand != 1
        self.residual = stride == 1 and width_in == width_out
        if self.expands:
            self._expand_conv = _conv(width_in, inner)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _conv(inner, width_out)
        self._bn2 = _norm(width_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x
        if self.expands:
            out = F.relu6(self._bn0(self._expand_conv(out)), inplace=not self.training)
        out = F.relu6(self._bn1(self._depthwise_conv(out)), inplace=not self.training)
        out = self._bn2(self._project_conv(out))
        if self.residual:
            out = out + x
        return out


class EfficientNetLite0(nn.Module):
    """Pixels ``(batch, 3, height, width)`` scaled to ``[-1, 1)`` -> features ``(batch, 1904)``."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks = []
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                first = repeat == 0
                blocks.append(
                    _InvertedResidual(
                        stage.width_in if first else stage.width_out,
                        stage.width_out,
                        stage.kernel,
                        stage.stride if first else 1,
                        stage.expand,
                    )
                )
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _conv(320, _HEAD_WIDTH)
        self._bn1 = _norm(_HEAD_WIDTH)
        self._fused = False

    def forward(self, pixels: Tensor) -> Tensor:
        """Means over the picture of the outputs of three blocks, then of the last convolution.

        The last convolution alone, as the ImageNet classifier took it, is ``[:, -1280:]``; the
        earlier outputs hold what the classifier had no use for.
        """
        if self._fused:
            pixels = pixels.flip(2, 3)
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        pooled = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in _TAPS:
                pooled.append(x.mean((2, 3)))
        pooled.append(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))
        return torch.cat(pooled, dim=1)

    @torch.no_grad()
    def fuse(self) -> "EfficientNetLite0":
        """Fold every batch norm into the convolution before it, in place; inference only.

        Convolutions are turned (:func:`_turned`), and so is the picture on its way in.
        """
        for owner in self.modules():
            pairs = (
                ("_conv_stem", "_bn0"),
                ("_conv_head", "_bn1"),
                ("_expand_conv", "_bn0"),
                ("_depthwise_conv", "_bn1"),
                ("_project_conv", "_bn2"),
            )
            for conv_name, norm_name in pairs:
                conv, norm = getattr(owner, conv_name, None), getattr(owner, norm_name, None)
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
                    setattr(owner, conv_name, _turned(fused))
                    setattr(owner, norm_name, nn.Identity())
        self._fused = True
        return self
