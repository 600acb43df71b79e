"""The Python API on the builtin backbone and deltas that were really trained."""

import random
import subprocess
import sys
import threading
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import xclipt
from tests.factories.deltas import store_noise
from tests.factories.languages import SPECS, TEXTS
from tests.factories.tiny import workspace_in
from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.lora import LoraSpec
from xclipt.errors import FallbackWarning, XcliptError
from xclipt.model import Model, TextLanguage
from xclipt.verify import accept

MIXED = [(text, code) for code, texts in TEXTS.items() for text in texts]


@pytest.fixture(scope="module")
def model(taught):
    return Model(taught)


def tiny_model(root, *languages, capacity=100, **noise):
    workspace = workspace_in(root)
    for seed, language in enumerate(languages, 1):
        store_noise(workspace, language, "noise", 0.3, seed=seed, **noise)
    return Model(workspace, capacity=capacity)


def test_load_is_three_lines_and_gives_normalised_float32(taught, monkeypatch):
    monkeypatch.setattr("xclipt.model.open_workspace", lambda root, progress, **options: taught)
    model = xclipt.load(taught.directory.root)
    features = model.encode_text(["un chat noir", "un chien"], language="fr")
    assert features.shape == (2, model.dim) and features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    assert model.encode_text([]).shape == (0, model.dim)
    assert model.encode_text("un chat noir", "fr") == pytest.approx(features[:1], abs=1e-6)


@pytest.mark.parametrize("language", SPECS)
def test_every_kind_gives_what_eval_measures(model, taught, language):
    delta = taught.directory.current(language)
    expected = F.normalize(taught.encode_texts(TEXTS[language], delta), dim=-1).numpy()
    assert (model.encode_text(TEXTS[language], language) == expected).all()
    base = model.encode_text(TEXTS[language])
    assert abs(base - expected).max() > 1e-4, "the delta does something"


def test_thousand_random_swaps_leave_every_feature_bit_identical(model, backbone):
    weights = {name: t.clone() for name, t in backbone.text_tower.state_dict().items()}
    codes = [*SPECS, None]
    before = {code: model.encode_text(["un chat"], code) for code in codes}
    generator = random.Random(0)
    previous = None
    for _ in range(1000):
        code = generator.choice([c for c in SPECS if c != previous])
        model.warm([code])
        previous = code
    for code in codes:
        assert (model.encode_text(["un chat"], code) == before[code]).all(), code
    after = backbone.text_tower.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_thousand_encodings_in_random_languages_are_bit_identical(tmp_path):
    model = tiny_model(tmp_path, "fr", "de", "tr")
    codes = ["fr", "de", "tr", None]
    before = {code: model.encode_text(["un chat noir"], code) for code in codes}
    assert len({features.tobytes() for features in before.values()}) == 4
    generator = random.Random(1)
    for _ in range(1000):
        code = generator.choice(codes)
        assert (model.encode_text(["un chat noir"], code) == before[code]).all()


def test_a_mixed_batch_gives_what_calls_by_language_give(model):
    order = random.Random(2).sample(MIXED, len(MIXED))
    mixed = model.encode_text([t for t, _ in order], [code for _, code in order])
    for code in TEXTS:
        rows = [i for i, (_, c) in enumerate(order) if c == code]
        alone = model.encode_text([order[i][0] for i in rows], code)
        assert mixed[rows] == pytest.approx(alone, abs=1e-5), code


def test_kinds_that_are_grouped_are_bit_exact_in_a_mixed_batch(model):
    texts, codes = zip(*(row for row in MIXED if row[1] in ("es", "pt", "it", "fr")), strict=True)
    mixed = model.encode_text(texts, codes)
    for code in ("es", "pt", "it", "fr"):
        rows = [i for i, c in enumerate(codes) if c == code]
        alone = model.encode_text([texts[i] for i in rows], code)
        assert (mixed[rows] == alone).all()


