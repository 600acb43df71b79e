"""One session serves every delta of a kind, and the pictures: the same features as xclipt's own."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from tokenizers import Tokenizer
from torch.nn import functional as F

from tests.factories.deltas import store_shaken
from tests.factories.dual_encoders import DUAL_ENCODERS, write_dual_encoder
from tests.factories.exports import SHORT, features
from tests.factories.models import load
from xclipt.deltas.adapter import AdapterSpec
from xclipt.deltas.bitfit import BitFitSpec
from xclipt.deltas.compacter import CompacterSpec
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import UsageError, XcliptError
from xclipt.export.formats import export_delta
from xclipt.export.importing import require_importable
from xclipt.files import check_sums

REPOSITORY = Path(__file__).resolve().parents[2]


def session(folder):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx")


def run(texts_session, folder, captions):
    """As the card says."""
    told = json.loads((folder / "delta.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / told["tokenizer"]))
    tokenizer.enable_truncation(told["max_tokens"])
    tokenizer.enable_padding(pad_id=told["pad_id"], length=told["fixed_length"])
    dropped = str.maketrans("", "", told["dropped"])
    texts = [(told["prefix"] + caption).translate(dropped) for caption in captions]
    rows = tokenizer.encode_batch([t.lower() if told["lower_case"] else t for t in texts])
    tokens = {"input_ids": np.array([row.ids for row in rows])}
    if not told["fixed_length"]:
        tokens["attention_mask"] = np.array([row.attention_mask for row in rows])
    tensors = dict(np.load(folder / "delta.npz"))
    (found,) = texts_session.run(["features"], tokens | tensors)
    return torch.from_numpy(found)


def towers(export):
    told = json.loads((export.path / "delta.json").read_text())
    return [(export.path / told[side]).resolve() for side in ("texts", "images")]


QUERIES = ["un chien court", "a black cat", ""]
NO_TORCH = """
import sys
for name in ("torch", "transformers", "xclipt", "safetensors"):
    sys.modules[name] = None
