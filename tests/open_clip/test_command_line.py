"""Every command on a small checkpoint of each type, and what other libraries make of exports."""

import os
import re
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from open_clip.tokenizer import get_clean_fn
from peft import PeftModel
from transformers import AutoTokenizer

from tests.conftest import REPOSITORY
from tests.factories.models import load
from tests.factories.running import run_xclipt
from tests.open_clip.models import opened, theirs
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.text_tower import Pooling
from xclipt.model import Model
from xclipt.workspace import open_workspace

KINDS = ("xlm-roberta", "nllb", "clip", "siglip")
DELTAS = {
    "lora": ("--delta", "lora", "--rank", 2),
    "lora-all-linear": ("--delta", "lora", "--rank", 2, "--modules", "all-linear"),
    "adapter": ("--delta", "adapter", "--bottleneck", 4),
    "compacter": ("--delta", "compacter", "--reduction", 4),
    "soft-prompt": ("--delta", "soft-prompt", "--tokens", 3),
    "head": ("--delta", "lora", "--rank", 2, "--tune", "head"),
}
TEXTS = ["un chat noir dort", "Deux chiens, un grand &amp; un petit !", "", "une femme " * 40]
FLORES = {"fr": "fra_Latn", "zh": "zho_Hans"}

# Flickr8k's real photographs where they are, else pictures that are embedded.
_FLICKR = Path(os.environ.get("XCLIPT_DATA", REPOSITORY.parent / "shared/data")) / "flickr8k"
DATASET, LANGUAGE = (_FLICKR, "zh") if _FLICKR.is_dir() else ("emoji", "fr")


def run(*arguments):
    done = run_xclipt(*arguments, "--json")
    assert done.code == 0, done.err
    return done.json()


@pytest.fixture(scope="module", params=KINDS)
def trained(request, checkpoints, tmp_path_factory):
    """The kind, its folder and model, and an artifact directory with a delta of every kind."""
    folder, model = checkpoints(request.param)
    artifacts = tmp_path_factory.mktemp(f"{request.param}-artifacts")
    for name, arguments in DELTAS.items():
        document = run(
            *("train-delta", "--backbone", folder, "--artifacts", artifacts, "--lang", LANGUAGE),
            *("--dataset", DATASET, "--shots", 10, "--validate-on", 8, "--epochs", 2),
            *("--name", name, "--learning-rate", 0.02, "--even-if-worse", *arguments),
        )
        (delta,) = document["deltas"]
        assert delta["name"] == name and delta["steps"] > 0
    return request.param, folder, model, artifacts


def delta_of(artifacts, name):
    return ArtifactDirectory.open(artifacts).delta(LANGUAGE, name)


def test_a_dry_run_counts_what_is_trained(trained, tmp_path):
    _, folder, _, artifacts = trained
    for name, arguments in DELTAS.items():
        document = run(
            *("train-delta", "--backbone", folder, "--lang", LANGUAGE, "--dry-run", *arguments),
            *("--artifacts", tmp_path),
        )
        (planned,) = document["deltas"]
        manifest = delta_of(artifacts, name).manifest
        assert planned["trainable_parameters"] == manifest.weights.parameters
        assert planned["backbone_parameters"] == manifest.backbone_parameters


def test_eval_search_and_verify(trained, tmp_path, make_picture):
    _, _, _, artifacts = trained
    for name in DELTAS:
        document = run(
            *("eval", "--dataset", DATASET, "--lang", LANGUAGE, "--delta", name),
            *("--limit", 12, "--artifacts", artifacts),
        )
        assert [row["delta"] for row in document["rows"]] == [None, name]
        assert document["mode"] == "image"
    for i, colour in enumerate(("red", "green", "blue")):
        make_picture(tmp_path / "pictures" / f"{i}.png", colour, (50, 40))
    found = run(
        *("search", "un chat noir", "--images", tmp_path / "pictures", "--lang", LANGUAGE),
        *("--top", 2, "--artifacts", artifacts),
    )
    assert len(found["queries"][0]["results"]) == 2
    run("verify", "--artifacts", artifacts)


