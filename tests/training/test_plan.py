"""The plan of a training is what the training then makes."""

import pytest
import torch
from safetensors.torch import save

from tests.deltas.test_kinds import SPECS
from tests.models import write_mclip_backbone
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.injection import InjectedDelta
from xclipt.progress import Silent
from xclipt.training.plan import plan, safetensors_bytes
from xclipt.training.train import TrainingRequest
from xclipt.training.train_start import STRUCTURE


@pytest.mark.parametrize("name", SPECS)
def test_the_plan_is_the_file(tmp_path, name):
    write_mclip_backbone(tmp_path)
    (planned,) = plan(str(tmp_path), [TrainingRequest(language="fr", spec=SPECS[name])])
    backbone = load_backbone(str(tmp_path), torch.device("cpu"), torch.float32, Silent())
    delta = InjectedDelta(backbone.text_tower, SPECS[name], "bert", 0, backbone.tokenizer)
    assert planned.trainable_parameters == delta.trainable_parameters
    assert planned.backbone_parameters == backbone.text_parameters
    assert planned.bytes == len(save(delta.tensors()))
    assert planned.tensor_bytes == 4 * delta.trainable_parameters


def test_the_builtin_backbone_is_planned_as_it_is_loaded(backbone):
    (planned,) = plan("builtin", [TrainingRequest(language="fr", shots=10)])
    assert planned.backbone_parameters == backbone.text_parameters
    assert planned.trainable_parameters == 184_320
    delta = InjectedDelta(backbone.text_tower, STRUCTURE, "bert")
    assert planned.bytes == len(save(delta.tensors()))
    delta.remove()


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_bytes_of_safetensors(count):
    shapes = {f"tensor.{i}.é": (i % 3 + 1, 5) for i in range(count)}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    assert safetensors_bytes(shapes) == len(save(tensors))
