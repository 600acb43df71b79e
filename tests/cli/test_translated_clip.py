"""CLIP's own text tower on translated text: two commands; the first makes the directory."""

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import CLIPModel

from tests.factories.datasets import caption_row, write_captions
from tests.factories.models import load, write_clip
from tests.factories.running import run_xclipt
from tests.factories.tiny import WORDS

POSITIONS = 77  # as OpenAI's
ENGLISH = (
    "a cat runs",
    "a dog sleeps",
    "a dog runs",
    "a cat sleeps " * 30,
    "dog",
    "cat runs a dog",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP, captioned pictures in German, and their translations, a line each."""
    root = tmp_path_factory.mktemp("clip")
    write_clip(root / "clip", positions=POSITIONS)
    (root / "pics/images").mkdir(parents=True)
    rows = []
    for i, word in enumerate(WORDS[: len(ENGLISH)]):
        Image.new("RGB", (8, 8), (40 * i, 255 - 40 * i, 90)).save(root / f"pics/images/{i}.png")
        rows.append(caption_row(f"{i}.png", f"ein {word}"))
    write_captions(root / "pics", "de", *rows)
    (root / "de-en.txt").write_text("\n".join(ENGLISH))
    return root


def xclipt(folder, *arguments):
    return run_xclipt(*arguments, "--artifacts", folder / "clip-artifacts", "--dataset",
                      folder / "pics", "--lang", "de")  # fmt: skip


def test_two_commands_measure_clip_on_translations(folder):
    made = xclipt(
        *(folder, "translate", "--direction", "to-en", "--on-bad", "keep"),
        *("--backbone", folder / "clip", "--file", folder / "de-en.txt"),
    )
    assert made.code == 0 and "clip-artifacts on backbone" in made.err
    run = xclipt(folder, "eval", "--text", "to-en", "--delta", "none", "--json")
    assert run.code == 0
    document = run.json()
    assert document["backbone"]["id"] == str(folder / "clip") and document["mode"] == "image"
    (row,) = document["base_to_en"]
    assert row["text"] == "to-en" and row["n"] == len(ENGLISH)
    assert f"1 of 12 texts do not fit the text tower's {POSITIONS} tokens and are cut" in run.err

    # By transformers' own forward, on ids that are cut so that the end of the text stays.
    model, backbone = CLIPModel.from_pretrained(folder / "clip").eval(), load(folder / "clip")
    features = []
    for text in ENGLISH:
        ids = backbone.tokenizer.tokenizer(text)["input_ids"]
        if len(ids) > POSITIONS:
            ids = [*ids[: POSITIONS - 1], ids[-1]]
        with torch.no_grad():
            pooled = model.text_model(torch.tensor([ids])).pooler_output
            features.append(model.text_projection(pooled)[0])
    pictures = backbone.encode_pictures([folder / f"pics/images/{i}.png" for i in range(6)])
    cosines = F.normalize(torch.stack(features), dim=-1) @ F.normalize(pictures, dim=-1).T
    hits = [100 * (cosines.argmax(way) == torch.arange(6)).float().mean().item() for way in (1, 0)]
    assert [row["t2i"]["R@1"], row["i2t"]["R@1"]] == pytest.approx(hits)
    right = cosines.diagonal()[:, None]
    mrr = (1 / (cosines >= right - 1e-6).sum(1)).mean().item()
    assert row["t2i"]["MRR"] == pytest.approx(mrr, abs=1e-6)


def test_without_the_translations_the_command_is_named(folder):
    missing = folder / "other-artifacts"
    common = ("--dataset", folder / "pics", "--lang", "de", "--artifacts", missing)
    run = run_xclipt("eval", *common, "--backbone", folder / "clip", "--text", "to-en")
    assert run.code == 2 and "make it: `xclipt train-delta" in run.err
    run = run_xclipt("translate", *common, "--backbone", folder / "clip", "--file",
                     folder / "de-en.txt", "--limit", 2)  # fmt: skip
    assert run.code == 0
    run = run_xclipt("eval", *common, "--text", "to-en")
    assert run.code == 1 and "4 of 6 captions have no translation" in run.err
    assert f"--direction to-en --dataset {folder / 'pics'} --artifacts {missing}`" in run.err