def test_deltas_are_hot_swapped_to_the_bit_and_mixed_in_a_batch(trained):
    _, folder, _, artifacts = trained
    model = Model(open_workspace(artifacts))
    directory = model.workspace.directory
    one = {}
    for name in DELTAS:
        directory.set_current(LANGUAGE, name)
        model.refresh()
        one[name] = model.encode_text(TEXTS, LANGUAGE)
    for name in reversed(DELTAS):
        directory.set_current(LANGUAGE, name)
        model.refresh()
        assert (model.encode_text(TEXTS, LANGUAGE) == one[name]).all()
    base = load(folder).encode_texts(TEXTS, language="en")
    mixed = model.encode_text(TEXTS * 2, [*[LANGUAGE] * 4, *["en"] * 4])
    assert mixed[:4] == pytest.approx(one[name], abs=1e-5)
    assert mixed[4:] == pytest.approx(torch.nn.functional.normalize(base).numpy(), abs=1e-5)


def test_native_and_hub_come_back(trained, tmp_path):
    _, folder, _, artifacts = trained
    for form in ("native", "hub"):
        again = tmp_path / form / "again"
        for name in DELTAS:
            (export,) = exported(artifacts, name, form, tmp_path)
            back = run(
                *("import-delta", export["path"], "--artifacts", again, "--backbone", folder),
            )
            assert back["delta"]["name"] == name
            theirs, ours = (delta_of(root, name).tensors() for root in (again, artifacts))
            assert theirs.keys() == ours.keys()
            assert all(torch.equal(theirs[n], tensor) for n, tensor in ours.items())
        run("verify", "--artifacts", again)


def exported(artifacts, name, form, out):
    return run(
        *("export-delta", "--lang", LANGUAGE, "--delta", name, "--format", form),
        *("--out", out / form / name, "--artifacts", artifacts),
    )["exports"]


def refused(artifacts, name, form, out, why):
    done = run_xclipt(
        *("export-delta", "--lang", LANGUAGE, "--delta", name, "--format", form),
        *("--out", out / form / name, "--artifacts", artifacts),
    )
    assert done.code != 0 and why in done.err and len(done.err.strip().splitlines()) == 1, done.err


def ours(folder, artifacts, name):
    backbone = load(folder)
    adapted = delta_of(artifacts, name).within(backbone)
    features = adapted.encode_texts(TEXTS, language=LANGUAGE)
    assert (features - backbone.encode_texts(TEXTS, language=LANGUAGE)).abs().max() > 1e-3
    return features


@pytest.mark.parametrize("name", ["lora", "lora-all-linear", "head"])
def test_merged_is_a_model_of_open_clips(trained, tmp_path, name):
    kind, folder, published, artifacts = trained
    (export,) = exported(artifacts, name, "merged", tmp_path)
    merged = Path(export["path"])
    model, _ = opened(merged, folder)
    told = FLORES[LANGUAGE] if kind == "nllb" else None
    expected = ours(folder, artifacts, name)
    torch.testing.assert_close(theirs(model, merged, TEXTS, told), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        load(merged).encode_texts(TEXTS, language=LANGUAGE), expected, atol=1e-5, rtol=1e-4
    )
    before, after = published.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    image = [n for n in before if n.startswith("visual.") or "logit" in n]
    assert all(torch.equal(before[n], after[n]) for n in image)


def test_merged_has_no_place_for_what_bends(trained, tmp_path):
    for name, why in (
        ("adapter", "an adapter bends its input"),
        ("compacter", "a compacter bends its input"),
        ("soft-prompt", "a soft prompt is no weight"),
    ):
        refused(trained[3], name, "merged", tmp_path, why)


