"""Backbones by name."""

import torch

from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import NAME, load_builtin
from xclipt.errors import XcliptError
from xclipt.progress import Progress


def load_backbone(
    name: str, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Backbone:
    """Load a backbone, frozen and on ``device``.

    Raises:
        XcliptError: There is no such backbone, or its weights are damaged.
    """
    if name == NAME:
        return load_builtin(device, dtype, progress)
    raise XcliptError(f"--backbone {name}: unknown; this version has {NAME}")
