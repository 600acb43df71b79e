from functools import partial
from pathlib import Path

import pytest

from tests.factories.models import load, write_clip, write_mclip_backbone
from tests.factories.open_clip_towers import nllb_backbone, own_transformer_backbone
from tests.factories.tiny import siglip_backbone, tiny_backbone
from xclipt.backbones.backbone import Backbone

_MADE = {
    "bert": tiny_backbone,
    "siglip": siglip_backbone,
    "open-clip": partial(own_transformer_backbone, fixed_length=False),
    "open-clip-fixed-length": partial(own_transformer_backbone, fixed_length=True),
    "nllb": nllb_backbone,
}
_WRITTEN = {"clip": write_clip, "xlm-roberta": write_mclip_backbone}


@pytest.fixture(params=[*_MADE, *_WRITTEN])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    """A small backbone of every family that deltas are put into."""
    if request.param in _MADE:
        return _MADE[request.param]()
    _WRITTEN[request.param](tmp_path)
    return load(tmp_path)


@pytest.fixture
def roberta(tmp_path: Path) -> Backbone:
    """A small XLM-R."""
    return load(write_mclip_backbone(tmp_path))
