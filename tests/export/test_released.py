"""A checkpoint of the paper's released code becomes a delta with the features that it had there."""

import copy

import pytest
import torch
from torch import nn

from tests.factories.exports import SHORT
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.opendelta import import_opendelta
from xclipt.errors import XcliptError
from xclipt.export.importing import import_delta

SCRIPTS = ["query", "key", "value", "attention.output.dense"]
AFTER = ["attention.output.dense", "output.dense"]
KINDS = {
    "run_cross": ({"delta_type": "lora", "lora_r": 1, "modified_modules": SCRIPTS}, True),
    "lora": ({"delta_type": "lora", "lora_r": 8, "modified_modules": ["query", "value"]}, False),
    "adapter": (
        {"delta_type": "adapter", "bottleneck_dim": 24, "modified_modules": AFTER},
        False,
    ),
    "compacter": (
        {"delta_type": "compacter", "reduction_factor": 2, "modified_modules": AFTER},
        False,
    ),
}


@pytest.fixture
def backbone(small):
    return small("mclip")


@pytest.fixture
def directory(backbone, tmp_path):
    return ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)[0]


class TextModel(nn.Module):
    """M-CLIP as its checkpoints name it."""

    def __init__(self, tower):
        super().__init__()
        self.transformer = copy.deepcopy(tower.encoder).requires_grad_(True)
        self.LinearTransformation = copy.deepcopy(tower.head).requires_grad_(True)


def shake_and_save(model, path):
    """As the released trainer saves: everything unfrozen, by name."""
    generator = torch.Generator().manual_seed(1)
    saved = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            saved[name] = parameter.detach().clone()
    path.parent.mkdir()
    torch.save(saved, path)


def featured(backbone, model):
    tower = copy.deepcopy(backbone.text_tower)
    tower.encoder, tower.head = model.transformer.eval(), model.LinearTransformation
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), torch.device("cpu"))
    with torch.inference_mode():
        return tower(ids, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_deltas(backbone, directory, tmp_path, kind):
    config, head = KINDS[kind]
    opendelta = import_opendelta()
    model = TextModel(backbone.text_tower)
    inner = model if head else model.transformer
    delta = opendelta.AutoDeltaModel.from_config(
        opendelta.AutoDeltaConfig.from_dict(config), backbone_model=inner
    )
    unfrozen = ["deltas", "output.LayerNorm"] + (["LinearTransformation", "pooler"] if head else [])
    delta.freeze_module(exclude=unfrozen)
    if not head:
        model.LinearTransformation.requires_grad_(False)
    path = tmp_path / "lora-fr" / "text_model_best.ckpt"
    shake_and_save(model, path)
    imported = import_delta(directory, path, language="fr")
    assert imported.delta.manifest.name == "lora-fr" and imported.format == "released"
    assert imported.delta.spec.tune_head is head and imported.delta.spec.train_layernorm
    ours = imported.delta.within(backbone).encode_texts(SHORT)
    torch.testing.assert_close(ours, featured(backbone, model), atol=1e-5, rtol=1e-5)


def test_the_whole_text_model(backbone, directory, tmp_path):
    model = TextModel(backbone.text_tower)
    shake_and_save(model, tmp_path / "all" / "text_model_best.ckpt")
    imported = import_delta(directory, tmp_path / "all/text_model_best.ckpt", language="fr")
    assert imported.delta.manifest.kind == "full-finetune"
    ours = imported.delta.within(backbone).encode_texts(SHORT)
    torch.testing.assert_close(ours, featured(backbone, model), atol=1e-5, rtol=1e-5)


def test_a_prompt(backbone, directory, tmp_path):
    path = tmp_path / "prompt" / "text_model_best.ckpt"
    path.parent.mkdir()
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    torch.save({"transformer.soft_prompt_layer.soft_embeds": vectors}, path)
    imported = import_delta(directory, path, language="fr", text="to-en")
    assert imported.delta.manifest.text == "to-en"
    spec = imported.delta.spec
    assert (spec.kind, spec.tokens, spec.train_layernorm) == ("soft-prompt", 3, False)
    (stored,) = imported.delta.tensors().values()
    assert torch.equal(stored, vectors)


def test_what_the_file_does_not_say_is_the_users_word(backbone, directory, tmp_path):
    a, b = torch.randn(1, 16), torch.randn(16, 1)
    layers = backbone.text_tower.encoder.config.num_hidden_layers
    path = tmp_path / "lora" / "text_model_best.ckpt"
    path.parent.mkdir()
    torch.save(
        {
            f"transformer.encoder.layer.{i}.attention.self.query.lora.lora_{part}": value
            for i in range(layers)
            for part, value in (("A", a), ("B", b))
        },
        path,
    )
    with pytest.raises(XcliptError, match="give `language=LANG` if you know"):
        import_delta(directory, path)
    imported = import_delta(directory, path, language="fr", alpha=4, name="small")
    assert imported.delta.spec.alpha == 4
    assert import_delta(directory, path, language="fr").delta.spec.alpha == 16


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"model.lora_A": torch.ones(1)}, "'model.lora_A' is no name in this backbone's"),
        ({"epoch": 3}, "not a mapping of names to tensors"),
        ([torch.ones(1)], "not a mapping of names to tensors"),
    ],
)
def test_what_is_no_such_checkpoint(directory, tmp_path, saved, message):
    path = tmp_path / "text_model_best.ckpt"
    torch.save(saved, path)
    with pytest.raises(XcliptError, match=message):
        import_delta(directory, path, language="fr")
    assert directory.languages() == []
