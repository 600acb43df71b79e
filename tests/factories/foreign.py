"""LoRAs that PEFT made by itself, and what captions are with them."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.factories.exports import SHORT
from xclipt.backbones.backbone import Backbone


class Around(nn.Module):
    """A model that holds an encoder one level deeper, as CLIP's is in transformers 4."""

    def __init__(self, name: str, encoder: nn.Module) -> None:
        super().__init__()
        self.add_module(name, encoder)

    def forward(self, **inputs: Tensor) -> Any:
        (encoder,) = self.children()
        return encoder(**inputs)


def foreign_peft(encoder: nn.Module, folder: Path, **changes: Any) -> PeftModel:
    """A LoRA on a copy of the encoder, far from where it started, saved to ``folder``.

    Where it started is saved to ``folder/start``.
    """
    settings: dict[str, Any] = {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["query", "value"],
    } | changes
    model: PeftModel = get_peft_model(copy.deepcopy(encoder), LoraConfig(**settings))
    # Left to itself, PEFT asks the hub for the vocabulary's size.
    save = partial(model.save_pretrained, save_embedding_layers=False)
    save(str(folder / "start"))
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    save(str(folder))
    return model.eval()


def features_around(backbone: Backbone, encoder: nn.Module) -> Tensor:
    """The captions' features with another encoder in the tower's place."""
    tower = copy.deepcopy(backbone.text_tower)
    tower.encoder = encoder
    return replace(backbone, text_tower=tower).encode_texts(SHORT)