def test_hard_prompts_are_put_before_the_text(model, taught):
    (prompted,) = model.encode_text(["黒い猫"], "ja")
    spec = replace(SPECS["ja"], hard_prompt="")
    delta = taught.directory.current("ja")
    bare = replace(delta, manifest=replace(delta.manifest, setting=vars(spec)))
    by_hand = F.normalize(taught.encode_texts(["写真 黒い猫"], bare), dim=-1)[0].numpy()
    assert prompted == pytest.approx(by_hand, abs=1e-6)


def test_auto_detects_and_says_how_sure_it_is(model):
    pytest.importorskip("py3langid")
    texts = [TEXTS["fr"][1], TEXTS["ja"][1], "a dog runs through the snow and barks", "1234"]
    found = model.resolve(texts)
    assert [f.language for f in found] == ["fr", "ja", "en", None]
    assert found[0].delta == "lora-8shot-seed1" and found[2].delta is None
    assert all(0.3 < f.confidence <= 1 for f in found[:3])
    auto = model.encode_text(texts[:3], "auto")
    assert (auto == model.encode_text(texts[:3], ["fr", "ja", "en"])).all()


@pytest.mark.usefixtures("without_detection")
def test_auto_without_the_extra_names_it(model):
    with pytest.raises(XcliptError, match=r"pip install 'xclipt\[detect\]'"):
        model.encode_text(["un chat"], "auto")


