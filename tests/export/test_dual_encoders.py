"""Exports on every dual encoder of transformers, and back by the library that each is for."""

import re

import pytest
import torch
from peft import PeftModel
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from tests.factories.deltas import store_shaken
from tests.factories.dual_encoders import DUAL_ENCODERS, documented_texts, write_dual_encoder
from tests.factories.exports import SHORT, features
from tests.factories.models import load
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.opendelta import import_opendelta
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta
from xclipt.export.importing import import_delta

KINDS = [kind for kind in DUAL_ENCODERS if kind != "clip"]
HEAD_WITHIN = ("siglip", "siglip2")
TAKES_EMBEDDINGS = ("altclip", "chinese_clip", "vision-text-dual-encoder")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def folder_of(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            write_dual_encoder(made[kind], kind)
        return made[kind]

    return folder_of


def run_card(export, text_tower):
    """The card's block of Python, with its two names put in: what it makes."""
    (code,) = re.findall(r"```python\n(.*?)```", (export.path / "README.md").read_text(), re.S)
    made = {}
    exec(code.replace('"shaken', f'"{export.path}'), made)
    return made


def pooled(kind, encoder, backbone, **given):
    """The features of what a card's encoder returns, as the card says."""
    with torch.inference_mode():
        output = encoder(**given)
        if kind in HEAD_WITHIN:
            return output.pooler_output
        state = output.pooler_output
        if kind == "chinese_clip":
            state = output.last_hidden_state[:, 0]
        return backbone.text_tower.head(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spec",
    [
        LoraSpec(rank=2),
        LoraSpec(rank=2, modules=ALL_LINEAR, tune_head=True),
        BitFitSpec(tune_head=True),
        FullSpec(),
    ],
    ids=["lora", "all-linear-with-head", "bitfit", "full"],
)
def test_merged_is_the_librarys_own_model(folder_of, tmp_path, kind, spec):
    backbone = load(folder_of(kind))
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    model = AutoModel.from_pretrained(export.path).eval()
    with torch.inference_mode():
        theirs = model.get_text_features(**documented_texts(export.path, kind, SHORT))
    torch.testing.assert_close(theirs.pooler_output, ours, atol=1e-5, rtol=1e-5)
    again = load(export.path)
    torch.testing.assert_close(again.encode_texts(SHORT), ours, atol=1e-5, rtol=1e-5)
    base, merged = (
        {n: t for n, t in one.state_dict().items() if "vision" in n or "visual" in n}
        for one in (AutoModel.from_pretrained(folder_of(kind)), model)
    )
    assert all(torch.equal(merged[name], tensor) for name, tensor in base.items())
    made = run_card(export, "")
    (alone,) = delta.within(backbone).encode_texts(["..."])
    torch.testing.assert_close(made["features"][0], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["peft", "opendelta"])
@pytest.mark.parametrize("modules", ["query-value", "all-linear"])
def test_the_cards_encoder_has_the_features(
    folder_of, tmp_path, monkeypatch, kind, format, modules
):
    opendelta = import_opendelta()
    monkeypatch.setitem(__import__("sys").modules, "opendelta", opendelta)
    backbone = load(folder_of(kind))
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2, modules=modules))
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    encoder = run_card(export, folder_of(kind))["encoder"].eval()
    given = documented_texts(folder_of(kind), kind, SHORT)
    ours = features(backbone, delta, SHORT)
    theirs = pooled(kind, encoder, backbone, **given)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["peft", "opendelta"])
def test_soft_prompts_go_where_vectors_can_be_fed(folder_of, tmp_path, kind, format):
    import_opendelta()
    backbone = load(folder_of(kind))
    delta = store_shaken(tmp_path / "a", backbone, SoftPromptSpec(tokens=2), noise=0.5)
    if kind not in TAKES_EMBEDDINGS:
        with pytest.raises(
            XcliptError, match="feeds vectors to the tower, and this one takes none"
        ):
            export_delta(delta, format, tmp_path / "out", lambda: backbone)
        return
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    encoder = AutoModel.from_pretrained(folder_of(kind)).text_model
    if format == "peft":
        encoder = PeftModel.from_pretrained(encoder, export.path)
    else:
        loader = import_opendelta().AutoDeltaModel
        loader.from_finetuned(str(export.path), backbone_model=encoder)
    ids, mask = backbone.tokenizer.pad(backbone.tokenizer(SHORT), backbone.device)
    ours = features(backbone, delta, SHORT)
    given = {"input_ids": ids[:, 1:], "attention_mask": mask[:, 1:]}
    theirs = pooled(kind, encoder.eval(), backbone, **given)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "b", backbone.identity)
    imported = import_delta(directory, export.path)
    torch.testing.assert_close(imported.delta.tensors(), delta.tensors())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["native", "hub", "peft", "opendelta"])
def test_there_and_back(folder_of, tmp_path, kind, format):
    import_opendelta()
    backbone = load(folder_of(kind))
    delta = store_shaken(tmp_path / "a", backbone, LoraSpec(rank=2, modules=ALL_LINEAR))
    export = export_delta(delta, format, tmp_path / "out", lambda: backbone)
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "b", backbone.identity)
    imported = import_delta(directory, export.path).delta
    assert imported.spec == delta.spec
    assert imported.manifest.weights == delta.manifest.weights


LORA, PROMPT = LoraSpec(rank=2), SoftPromptSpec(tokens=2)
QUICK = ("siglip", LORA)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        pytest.param(
            kind,
            spec,
            marks=() if (kind, spec) == QUICK else pytest.mark.slow,
            id=f"{kind}-{spec.kind}",
        )
        for kind in KINDS
        for spec in (LORA, PROMPT)
    ],
)
def test_onnx_gives_the_same_features_as_its_card_says(folder_of, tmp_path, kind, spec):
    import onnxruntime

    backbone = load(folder_of(kind))
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "onnx", tmp_path / "out", lambda: backbone)
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    limit = int(session.get_modelmeta().custom_metadata_map["max_tokens"])
    fixed = DUAL_ENCODERS[kind].fixed
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask"][: 2 - fixed]
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    options = {"padding": "max_length", "padding_side": "right"} if fixed else {"padding": True}
    tokens = tokenizer(
        SHORT,
        truncation=True,
        max_length=limit,
        return_tensors="np",
        return_token_type_ids=False,
        **options,
    )
    given = {"input_ids": tokens["input_ids"]} if fixed else dict(tokens)
    (theirs,) = session.run(["features"], given)
    torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-4, rtol=1e-4)
    made = run_card(export, "")
    (alone,) = delta.within(backbone).encode_texts(["..."])
    cosine = F.cosine_similarity(torch.from_numpy(made["features"]), alone[None])
    assert cosine > 1 - 1e-4


def test_what_a_format_cannot_hold_is_refused_with_the_reason(folder_of, tmp_path):
    backbone = load(folder_of("siglip2"))
    for spec, format, reason in (
        (AdapterSpec(bottleneck=4), "merged", "cannot be folded into a matrix"),
        (AdapterSpec(bottleneck=4), "peft", "no bottleneck adapters"),
        (SoftPromptSpec(tokens=2), "merged", "no weight of the tower"),
        (LoraSpec(rank=2, tune_head=True), "peft", "text head of its own"),
    ):
        delta = store_shaken(tmp_path / "artifacts", backbone, spec)
        with pytest.raises(XcliptError, match=reason):
            export_delta(delta, format, tmp_path / "out", lambda: backbone)