@pytest.mark.parametrize("name", ["lora", "lora-all-linear"])
def test_peft_puts_a_lora_into_the_encoder(trained, tmp_path, name):
    kind, folder, _, artifacts = trained
    (export,) = exported(artifacts, name, "peft", tmp_path)
    backbone = load(folder)
    tower = backbone.text_tower
    encoder = tower.encoder
    if kind in ("xlm-roberta", "nllb"):
        encoder = opened(folder, folder)[0].text.transformer
    model = PeftModel.from_pretrained(encoder, export["path"]).eval()
    rows = backbone.tokenizer(TEXTS, LANGUAGE)
    ids, mask = backbone.tokenizer.pad(rows, backbone.device)
    with torch.inference_mode():
        output = model(input_ids=ids, **({"attention_mask": mask} if tower.masked else {}))
        if tower.pooling is Pooling.OWN:
            state = output.pooler_output
        elif tower.pooling is Pooling.FIRST:
            state = output.last_hidden_state[:, 0]
        else:
            state = (output.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        features = tower.head(state)
    expected = ours(folder, artifacts, name)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    again = tmp_path / "again"
    run("import-delta", export["path"], "--artifacts", again, "--backbone", folder)
    back = delta_of(again, name).tensors()
    assert all(torch.equal(back[n], t) for n, t in delta_of(artifacts, name).tensors().items())


def test_peft_runs_as_its_card_says(trained, tmp_path, make_picture, monkeypatch):
    kind, folder, _, artifacts = trained
    (export,) = exported(artifacts, "lora", "peft", tmp_path)
    if kind in ("xlm-roberta", "nllb"):  # whose encoder's configuration is not on the hub
        model, _ = opened(folder, folder)
        known = {f"local-dir:{folder}": model}
        monkeypatch.setattr(open_clip, "create_model", known.__getitem__)
    made, place = {}, Path(export["path"]).parent
    make_picture(place / "photos" / "0.jpg")
    monkeypatch.chdir(place)
    (code,) = re.findall(r"```python\n(.*?)```", (place / "lora/README.md").read_text(), re.S)
    exec(code, made)
    adapted = delta_of(artifacts, "lora").within(load(folder))
    expected = adapted.encode_texts(["..."], language=LANGUAGE)
    torch.testing.assert_close(made["features"], expected, atol=1e-5, rtol=1e-4)


def test_peft_has_no_place_for_others(trained, tmp_path):
    kind, _, _, artifacts = trained
    reasons = {
        "adapter": "PEFT has no bottleneck adapters",
        "compacter": "PEFT has no compacters",
        "head": "has a text head of its own",
    }
    if kind in ("clip", "siglip"):
        reasons["soft-prompt"] = "it feeds vectors to the tower, and this one takes none"
    for name, why in reasons.items():
        refused(artifacts, name, "peft", tmp_path, why)


def test_peft_puts_a_soft_prompt_before_the_text(trained, tmp_path):
    kind, folder, _, artifacts = trained
    if kind in ("clip", "siglip"):
        return
    (export,) = exported(artifacts, "soft-prompt", "peft", tmp_path)
    backbone = load(folder)
    model = PeftModel.from_pretrained(opened(folder, folder)[0].text.transformer, export["path"])
    rows = backbone.tokenizer(TEXTS, LANGUAGE)
    ids, mask = backbone.tokenizer.pad(rows, backbone.device)
    with torch.inference_mode():
        hidden = model.eval()(input_ids=ids[:, 1:], attention_mask=mask[:, 1:]).last_hidden_state
        state = hidden[:, 0]
        if kind == "xlm-roberta":
            whole = torch.cat([mask[:, :1].expand(-1, 4), mask[:, 1:]], dim=1)[..., None]
            state = (hidden * whole).sum(1) / whole.sum(1)
        features = backbone.text_tower.head(state)
    expected = ours(folder, artifacts, "soft-prompt")
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    again = tmp_path / "again"
    run("import-delta", export["path"], "--artifacts", again, "--backbone", folder)
    (back,) = delta_of(again, "soft-prompt").tensors().values()
    (own,) = delta_of(artifacts, "soft-prompt").tensors().values()
    assert torch.equal(back, own)


@pytest.mark.parametrize("name", [name for name in DELTAS if name != "lora-all-linear"])
def test_onnx_runs_as_its_card_says(trained, tmp_path, name):
    kind, folder, _, artifacts = trained
    (export,) = exported(artifacts, name, "onnx", tmp_path)
    session = onnxruntime.InferenceSession(Path(export["path"]) / "model.onnx")
    limit = int(session.get_modelmeta().custom_metadata_map["max_tokens"])
    card = (Path(export["path"]) / "README.md").read_text()
    (cleaning,) = [c for c in ("whitespace", "lower", "canonicalize") if f'_fn("{c}")' in card]
    tokenizer = AutoTokenizer.from_pretrained(export["path"])
    fixed = kind == "siglip"
    tokens = tokenizer(
        [get_clean_fn(cleaning)(text) for text in TEXTS],
        padding="max_length" if fixed else True,
        **{"padding_side": "right", "truncation": True, "max_length": limit},
        **{"return_tensors": "np", "return_token_type_ids": False},
    )
    given = {"input_ids": tokens["input_ids"]} if fixed else dict(tokens)
    (features,) = session.run(["features"], given)
    expected = ours(folder, artifacts, name).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4 * abs(expected).max())
