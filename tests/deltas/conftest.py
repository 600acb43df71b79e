from collections.abc import Callable
from functools import cache

import pytest

from tests.factories.dual_encoders import DUAL_ENCODERS, write_dual_encoder
from tests.factories.models import load, write_mclip_backbone
from tests.factories.tiny import tiny_backbone
from xclipt.backbones.backbone import Backbone


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    """A small backbone of a family by name; no test changes it."""

    @cache
    def loaded(name: str) -> Backbone:
        if name == "bert":
            return tiny_backbone()
        folder = tmp_path_factory.mktemp(name)
        if name == "xlm-roberta":
            return load(write_mclip_backbone(folder))
        write_dual_encoder(folder, name)
        return load(folder)

    return loaded


@pytest.fixture(params=["bert", "xlm-roberta", *DUAL_ENCODERS])
def small(request: pytest.FixtureRequest, loaded: Callable[[str], Backbone]) -> Backbone:
    """A small backbone of every family that deltas are put into."""
    return loaded(request.param)


@pytest.fixture
def roberta(loaded: Callable[[str], Backbone]) -> Backbone:
    """A small XLM-R."""
    return loaded("xlm-roberta")
