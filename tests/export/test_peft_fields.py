"""Every field of PEFT's LoRA configuration is read, harmless, or refused by its name."""

import json
from dataclasses import fields

import pytest
import torch
from peft import EvaConfig, LoraConfig

from tests.factories.exports import SHORT, features
from tests.factories.foreign import Around, features_around, foreign_peft
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.errors import XcliptError
from xclipt.export.importing import import_delta

HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying"),
    *("eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform"),
    *("loftq_config", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"),
    *("modules_to_save", "peft_version", "qalora_group_size", "revision", "runtime_config"),
    *("target_modules", "task_type"),
}
RANK_STABILISED = {"r": 4, "use_rslora": True}


@pytest.fixture
def backbone(small):
    return small("mclip")


@pytest.fixture
def other(backbone, tmp_path):
    return ArtifactDirectory.open_or_create(tmp_path / "other", backbone.identity)[0]


def set_field(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"init_lora_weights": False},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": "mica"},
        {"init_lora_weights": "eva", "eva_config": EvaConfig()},
        {"lora_dropout": 0.5},
        {"target_modules": r".*layer\.\d\..*(query|key|value|dense)"},
        {"lora_alpha": 6.0},
        RANK_STABILISED,
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else "",
)
def test_what_is_a_plain_lora_in_the_end_gives_pefts_features(backbone, other, tmp_path, settings):
    model = foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs", **settings)
    imported = import_delta(other, tmp_path / "theirs", language="fr")
    torch.testing.assert_close(
        features(backbone, imported.delta, SHORT),
        features_around(backbone, model),
        atol=1e-5,
        rtol=1e-5,
    )


def converted(text: str) -> str:
    return f"'{text}', which changes the base weights; save it again with PEFT's path_initial_model"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_lora_weights": "pissa"}, converted("pissa")),
        ({"init_lora_weights": "pissa_niter_2"}, converted("pissa_niter_2")),
        ({"init_lora_weights": "olora"}, converted("olora")),
        ({"use_rslora": True}, r"lora_alpha is 4 with use_rslora, 5\.65685 without; .* whole"),
        ({"lora_alpha": 2.5}, r"lora_alpha is 2\.5; xclipt takes a whole number"),
        ({"use_dora": True}, "use_dora is True; xclipt takes False"),
        ({"lora_bias": True}, "lora_bias is True; xclipt takes False"),
        ({"bias": "lora_only"}, "bias is 'lora_only'; xclipt takes none"),
        ({"rank_pattern": {"query": 3}}, "rank_pattern is"),
        ({"alpha_pattern": {"query": 3}}, "alpha_pattern is"),
        ({"layer_replication": [[0, 1], [0, 2]]}, r"layer_replication is \[\[0, 1\]"),
        ({"trainable_token_indices": [3]}, r"trainable_token_indices is \[3\]"),
    ],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else "",
)
def test_what_is_more_than_a_plain_lora_is_refused(backbone, other, tmp_path, settings, message):
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs", **settings)
    with pytest.raises(XcliptError, match=r"theirs/adapter_config\.json: .*" + message):
        import_delta(other, tmp_path / "theirs", language="fr")
    assert other.languages() == []


@pytest.mark.parametrize("start", ["corda", "lora_ga", "loftq", "of next year"])
def test_a_start_that_needs_data_is_refused_too(backbone, other, tmp_path, start):
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs")
    set_field(tmp_path / "theirs", init_lora_weights=start)
    remedy = "save it again" if start in ("corda", "lora_ga") else "train it again"
    with pytest.raises(XcliptError, match=f"init_lora_weights is '{start}', which .*{remedy}"):
        import_delta(other, tmp_path / "theirs", language="fr")


@pytest.mark.parametrize("settings", [{}, RANK_STABILISED], ids=["", "stabilised"])
def test_pissa_that_peft_converted_gives_pefts_features(backbone, other, tmp_path, settings):
    folder = tmp_path / "theirs"
    model = foreign_peft(backbone.text_tower.encoder, folder, init_lora_weights="pissa", **settings)
    theirs = features_around(backbone, model)
    model.save_pretrained(
        folder,
        path_initial_model_for_weight_conversion=str(folder / "start"),
        save_embedding_layers=False,
    )
    imported = import_delta(other, folder, language="fr")
    assert imported.delta.manifest.setting["rank"] == 2 * settings.get("r", 2)
    ours = features(backbone, imported.delta, SHORT)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("field", [field.name for field in fields(LoraConfig)])
def test_every_field_of_this_peft_is_known(backbone, other, tmp_path, field):
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs")
    set_field(tmp_path / "theirs", **{field: {"any": "thing"}})
    if field in HARMLESS:
        import_delta(other, tmp_path / "theirs", language="fr")
        return
    with pytest.raises(XcliptError, match=rf"\b{field}\b") as caught:
        import_delta(other, tmp_path / "theirs", language="fr")
    assert "does not know" not in str(caught.value)


def test_a_field_of_the_future_is_refused_where_it_is_set(backbone, other, tmp_path):
    foreign_peft(backbone.text_tower.encoder, tmp_path / "theirs")
    set_field(tmp_path / "theirs", use_magic=True)
    with pytest.raises(XcliptError, match="use_magic is True; this xclipt does not know it, and"):
        import_delta(other, tmp_path / "theirs", language="fr")
    set_field(tmp_path / "theirs", use_magic=False, magic_config=None, magic=[])
    import_delta(other, tmp_path / "theirs", language="fr")


@pytest.mark.parametrize(
    ("format", "holder", "targets", "norms"),
    [
        ("clip", "text_model", ["q_proj", "v_proj"], ["layer_norm1", "layer_norm2"]),
        ("mclip", "transformer", ["query", "value"], ["output.LayerNorm"]),
    ],
)
@pytest.mark.parametrize("train_layernorm", [False, True])
def test_a_lora_on_what_holds_the_encoder(
    small, tmp_path, format, holder, targets, norms, train_layernorm
):
    backbone = small(format)
    other, _ = ArtifactDirectory.open_or_create(tmp_path / "other", backbone.identity)
    model = foreign_peft(
        Around(holder, backbone.text_tower.encoder),
        tmp_path / "theirs",
        target_modules=targets,
        modules_to_save=norms if train_layernorm else None,
    )
    imported = import_delta(other, tmp_path / "theirs", language="fr")
    assert imported.delta.manifest.setting["train_layernorm"] is train_layernorm
    ours = features(backbone, imported.delta, SHORT)
    torch.testing.assert_close(ours, features_around(backbone, model), atol=1e-5, rtol=1e-5)
