"""Merged towers load as any model of their format does, and are the tower with the delta."""

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CLIPModel,
    PreTrainedConfig,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from tests.factories.deltas import store_shaken
from tests.factories.exports import CAPTIONS, SHORT, features
from tests.factories.models import load, roberta_settings, write_mclip_backbone
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import ALL_LINEAR, LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import XcliptError
from xclipt.export.formats import export_delta


class MCLIPConfig(PreTrainedConfig):
    """As in multilingual-clip 1.0.10."""

    model_type = "M-CLIP"

    def __init__(self, modelBase="xlm-roberta-large", **settings):  # noqa: N803
        self.modelBase = modelBase
        self.transformerDimensions = settings.pop("transformerDimensions", 1024)
        self.numDims = settings.pop("numDims", 768)
        super().__init__(**settings)


class MultilingualCLIP(PreTrainedModel):
    """As in multilingual-clip 1.0.10, but for what keeps that from running on transformers 5: the
    base model is made from its configuration, and ``post_init`` is called."""

    config_class = MCLIPConfig

    def __init__(self, config):
        super().__init__(config)
        self.transformer = AutoModel.from_config(AutoConfig.from_pretrained(config.modelBase))
        self.LinearTransformation = torch.nn.Linear(config.transformerDimensions, config.numDims)
        self.post_init()

    def forward(self, txt, tokenizer):
        txt_tok = tokenizer(txt, padding=True, return_tensors="pt")
        embs = self.transformer(**txt_tok)[0]
        att = txt_tok["attention_mask"]
        embs = (embs * att.unsqueeze(2)).sum(dim=1) / att.sum(dim=1)[:, None]
        return self.LinearTransformation(embs)


SPECS = [
    LoraSpec(rank=2),
    LoraSpec(rank=2, modules=ALL_LINEAR),
    LoraSpec(rank=2, tune_head=True, train_layernorm=False),
    FullSpec(),
]
NAMES = ["lora", "all-linear", "head", "full"]


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_multilingual_clip_loads_it(tmp_path, spec, file):
    base = tmp_path / "base"
    torch.manual_seed(9)
    XLMRobertaModel(XLMRobertaConfig(**roberta_settings())).save_pretrained(base)
    folder = write_mclip_backbone(
        tmp_path / "backbone", settings=roberta_settings(modelBase=str(base)), file=file
    )
    backbone = load(folder)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    model = MultilingualCLIP.from_pretrained(export.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    with torch.inference_mode():
        theirs = model(SHORT, tokenizer)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    # It is a backbone too, once an image tower stands beside it.
    (export.path / "image").symlink_to(folder / "image")
    again = load(export.path)
    torch.testing.assert_close(again.encode_texts(SHORT), ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_transformers_loads_a_clip_with_both_sides(small, tmp_path, spec):
    backbone = small("clip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    model = CLIPModel.from_pretrained(export.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(export.path)
    tokens = tokenizer(SHORT, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        pooled = model.text_model(**tokens).pooler_output
        theirs = model.text_projection(pooled)
        pixels = torch.randn(2, 3, 8, 8)
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
        wanted = backbone.image_tower(pixels)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert torch.equal(seen, wanted)


@pytest.mark.parametrize("prompt", [pytest.param("", marks=pytest.mark.slow), "une photo :"])
def test_sentence_transformers_loads_the_builtin_tower(backbone, tmp_path, prompt):
    from sentence_transformers import SentenceTransformer

    spec = LoraSpec(tune_head=bool(prompt), hard_prompt=prompt)
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    ours = features(backbone, delta, [spec.prompted(caption) for caption in CAPTIONS])
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    assert "2_Dense/config.json" in export.files
    model = SentenceTransformer(str(export.path), device="cpu")
    theirs = model.encode(CAPTIONS, convert_to_tensor=True)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert model.max_seq_length == backbone.tokenizer.max_length
    long = [" ".join(["chien"] * 500)]
    with torch.inference_mode():
        cut = backbone.tokenizer([spec.prompted(long[0])])[0]
    assert (
        len(cut) == model.max_seq_length == len(model.tokenize([prompt + long[0]])["input_ids"][0])
    )


@pytest.mark.parametrize(
    "spec", [AdapterSpec(bottleneck=4), CompacterSpec(reduction=4), SoftPromptSpec()]
)
def test_what_cannot_be_folded_is_refused(small, tmp_path, spec):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, spec)
    with pytest.raises(XcliptError, match=r"format 'merged': .*; export shaken as onnx or native"):
        export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    assert not (tmp_path / "out").exists()


def test_half_precision_checkpoints_become_float32(small, tmp_path):
    backbone = small("mclip")
    folder = tmp_path / "backbone-mclip"
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    half = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
    torch.save(half, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}))
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), noise=0.2)
    ours = features(backbone, delta, SHORT)
    export = export_delta(delta, "merged", tmp_path / "out", lambda: backbone)
    (export.path / "image").symlink_to(folder / "image")
    again = load(export.path)
    torch.testing.assert_close(again.encode_texts(SHORT), ours, atol=1e-5, rtol=1e-5)
    assert json.loads((export.path / "config.json").read_text())["torch_dtype"] == "float32"
