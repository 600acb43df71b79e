"""Every routine from the command line: align, train-delta and eval on translations that are known.

The "machine translation" of a French emoji name is the English name of the same picture with a word
before it, so that each text tells which of the two it is.
"""

import json

import pytest
import yaml

from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.translation.store import Translation, TranslationStore, Translator

TO_EN = Translator("file", "names-to-en", "1")
FROM_EN = Translator("file", "names-from-en", "1")
FEW = ("--shots", "4", "--epochs", "1", "--validate-on", "8", "--even-if-worse")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, backbone):
    root = tmp_path_factory.mktemp("routines") / "artifacts"
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    emoji = EmojiDataset()
    english = {p.image: p.captions[0] for p in emoji.captions("en", None)}
    pairs = [(p.captions[0], english[p.image]) for p in emoji.captions("fr", None)]
    to_en, from_en = dict(pairs), {english: french for french, english in pairs}
    TranslationStore(directory, TO_EN, "fr", "en").add(
        [Translation(french, f"the {name}") for french, name in to_en.items()]
    )
    TranslationStore(directory, FROM_EN, "en", "fr").add(
        [Translation(name, f"le {french}") for name, french in from_en.items()]
    )
    return root


@pytest.fixture(scope="module")
def trained(artifacts):
    """Manifests by routine."""
    manifests = {}
    for name, more in (
        ("2", ("--routine", "2")),
        ("baseline 2", ("--routine", "none", "--text", "to-en")),
        ("3", ("--routine", "3", "--align-loss", "image")),
    ):
        run = run_xclipt("train-delta", "--lang", "fr", *FEW, *more, "--artifacts", artifacts)
        assert run.code == 0, run.err
        manifests[name] = ArtifactDirectory.open(artifacts).current("fr").manifest
    return manifests


def test_the_manifest_says_what_inference_needs(trained):
    names = {key: manifest.name for key, manifest in trained.items()}
    assert names == {
        "2": "lora-4shot-routine2-seed1",
        "baseline 2": "lora-4shot-unaligned-to-en-seed1",
        "3": "lora-4shot-routine3-seed1",
    }
    told = {key: (m.routine, m.text, m.translator["model"]) for key, m in trained.items()}
    assert told == {
        "2": (2, "target", "names-from-en"),
        "baseline 2": (None, "to-en", "names-to-en"),
        "3": (3, "to-en", "names-to-en"),
    }
    assert trained["3"].recipe["teacher"] == "live"
    # Validation text is translated too: the frozen base is another one than on the French names.
    base = {key: manifest.validation["base_MRR"] for key, manifest in trained.items()}
    assert base["3"] == base["baseline 2"] != base["2"]


def test_align_makes_the_pairs_that_training_takes(trained, artifacts, tmp_path):
    for routine in ("2", "3"):
        run = run_xclipt(
            *("align", "--lang", "fr", "--routine", routine, "--shots", "4", "--json"),
            *("--artifacts", artifacts, "--plot", tmp_path / "gap.svg"),
        )
        assert run.code == 0, run.err
        (row,) = run.json()["rows"]
        assert row["sha256"] == trained[routine].data.alignment_sha256
        folder = artifacts / "alignments/fr" / f"emoji-train-routine{routine}-4shot-seed1"
        assert row["path"] == str(folder)
        manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
        assert manifest["translator"] == trained[routine].translator
        lines = (folder / manifest["pairs"]["file"]).read_text().splitlines()
        pairs = [json.loads(line) for line in lines]
        assert len(pairs) == 4 == manifest["pairs"]["count"] == row["pairs"]
        for pair in pairs:
            if routine == "2":
                assert pair["partner"] == f"le {pair['text']}"
            else:
                assert pair["text"] == f"the {pair['partner']}"
        assert 0 < row["cosine"] < 1 and row["mse"] > 0
        assert run.json()["english"]["partner"] == "itself"
    assert (tmp_path / "gap.svg").read_text().lstrip().startswith("<?xml")


def test_eval_gives_a_delta_for_translated_text_translated_text(trained, artifacts):
    common = ("eval", "--lang", "en,fr", "--limit", "40", "--artifacts", artifacts, "--json")
    document = run_xclipt(*common).json()
    rows = [(row["language"], row["delta"], row["text"]) for row in document["rows"]]
    delta = "lora-4shot-routine3-seed1"
    assert rows == [("en", None, "target"), ("fr", None, "target"), ("fr", delta, "to-en")]
    assert document["rows"][2]["translator"] == TO_EN.name
    (base,) = document["base_to_en"]
    assert base["text"] == "to-en" and base["delta"] is None
    # Four shots hardly move the tower: the delta is where the base on the same text is.
    assert abs(document["rows"][2]["mean_R@1"] - base["mean_R@1"]) < 15
    (pair,) = document["pairs"]
    assert (pair["delta"], pair["against"]) == (delta, "base to-en")
    # `--delta none --text to-en` is that base alone; disparity stays that of the text as it is.
    alone = run_xclipt(*common, "--delta", "none", "--text", "to-en").json()
    assert alone["base_to_en"][0]["mean_R@1"] == base["mean_R@1"]
    assert alone["disparity"]["base"] == document["disparity"]["base"]


