from pathlib import Path

import pytest

from tests.factories.models import load, write_clip, write_mclip_backbone
from tests.factories.tiny import siglip_backbone, tiny_backbone
from xclipt.backbones.backbone import Backbone


@pytest.fixture(params=["bert", "xlm-roberta", "clip", "siglip"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    """A small backbone of every family that deltas are put into."""
    if request.param == "bert":
        return tiny_backbone()
    if request.param == "siglip":
        return siglip_backbone()
    write = write_clip if request.param == "clip" else write_mclip_backbone
    write(tmp_path)
    return load(tmp_path)


@pytest.fixture
def roberta(tmp_path: Path) -> Backbone:
    """A small XLM-R."""
    return load(write_mclip_backbone(tmp_path))
