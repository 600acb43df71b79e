from collections.abc import Callable
from functools import cache, partial

import pytest

from tests.factories.dual_encoders import DUAL_ENCODERS, write_dual_encoder
from tests.factories.models import load, write_mclip_backbone
from tests.factories.open_clip_towers import nllb_backbone, own_transformer_backbone
from tests.factories.sentence_transformers import write_pair
from tests.factories.tiny import tiny_backbone
from xclipt.backbones.backbone import Backbone

_MADE = {
    "bert": tiny_backbone,
    "open-clip": partial(own_transformer_backbone, fixed_length=False),
    "open-clip-fixed-length": partial(own_transformer_backbone, fixed_length=True),
    "nllb": nllb_backbone,
}


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    """A small backbone of a family by name; no test changes it."""

    @cache
    def loaded(name: str) -> Backbone:
        if name in _MADE:
            return _MADE[name]()
        folder = tmp_path_factory.mktemp(name)
        if name == "xlm-roberta":
            return load(write_mclip_backbone(folder))
        if name == "distilbert":
            write_pair(folder)
        else:
            write_dual_encoder(folder, name)
        return load(folder)

    return loaded


@pytest.fixture(params=[*_MADE, "xlm-roberta", "distilbert", *DUAL_ENCODERS])
def small(request: pytest.FixtureRequest, loaded: Callable[[str], Backbone]) -> Backbone:
    """A small backbone of every family that deltas are put into."""
    return loaded(request.param)


@pytest.fixture
def roberta(loaded: Callable[[str], Backbone]) -> Backbone:
    """A small XLM-R."""
    return loaded("xlm-roberta")
