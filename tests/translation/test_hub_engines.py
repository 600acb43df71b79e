"""Hub models: read in the hub's format, told the right languages, the same by two programs."""

import pytest
import torch

from tests.factories.datasets import make_xtd
from tests.factories.noting import Noting
from tests.factories.translation_models import SENTENCES, write_m2m100, write_marian
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.dataset import CaptionedPicture
from xclipt.errors import XcliptError
from xclipt.translation.engines.choose import EngineRequest, open_engine
from xclipt.translation.engines.ctranslate2 import CTranslate2Engine, converted
from xclipt.translation.engines.hub_model import LONGEST_TEXT, fetch_model, find_model
from xclipt.translation.engines.transformers import TransformersEngine
from xclipt.translation.translate import Captions, translate

FRENCH, ENGLISH = list(SENTENCES[:4]), list(SENTENCES[4:])
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "marian": write_marian(folder / "opus-mt-fr-en", pickled=True),
        "m2m": write_m2m100(folder / "m2m100"),
        "nllb": write_m2m100(folder / "nllb", nllb=True),
    }


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XCLIPT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def engine(make, folder, source="fr", target="en", **options):
    return make(find_model(str(folder)), source, target, device=CPU, **options)


def watched(engine):
    """The engine, and a list of what goes into and comes out of its model."""
    seen = []
    generate = engine._loaded.generate

    def spy(**given):
        made = generate(**given)
        seen.append((given["input_ids"].tolist(), made.tolist()))
        return made

    engine._loaded.generate = spy
    return seen


@pytest.mark.parametrize("make", [TransformersEngine, CTranslate2Engine])
@pytest.mark.parametrize("name", ["marian", "m2m", "nllb"])
@pytest.mark.parametrize("beams", [1, 4])
def test_from_the_hubs_format_to_text(checkpoints, make, name, beams):
    made = engine(make, checkpoints[name], beams=beams)
    assert made.translate(FRENCH) == ENGLISH
    assert made.translate(FRENCH[::-1][:3]) == ENGLISH[::-1][:3]
    kind = "ctranslate2" if make is CTranslate2Engine else "transformers"
    assert made.translator.engine == kind and made.translator.setting == f"beams={beams}"
    assert made.translator.model == checkpoints[name].name


@pytest.mark.parametrize(
    ("name", "target", "read", "written"),
    [
        ("m2m", "en", "__fr__", "__en__"),
        ("m2m", "de", "__fr__", "__de__"),
        ("nllb", "en", "fra_Latn", "eng_Latn"),
        ("nllb", "zh", "fra_Latn", "zho_Hans"),
    ],
)
def test_the_model_is_told_both_languages(checkpoints, name, target, read, written):
    made = engine(TransformersEngine, checkpoints[name], target=target, beams=1)
    seen = watched(made)
    made.translate(FRENCH[:2])
    pieces = made._tokenizer.pieces
    ((given, generated),) = seen
    assert {row[0] for row in given} == {pieces.convert_tokens_to_ids(read)}
    assert {row[1] for row in generated} == {pieces.convert_tokens_to_ids(written)}
    assert pieces.unk_token_id not in (given[0][0], generated[0][1])


def test_a_marian_model_of_several_languages_reads_which_to_write(tmp_path):
    folder = write_marian(tmp_path / "opus-mt-en-roa", tags=("fra", "spa"))
    made = engine(TransformersEngine, folder, "en", "es", beams=1)
    seen = watched(made)
    made.translate(["a cat"])
    assert seen[0][0][0][0] == made._tokenizer.pieces.convert_tokens_to_ids(">>spa<<")
    with pytest.raises(XcliptError, match=r"does not write German \(de\); it has fra, spa"):
        engine(TransformersEngine, folder, "en", "de").translate(["a cat"])


def test_both_programs_agree_where_the_model_knows_nothing(checkpoints):
    # Sentences that it has not learnt: what it makes of them has no reason but the arithmetic.
    strange = ["le chat lit un livre", "deux femmes", "un ballon vert près du parc"]
    for folder in checkpoints.values():
        made = [
            engine(make, folder, beams=1).translate(strange)
            for make in (TransformersEngine, CTranslate2Engine)
        ]
        assert made[0] == made[1]


def test_converted_once_and_again_for_another_revision(checkpoints, tmp_path):
    model = find_model(str(checkpoints["marian"]))
    folder = converted(model)
    stamp = (folder / "model.bin").stat().st_mtime_ns
    assert converted(model) == folder and (folder / "model.bin").stat().st_mtime_ns == stamp
    other = find_model(str(write_marian(tmp_path / "opus-mt-fr-en", tags=("fra",))))
    assert other.name == model.name and converted(other) != folder


def test_a_model_in_the_hubs_cache_needs_no_network(checkpoints, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--Helsinki-NLP--opus-mt-fr-en"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / commit).symlink_to(checkpoints["marian"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    model = fetch_model("Helsinki-NLP/opus-mt-fr-en")
    assert model.revision == commit
    assert TransformersEngine(model, "fr", "en", device=CPU).translate(FRENCH[:1]) == ENGLISH[:1]


def test_texts_that_are_cut_are_counted(checkpoints, tmp_path):
    made = engine(TransformersEngine, checkpoints["marian"], beams=1)
    tokens = len(made._tokenizer.encode(["chat"])[0]) - 1  # </s> apart
    fits = " ".join(["chat"] * ((LONGEST_TEXT - 1) // tokens))
    listener = Noting()
    texts = (fits, f"{fits} chat chat", "chat " * 1000, "un chat")
    pictures = tuple(CaptionedPicture(f"{i}.jpg", (text,)) for i, text in enumerate(texts))
    directory = ArtifactDirectory(tmp_path, BackboneIdentity("tiny", "0", "0" * 64))
    for _ in range(2):
        translate(directory, made, Captions(pictures, "fr", "en", {}), listener, on_bad="keep")
    assert listener.notes == [
        "fr-en: 2 of 4 texts are too long for opus-mt-fr-en and were cut before they were "
        "translated"
    ]


def test_damaged_models_are_named(checkpoints, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(XcliptError, match="not a translation model"):
        engine(TransformersEngine, tmp_path).translate(["a"])
    with pytest.raises(XcliptError, match="model 'nowhere': no such folder and no hub id"):
        fetch_model("nowhere")
    assert find_model("../outside") is None
    with pytest.raises(XcliptError, match=r"does not know Klingon|does not know"):
        engine(TransformersEngine, checkpoints["m2m"], "fr", "eu").translate(["a"])


def test_without_ctranslate2_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("xclipt.translation.engines.ctranslate2.find_spec", lambda name: None)
    request = EngineRequest(engine="ctranslate2")
    with pytest.raises(
        XcliptError, match=r"engine 'ctranslate2': .*xclipt\[ctranslate2\].*`engine=transformers`"
    ):
        open_engine(request, make_xtd(tmp_path), [], "fr", "en", fetch=False)