def test_eval_on_english_captions_translated_into_the_language(trained, artifacts):
    run = run_xclipt(
        *("eval", "--lang", "en,fr", "--limit", "40", "--artifacts", artifacts, "--json"),
        *("--text", "from-en", "--delta", trained["2"].name, "--against", trained["3"].name),
    )
    document = run.json()
    rows = [(row["system"], row["text"]) for row in document["rows"]]
    two, three = trained["2"].name, trained["3"].name
    assert rows == [
        *(("base", "target"), ("base", "target"), (two, "target")),
        *((f"{two} from-en", "from-en"), (three, "to-en")),
    ]
    (base,) = document["base_from_en"]
    assert base["translator"] == document["rows"][3]["translator"] == FROM_EN.name
    assert base["system"] == "base from-en" and base["language"] == "fr"
    assert base["mean_R@1"] != document["rows"][1]["mean_R@1"]
    assert [row["text"] for row in document["base_to_en"]] == ["to-en"]
    assert document["rows"][4]["translator"] == TO_EN.name
    assert f"{three} wants text in English and is not measured on --text from-en" in run.err
    pairs = [(pair["delta"], pair["against"]) for pair in document["pairs"]]
    assert pairs == [(f"{two} from-en", "base from-en"), (three, "base to-en"), (two, three)]
    assert document["disparity"]["delta"]["languages"] == ["en", "fr"]
    refused = run_xclipt("eval", "--lang", "de", "--text", "from-en", "--artifacts", artifacts)
    assert refused.code == 1
    assert (
        "have no translation from 'en' into 'de'; run `xclipt translate --lang de --direction "
        f"from-en --dataset emoji --artifacts {artifacts}` first"
    ) in refused.err


def test_eval_refuses_what_was_never_translated(trained, artifacts, data_root):
    run = run_xclipt(
        *("eval", "--lang", "fr", "--dataset", "xtd", "--data-dir", data_root, "--limit", "20"),
        *("--artifacts", artifacts),
    )
    assert run.code == 1
    last = run.err.strip().splitlines()[-1]
    assert "20 of 20 captions have no translation" in last and TO_EN.name in last
    assert "xclipt translate --lang fr --direction to-en --dataset xtd" in last


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--routine", "3", "--text", "target"), 2, "--text target: routine 3"),
        (("--routine", "1", "--text", "to-en"), 2, "--text to-en: routine 1"),
        (("--routine", "1", "--translations", "file"), 2, "--translations file"),
        (("--align-loss", "image", "--teacher", "frozen"), 2, "--teacher frozen"),
        (("--routine", "none", "--floor", "0.5"), 2, "--floor"),
        (("--text", "both", "--routine", "none"), 2, "--text both"),
        (("--text", "from-en", "--routine", "none"), 2, "--text from-en: choose target, to-en"),
        (("--routine", "3", "--lang", "de"), 1, "translate --lang de --direction to-en"),
        (("--routine", "2", "--translations", "nobody"), 1, "by 'nobody'"),
        (
            ("--routine", "2", "--lang", "de", "--split", "paper"),
            1,
            "--lang de --direction from-en --dataset emoji --split paper --shots 4 --artifacts",
        ),
    ],
)
def test_contradictions_and_gaps_are_one_line(artifacts, arguments, code, part):
    run = run_xclipt("train-delta", "--lang", "fr", *FEW, *arguments, "--artifacts", artifacts)
    assert run.code == code and part in run.err
    assert len([line for line in run.err.splitlines() if line.startswith("xclipt: ")]) == 1


def test_exports_say_that_text_is_translated_first(trained, artifacts, tmp_path):
    run = run_xclipt(
        *("export-delta", "--lang", "fr", "--format", "peft", "--out", tmp_path),
        *("--artifacts", artifacts),
    )
    assert run.code == 0, run.err
    card = (tmp_path / "fr/lora-4shot-routine3-seed1/README.md").read_text()
    assert "are translated into English first" in card and "names-to-en" in card