from runpy import run_path
made = run_path(sys.argv[1])
import numpy as np
from pathlib import Path
delta, photos = Path(sys.argv[2]), sorted(Path(sys.argv[3]).iterdir())
np.save(sys.argv[4], np.concatenate([
    made["encode_texts"](["un chien court", "a black cat", ""], delta),
    made["encode_pictures"](photos, delta),
]))
made["main"](sys.argv[3], [str(delta), "chien", str(delta), "chat"])
"""


def follow_example(backbone, delta, tmp_path, photos):
    """The example by itself, in a process that can import no torch"""
    export = export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
    saved, example = tmp_path / "found.npy", REPOSITORY / "examples/onnx_search.py"
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, example, export.path, photos, saved],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours = torch.cat(
        [
            delta.within(backbone).encode_texts([delta.spec.prompted(text) for text in QUERIES]),
            backbone.encode_pictures(sorted(photos.iterdir())),
        ]
    )
    found = torch.from_numpy(np.load(saved))
    torch.testing.assert_close(found, F.normalize(ours, dim=-1), atol=1e-4, rtol=1e-4)
    first, second = done.stdout.splitlines()
    assert first.startswith("chien: ") and second.startswith("chat: ")
    assert done.stdout.count("(") == 6


def photographs(folder):
    """A picture of every sort that is read in its own way: odd sizes, transparent, turned."""
    folder.mkdir()
    drawn = np.random.default_rng(1).integers(0, 256, (9, 14, 3), np.uint8)
    picture = Image.fromarray(drawn).resize((61, 40), Image.Resampling.BICUBIC)
    picture.save(folder / "plain.png")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.png")
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save(folder / "clear.png")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture.save(folder / "turned.jpg", exif=turned)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "spec"),
    [
        ("mclip", LoraSpec(rank=2, tune_head=True, hard_prompt="a photo of")),
        ("clip", LoraSpec(rank=2)),
        ("mclip", AdapterSpec(bottleneck=4)),
        ("mclip", CompacterSpec(reduction=4)),
        ("mclip", BitFitSpec()),
        ("mclip", SoftPromptSpec(tokens=2)),
        ("clip", SoftPromptSpec(tokens=2)),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_two_languages_are_one_session(small, tmp_path, format, spec):
    backbone = small(format)
    french = store_shaken(tmp_path / "artifacts", backbone, spec, noise=0.2)
    german = store_shaken(tmp_path / "artifacts", backbone, spec, "de", "other", noise=0.3)
    first = export_delta(french, "onnx-shared", tmp_path / "out", lambda: backbone)
    texts, images = towers(first)
    written = (texts / "model.onnx").stat().st_mtime_ns
    second = export_delta(german, "onnx-shared", tmp_path / "out", lambda: backbone)
    assert towers(second) == [texts, images]
    assert (texts / "model.onnx").stat().st_mtime_ns == written, "the graph is written once"
    assert {path.parent for path in first.shared} == {texts, images}
    assert first.bytes < 0.5 * (texts / "model.onnx").stat().st_size
    one = session(texts)
    for delta, export in ((french, first), (german, second)):
        ours = features(backbone, delta, [spec.prompted(text) for text in SHORT])
        found = run(one, export.path, SHORT)
        torch.testing.assert_close(found, ours, atol=1e-4, rtol=1e-4)
    if isinstance(spec, SoftPromptSpec):
        assert not (texts / "base").exists(), "a prompt is never the frozen base"
    else:
        frozen = run(one, texts / "base", SHORT)
        torch.testing.assert_close(frozen, backbone.encode_texts(SHORT), atol=1e-4, rtol=1e-4)
    follow_example(backbone, german, tmp_path, photographs(tmp_path / "photos"))
    for folder in (texts, images, first.path, second.path):
        assert check_sums(folder) == ""
    named = re.findall(r"`(\.\./[^`]*)`", (first.path / "README.md").read_text())
    assert {(first.path.parent / name).resolve() for name in named} >= {texts, images}


@pytest.mark.slow
def test_kinds_and_sizes_have_graphs_of_their_own(small, tmp_path):
    backbone = small("mclip")
    out = tmp_path / "out"
    small_lora = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=1))
    large_lora = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), "de")
    one, other = (
        towers(export_delta(delta, "onnx-shared", out, lambda: backbone))
        for delta in (small_lora, large_lora)
    )
    assert one[0] != other[0] and one[1] == other[1]
    with pytest.raises(Exception, match=r"Got invalid dimensions|INVALID_ARGUMENT"):
        run(session(one[0]), out / "de/shaken", SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("family", [*DUAL_ENCODERS])
def test_families(tmp_path, family):
    write_dual_encoder(tmp_path / "model", family)
    backbone = load(tmp_path / "model")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2), noise=0.2)
    if family == "siglip":  # its tokenizer is no tokenizer.json
        with pytest.raises(XcliptError, match="texts are made ready in a way of their own; export"):
            export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
        return
    export = export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
    texts, _ = towers(export)
    found = run(session(texts), export.path, SHORT)
    torch.testing.assert_close(found, features(backbone, delta, SHORT), atol=1e-4, rtol=1e-4)


def test_what_it_cannot_hold_is_refused_with_what_can(small, tmp_path):
    backbone = small("mclip")

    def refused(spec, backbone):
        delta = store_shaken(tmp_path / spec.kind, backbone, spec)
        with pytest.raises(XcliptError) as said:
            export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
        assert not list((tmp_path / "out").rglob("*.onnx"))
        return str(said.value)

    assert "as large as the graph; export shaken as onnx" in refused(FullSpec(), backbone)
    other = replace(backbone, pixels={"interpolation": "bicubic"})
    assert "read in a way of their own; export shaken as onnx" in refused(LoraSpec(), other)
    how = {**backbone.pixels, "image_mean": [0.1, 0.2, 0.3]}
    assert "read in a way of their own" in refused(LoraSpec(), replace(backbone, pixels=how))


def test_texts_that_no_file_describes_are_refused(small, tmp_path):
    backbone = small("mclip")
    backbone = replace(backbone, tokenizer=replace(backbone.tokenizer, clean=lambda t: t[::-1]))
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    with pytest.raises(XcliptError, match="texts are made ready in a way of their own; export sh"):
        export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
    assert not list((tmp_path / "out").glob("towers/texts-*"))


@pytest.mark.slow
def test_a_damaged_graph_is_named(small, tmp_path):
    backbone = small("mclip")
    delta = store_shaken(tmp_path / "artifacts", backbone, LoraSpec(rank=2))
    export = export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)
    texts, _ = towers(export)
    whole = (texts / "model.onnx").read_bytes()
    (texts / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        XcliptError, match=r"model.onnx: onnxruntime cannot load it .*; remove .*te"
    ):
        export_delta(delta, "onnx-shared", tmp_path / "out", lambda: backbone)


def test_it_cannot_be_imported(tmp_path):
    (tmp_path / "delta.json").write_text("{}")
    with pytest.raises(UsageError, match="inputs of an ONNX graph cannot be imported"):
        require_importable(tmp_path)


@pytest.mark.slow
def test_the_example_on_the_builtin_backbone(backbone, tmp_path):
    unwrapped = replace(backbone, image_tower=backbone.image_tower._tower)
    delta = store_shaken(tmp_path / "artifacts", unwrapped, LoraSpec())
    follow_example(unwrapped, delta, tmp_path, photographs(tmp_path / "photos"))
