"""Features are open_clip's own: its folder, its documented use, in every kind of text tower."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.factories.models import load
from tests.open_clip.models import TEXTS, WRITERS, opened, theirs
from xclipt.backbones.open_clip.description import CONFIG, WEIGHTS
from xclipt.backbones.registry import load_backbone
from xclipt.errors import XcliptError
from xclipt.progress import Silent

EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate([(300, 400), (251, 240), (500, 333)]):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        paths.append(tmp_path / f"{number}.png")
        coarse.resize(shape, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.mark.parametrize("kind", WRITERS)
def test_texts_of_mixed_lengths(checkpoints, kind):
    folder, model = checkpoints(kind)
    backbone, expected = load(folder), theirs(model, folder, TEXTS)
    torch.testing.assert_close(backbone.encode_texts(TEXTS), expected, **EXACT)
    alone = torch.cat([backbone.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, expected, **EXACT)
    rows = backbone.tokenizer(TEXTS)
    torch.testing.assert_close(backbone.embed_together(rows), expected, **EXACT)
    assert expected.std(0).mean() > 0.05, "texts differ, and so do their features"


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures(checkpoints, kind, pictures):
    folder, model = checkpoints(kind)
    _, preprocess = opened(folder, folder)
    pixels = torch.stack([preprocess(Image.open(path)) for path in pictures])
    backbone = load(folder)
    assert torch.equal(torch.stack([backbone.read_pixels(path) for path in pictures]), pixels)
    with torch.inference_mode():
        expected = model.encode_image(pixels)
    torch.testing.assert_close(backbone.encode_pictures(pictures), expected, **EXACT)
    assert expected.std(0).mean() > 1e-3


@pytest.mark.parametrize("kind", WRITERS)
def test_bfloat16(checkpoints, kind, pictures):
    folder, model = checkpoints(kind)
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.bfloat16, Silent())
    with torch.autocast("cpu", torch.bfloat16):
        expected = theirs(model, folder, TEXTS).float()
    _require_alike(backbone.encode_texts(TEXTS), expected)
    _require_alike(backbone.encode_texts(TEXTS), theirs(model, folder, TEXTS))
    pixels = torch.stack([backbone.read_pixels(path) for path in pictures])
    with torch.inference_mode():
        _require_alike(backbone.encode_pictures(pictures), model.encode_image(pixels))


def _require_alike(ours, expected):
    ours, expected = (torch.nn.functional.normalize(f, dim=-1) for f in (ours, expected))
    torch.testing.assert_close(ours, expected, atol=1e-2, rtol=0)


def test_nllb_is_told_the_language(checkpoints):
    folder, model = checkpoints("nllb")
    backbone = load(folder)
    for language, code in (("fr", "fra_Latn"), ("zh", "zho_Hans"), ("sw", "swh_Latn")):
        right = theirs(model, folder, TEXTS, code)
        torch.testing.assert_close(backbone.encode_texts(TEXTS, language=language), right, **EXACT)
    english = theirs(model, folder, TEXTS, "eng_Latn")
    torch.testing.assert_close(backbone.encode_texts(TEXTS), english, **EXACT)
    wrong = backbone.encode_texts(TEXTS, language="de")
    assert (wrong - backbone.encode_texts(TEXTS, language="fr")).abs().amin(0).max() > 0.01
    cosines = torch.nn.functional.cosine_similarity(english, wrong)
    assert cosines.max() < 0.9
    # Breton is none of NLLB's languages, and a delta may teach it all the same.
    assert torch.equal(backbone.encode_texts(TEXTS, language="br"), backbone.encode_texts(TEXTS))
    # In one batch, each text its own.
    rows = backbone.tokenizer(TEXTS[:3], ["fr", None, "zh"])
    together = backbone.encode_tokens(rows)
    for i, code in enumerate(("fra_Latn", "eng_Latn", "zho_Hans")):
        torch.testing.assert_close(together[i], theirs(model, folder, TEXTS[:3], code)[i], **EXACT)


def test_padding_to_the_longest_is_not_what_a_tower_of_fixed_length_is_given(checkpoints):
    folder, model = checkpoints("siglip")
    backbone = load(folder)
    rows = backbone.tokenizer(["un chat noir"])
    ids, mask = backbone.tokenizer.pad(rows, backbone.device)
    assert ids.shape[1] == 24 > len(rows[0])
    right = theirs(model, folder, ["un chat noir"])
    torch.testing.assert_close(backbone.text_tower(ids, mask), right, **EXACT)
    with torch.inference_mode():
        short = model.encode_text(ids[:, : len(rows[0])])
    assert torch.nn.functional.cosine_similarity(short, right) < 0.9


@pytest.mark.parametrize("kind", ["nllb", "clip", "mobileclip"])
def test_clips_words_and_those_of_others_are_open_clips(checkpoints, kind):
    folder, _ = checkpoints(kind)
    texts = [
        *TEXTS,
        *("it's 12 o'clock, they'll've gone!?!", "<end_of_text> inside", "naïve café ﬁne ½ Ⅷ"),
        *(
            "\u200b zero\u00a0width \ufeff",
            "🐈‍⬛ and 👩‍👩‍👧",
            "l'été, ça va… «oui»",
            "हिन्दी में बिल्ली",
        ),
        *("ไทย ไม่มีช่องว่าง", "1234567890 3.14", "don&#39;t &lt;b&gt;", "A" * 300, "İstanbul ǅ ß"),
    ]
    import open_clip

    expected = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    ours = load(folder).tokenizer(texts)
    for row, theirs_ in zip(ours, expected.tolist(), strict=True):
        assert row == theirs_[: len(row)]
        assert len({*theirs_[len(row) :]}) <= 1, "padding alone is left"


@pytest.mark.parametrize("kind", ["xlm-roberta", "clip"])
def test_files_of_weights(checkpoints, kind, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoints(kind)[0], folder)
    safe, pickled = (folder / name for name in WEIGHTS)
    expected, weights = load(folder).encode_texts(TEXTS), load_file(safe)
    for dtype in (torch.float16, torch.bfloat16):
        save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, safe)
        backbone = load(folder)
        assert {p.dtype for p in backbone.text_tower.parameters()} == {torch.float32}
        _require_alike(backbone.encode_texts(TEXTS), expected)
    safe.unlink()
    with pytest.raises(XcliptError, match=rf"no weights \({safe.name} or {pickled.name}\)"):
        load(folder)
    torch.save(weights, pickled)
    assert torch.equal(load(folder).encode_texts(TEXTS), expected)
    pickled.write_bytes(pickled.read_bytes()[:1000])
    with pytest.raises(XcliptError, match=rf"{pickled.name}: (is )?damaged"):
        load(folder)


def changed(folder, target, **text):
    """A copy of the folder whose configuration differs."""
    shutil.copytree(folder, target)
    config = json.loads((target / CONFIG).read_text())
    config["model_cfg"]["text_cfg"] |= text
    (target / CONFIG).write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("clip", {"embed_cls": True}, "is a CoCa"),
        ("clip", {"qk_norm": True}, "text_cfg has qk_norm: True, which is not known"),
        ("clip", {"pool_type": "none"}, "pool_type 'none' is not known; first, last, argmax, eos"),
        ("clip", {"width": 32}, "weights do not fit open_clip_config.json, first ln_final.bias"),
        ("clip", {"vocab_size": 300}, "weights do not fit open_clip_config.json, first token_emb"),
        ("clip", {"tokenizer_kwargs": {"reduction_mask": "simple"}}, "has reduction_mask"),
        ("siglip", {"tokenizer_kwargs": {"clean": "all"}}, "clean 'all' is not known; whitespace"),
        ("siglip", {"tokenizer_mode": "clips"}, "tokenizer_mode 'clips' is not known"),
        ("siglip", {"act_kwargs": {"negative_slope": 1}}, "act_kwargs has negative_slope"),
        ("xlm-roberta", {"hf_pooler_type": "max_pooler"}, "hf_pooler_type 'max_pooler' of some"),
        ("xlm-roberta", {"hf_proj_type": "linear"}, "weights do not fit open_clip_config.json"),
        ("xlm-roberta", {"hf_proj_type": "cubic"}, "hf_proj_type 'cubic' is not known"),
        ("nllb", {"hf_pooler_type": "mean_pooler"}, "hf_pooler_type 'mean_pooler' of someone"),
    ],
)
def test_what_is_not_known_is_refused_in_a_line(checkpoints, tmp_path, kind, text, why):
    folder = changed(checkpoints(kind)[0], tmp_path / "changed", **text)
    with pytest.raises(XcliptError) as caught:
        load(folder)
    assert why in str(caught.value) and str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_of_another_kind_is_refused(checkpoints, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoints("nllb")[0], folder)
    weights = load_file(folder / WEIGHTS[0])
    save_file({n.replace("fc1", "wi"): t for n, t in weights.items()}, folder / WEIGHTS[0])
    with pytest.raises(XcliptError, match="no-such-nllb is of no kind that is known: XLM-R"):
        load(folder)


def test_another_models_tokenizer_is_refused(checkpoints, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoints("worldwide")[0], folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(
        XcliptError, match=r"cannot read the tokenizer \(.*put the files of someone/"
    ):
        load(folder)
    for path in checkpoints("nllb")[0].glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    tall = load_file(folder / WEIGHTS[0])
    tall["token_embedding.weight"] = torch.cat([tall["token_embedding.weight"]] * 2).clone()
    save_file(tall, folder / WEIGHTS[0])
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["vocab_size"] *= 2
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(XcliptError, match=r"300 tokens do not fit the .* another model's"):
        load(folder)