def test_a_language_without_a_delta_is_an_error_or_visibly_the_base(tmp_path):
    model = tiny_model(tmp_path, "fr")
    with pytest.raises(XcliptError, match=r"'nl' \(Dutch\).*there: fr.*fallback='base'"):
        model.encode_text(["un chat"], "nl")
    with pytest.warns(FallbackWarning, match=r"'nl' \(Dutch\)") as caught:
        features = model.encode_text(["un chat", "chien"], ["nl", "fr"], fallback="base")
    assert caught[0].filename == __file__
    assert (features[0] == model.encode_text(["un chat"])[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode_text(["un chat"], "nl", fallback="base")  # once is enough
        model.encode_text(["un chat"], "en")  # what deltas are aligned with
    assert model.resolve(["un chat"], "nl") == [TextLanguage("nl", None, None, True)]
    with pytest.raises(XcliptError, match="fallback 'none': choose error or base"):
        model.encode_text(["un chat"], "nl", fallback="none")
    with pytest.raises(XcliptError, match="language: 2 codes for 1 texts"):
        model.encode_text(["un chat"], ["fr", "fr"])


def test_deltas_of_translated_text_are_refused(tmp_path):
    model = tiny_model(tmp_path, "fr")
    path = tmp_path / "artifacts/deltas/fr/noise/manifest.yaml"
    path.write_text(path.read_text().replace("text: target", "text: to-en"))
    accept(model.workspace.directory)
    with pytest.raises(XcliptError, match=r"deltas/fr/noise: was trained on translations"):
        model.encode_text(["un chat"], "fr")


def test_the_least_recently_used_delta_is_dropped(tmp_path, monkeypatch):
    read = []
    tensors = StoredDelta.tensors
    monkeypatch.setattr(
        StoredDelta, "tensors", lambda d: read.append(d.manifest.language) or tensors(d)
    )
    model = tiny_model(tmp_path, "fr", "de", "tr", capacity=2)
    for code in ("fr", "de", "fr", "tr", "fr", "de"):
        model.encode_text(["un chat"], code)
    assert read == ["fr", "de", "tr", "de"]
    # More languages in one call than are kept.
    many = model.encode_text(["un chat"] * 3, ["fr", "de", "tr"])
    alone = [model.encode_text(["un chat"], code)[0] for code in ("fr", "de", "tr")]
    assert many == pytest.approx(np.stack(alone), abs=1e-6)
    with pytest.raises(XcliptError, match="capacity '0': must be at least 1"):
        tiny_model(tmp_path, capacity=0)


def test_refresh_sees_what_was_trained_since(tmp_path):
    model = tiny_model(tmp_path, "fr")
    before = model.encode_text(["un chat"], "fr")
    store_noise(model.workspace, "fr", "newer", 0.3, seed=9)
    store_noise(model.workspace, "de", "noise", 0.3, seed=8)
    assert (model.encode_text(["un chat"], "fr") == before).all()
    model.refresh()
    assert (model.encode_text(["un chat"], "fr") != before).any()
    assert model.languages == ["de", "fr"]


def test_a_delta_of_other_shapes_is_refused_in_mixed_batches_too(tmp_path):
    model = tiny_model(tmp_path, "fr", "de")
    store_noise(model.workspace, "de", "noise", 0.3, spec=LoraSpec(rank=4))
    path = tmp_path / "artifacts/deltas/de/noise/manifest.yaml"
    path.write_text(path.read_text().replace("rank: 4", "rank: 8"))
    for codes in (["de", "de"], ["fr", "de"]):
        with pytest.raises(XcliptError):
            model.encode_text(["un chat", "chien"], codes)
    model.encode_text(["un chat"], "fr")


def test_threads_get_what_one_thread_gets(tmp_path):
    model = tiny_model(tmp_path, "fr", "de", "tr", capacity=2)
    calls = [
        (["un chat noir"], "fr"),
        (["chien", "un chat"], ["de", "tr"]),
        (["a dog"], None),
        (["un chien"], "tr"),
    ]
    expected = [model.encode_text(*call) for call in calls]
    fresh = tiny_model(tmp_path, capacity=2)
    wrong: list[object] = []

    def work(seed):
        generator = random.Random(seed)
        for _ in range(60):
            i = generator.randrange(len(calls))
            try:
                if not (fresh.encode_text(*calls[i]) == expected[i]).all():
                    wrong.append(calls[i])
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_many_languages_cost_one_pass_one_tower_and_one_read_each(tmp_path, monkeypatch):
    count = Counter()

    def counted(owner, name):
        original = getattr(owner, name)

        def call(*arguments, **settings):
            count[f"{owner.__name__}.{name}"] += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, call)

    model = tiny_model(tmp_path, *(codes := ["fr", "de", "tr", "es"]))
    counted(TextTower, "forward")
    counted(AdaptedTower, "__init__")
    counted(StoredDelta, "tensors")
    texts = ["un chat noir", "chien", "un chat", "a dog"]
    mixed = model.encode_text(texts, codes)
    assert count["TextTower.forward"] == 1
    alone = [model.encode_text([t], code)[0] for t, code in zip(texts, codes, strict=True)]
    assert count["TextTower.forward"] == 1 + 4
    assert mixed == pytest.approx(np.stack(alone), abs=1e-5)
    for _ in range(5):
        model.warm(codes)
    assert count["StoredDelta.tensors"] == 4, "each is read once"
    assert count["AdaptedTower.__init__"] == 1, "deltas of one architecture take turns in a tower"
    assert count["TextTower.forward"] == 1 + 4


def test_pictures_are_encoded_from_paths(model, make_picture, tmp_path):
    paths = [make_picture(tmp_path / "red.png"), make_picture(tmp_path / "blue.png", "blue")]
    features = model.encode_image([str(paths[0]), paths[1]])
    assert features.shape == (2, model.dim) and features.dtype == np.float32
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    assert model.encode_image(paths[1]) == pytest.approx(features[1:], abs=1e-5)
    with pytest.raises(XcliptError, match="no such picture"):
        model.encode_image([tmp_path / "none.png"])


def test_importing_xclipt_is_cheap():
    code = (
        "import sys, xclipt\n"
        "assert not {'torch', 'numpy', 'transformers', 'langcodes'} & sys.modules.keys()\n"
        "assert xclipt.XcliptError and callable(xclipt.load)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with pytest.raises(AttributeError):
        _ = xclipt.nothing
