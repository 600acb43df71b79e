"""The plan of a training is what the training then makes."""

import pytest
import torch
from safetensors.torch import save

from tests.factories.models import load, write_mclip_backbone
from tests.factories.specs import SPECS
from xclipt.alignment.build import AlignmentRequest
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.deltas.adapted import AdaptedTower
from xclipt.training.plan import plan, safetensors_bytes
from xclipt.training.request import TrainingRequest


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load(write_mclip_backbone(tmp_path_factory.mktemp("backbone")))


@pytest.mark.parametrize("name", SPECS)
def test_the_plan_is_the_file(small, name):
    request = TrainingRequest(AlignmentRequest("fr"), SPECS[name])
    (planned,) = plan(small.identity.id, [request], "emoji")
    delta = AdaptedTower(small.text_tower, SPECS[name], 0, small.tokenizer)
    assert planned.trainable_parameters == delta.trainable_parameters
    assert planned.backbone_parameters == small.text_parameters
    assert planned.bytes == len(save(delta.tensors()))
    assert planned.tensor_bytes == 4 * delta.trainable_parameters


def test_the_builtin_backbone_is_planned_as_it_is_loaded(backbone):
    (planned,) = plan("builtin", [TrainingRequest(AlignmentRequest("fr", shots=10))], "emoji")
    assert planned.backbone_parameters == backbone.text_parameters
    assert planned.trainable_parameters == 184_320
    assert (planned.name, planned.steps) == ("lora-10shot-seed1", 20)
    delta = AdaptedTower(backbone.text_tower, WARM_START_SPEC)
    assert planned.bytes == len(save(delta.tensors()))


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_bytes_of_safetensors(count):
    shapes = {f"tensor.{i}.é": (i % 3 + 1, 5) for i in range(count)}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    assert safetensors_bytes(shapes) == len(save(tensors))
