"""What is new is translated, once, judged, stored and scored."""

import random
from pathlib import Path

import pytest

from tests.factories.datasets import Given, make_multi30k, make_xtd, many
from tests.factories.noting import Noting
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.dataset import CaptionedPicture
from xclipt.data.splits import paper_order
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.translation.engines import apertium, ctranslate2, hub_engine
from xclipt.translation.engines.choose import EngineRequest, open_engine
from xclipt.translation.engines.hub_model import HubModel
from xclipt.translation.scores import MOST_SCORED, score
from xclipt.translation.store import TranslationStore, Translator
from xclipt.translation.translate import Captions, captions_to_translate, translate


class Backwards:
    """An engine that writes backwards, and remembers what it was given."""

    translator = Translator("backwards", "none", "1")
    about = "backwards"
    batch_size = 2
    by_length = True

    def __init__(self, changes=None):
        self.batches = []
        self.changes = changes or {}

    def covers(self, text):
        return text != "unknown"

    def translate(self, texts):
        self.batches.append(list(texts))
        return [self.changes.get(text, f"<{text[::-1]}>") for text in texts]


@pytest.fixture
def directory(tmp_path):
    return ArtifactDirectory(tmp_path / "a", BackboneIdentity("tiny", "0", "0" * 64))


def captions(*texts, references=None):
    pictures = tuple(CaptionedPicture(f"{i}.jpg", (text,)) for i, text in enumerate(texts))
    return Captions(pictures, "fr", "en", references or {})


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


WORDS = captions(*(f"mot{'x' * (i % 7)} {i}" for i in range(15)))


def test_only_what_is_new_and_each_text_once(directory):
    engine = Backwards()
    report = translate(directory, engine, captions("ab", "abcd", "ab", "abc", "unknown"), Silent())
    assert engine.batches == [["abcd", "abc"], ["ab"]]
    assert (report.texts, report.translated, report.cached, report.missing) == (4, 3, 0, 1)
    assert (report.language, report.direction, report.scores) == ("fr", "to-en", None)
    again = Backwards()
    report = translate(directory, again, captions("abc", "neu", "ab"), Silent())
    assert again.batches == [["neu"]]
    assert (report.texts, report.translated, report.cached) == (3, 1, 2)


def test_limit_and_dry_run(directory):
    engine = Backwards()
    report = translate(directory, engine, WORDS, Silent(), limit=4, dry_run=True)
    assert (report.texts, report.translated) == (4, 4)
    assert not engine.batches and not directory.root.exists()
    assert translate(None, engine, WORDS, Silent(), dry_run=True).translated == 15
    translate(directory, engine, WORDS, Silent(), limit=4)
    assert sorted(t for batch in engine.batches for t in batch) == sorted(WORDS.texts(4))


def test_on_bad(directory):
    engine = Backwards({"un chat": "", "un chien": "un chien"})
    texts = captions("un chat", "un chien", "un lit")
    with pytest.raises(
        XcliptError, match=r"on_bad 'error': 'un chien'.*copied.*`on_bad=drop` goes"
    ):
        translate(directory, engine, texts, Silent(), on_bad="error")
    report = translate(directory, engine, texts, Silent())
    assert report.dropped == 2 and report.flags == {"copied": 1, "empty": 1}
    dropped = tree(directory.root)
    # What was dropped before is kept now, without translating again.
    engine.batches.clear()
    report = translate(directory, engine, texts, Silent(), on_bad="keep")
    assert report.dropped == 0 and report.flags and not engine.batches
    assert TranslationStore(directory, Backwards.translator, "fr", "en").get("un chat").text == ""
    with pytest.raises(XcliptError, match="on_bad 'error'"):
        translate(directory, engine, texts, Silent(), on_bad="error")
    translate(directory, engine, texts, Silent(), on_bad="drop")
    assert tree(directory.root) == dropped


ITALIAN = ("un gatto dorme sul divano", "due cani corrono nella neve", "una donna legge un libro")
ENGLISH = ("a cat sleeps on the sofa", "two dogs run in the snow", "a woman reads a book")


def korean(directory, translations, **options):
    """What is told of translations of English captions into Korean."""
    pictures = tuple(CaptionedPicture(f"{i}.jpg", (text,)) for i, text in enumerate(ENGLISH))
    engine = Backwards(dict(zip(ENGLISH, translations, strict=True)))
    told = Noting()
    translate(directory, engine, Captions(pictures, "en", "ko", {}), told, **options)
    return told.notes


def test_what_the_dropped_ones_look_like_and_the_ways_out_are_told(directory):
    found = "en to ko: all 3 translations look like Italian, not Korean, and are dropped"
    ways = "take another `engine` or `file`, or `on_bad=keep` to use them as they are"
    assert korean(directory, ITALIAN) == [f"{found}; {ways}"]
    assert korean(directory, ITALIAN) == [f"{found}; {ways}"], "although none is new"
    assert korean(directory, ITALIAN, on_bad="keep") == []


def test_a_few_that_are_dropped_are_no_other_language(tmp_path, directory):
    good = ("고양이가 소파에서 자고 있다", "눈 속에서 개 두 마리가 달린다")
    assert korean(directory, (*good, ITALIAN[2])) == []
    other = ArtifactDirectory(tmp_path / "b", directory.backbone)
    (note,) = korean(other, (good[0], "", "4 4 4 4"))
    assert "en to ko: 2 of 3 translations have faults (empty 1, repeated 1), and are" in note


@pytest.mark.usefixtures("without_detection")
def test_without_the_detector_the_faults_are_told(directory):
    (note,) = korean(directory, ITALIAN)
    assert note.startswith("en to ko: all 3 translations have faults (script 3), and are dropped;")


def test_an_engine_that_miscounts_is_refused(directory):
    engine = Backwards()
    engine.translate = lambda texts: ["one"]
    with pytest.raises(XcliptError, match="gave 1 translations of 2 texts"):
        translate(directory, engine, WORDS, Silent())


def test_stopped_anywhere_and_resumed_leaves_the_same_bytes(directory, tmp_path):
    translate(directory, Backwards(), WORDS, Silent())
    whole = tree(directory.root)
    chance = random.Random(5)
    for trial in range(20):
        other = ArtifactDirectory(tmp_path / f"b{trial}", directory.backbone)
        for _ in range(chance.randint(1, 3)):
            engine, left = Backwards(), chance.randint(0, 8)
            plain = engine.translate

            def stop(texts, plain=plain, engine=engine, left=left):
                if len(engine.batches) == left:
                    raise KeyboardInterrupt
                return plain(texts)

            engine.translate = stop
            try:
                translate(other, engine, WORDS, Silent())
            except KeyboardInterrupt:
                continue
        translate(other, Backwards(), WORDS, Silent())
        assert tree(other.root) == whole


def test_scores_against_what_people_wrote(directory):
    engine = Backwards({"un chat": "a black cat sleeps", "un chien": "a dog runs now fast"})
    people = {"0.jpg": ("a black cat sleeps", "another one"), "1.jpg": ("the dog runs now fast",)}
    report = translate(
        directory, engine, captions("un chat", "un chien", references=people), Silent()
    )
    assert report.scores.texts == 2
    assert 50 < report.scores.chrf < 100 and 50 < report.scores.bleu < 100
    assert score(["a black cat sleeps"], [["x y z w", "a black cat sleeps"]], "en").chrf == 100
    assert score([], [], "en") is None
    many = score(["a cat"] * 5000, [["a cat"]] * 5000, "en")
    assert many.texts == MOST_SCORED and many.chrf == 100
    assert score(["一只黑猫在睡"], [["一只黑猫在睡"]], "zh").bleu == pytest.approx(100)


def test_captions_of_both_directions(tmp_path):
    dataset = make_xtd(tmp_path)
    there = captions_to_translate(dataset, "fr", "to-en", None)
    assert (there.source, there.target, there.rows) == ("fr", "en", ["fr one", "fr two"])
    back = captions_to_translate(dataset, "fr", "from-en", None)
    assert back.rows == ["en one", "en two"]
    assert next(iter(back.references.values())) == ("fr one",)
    # Into a language that the data set does not have.
    assert captions_to_translate(dataset, "sv", "from-en", None).references == {}
    for arguments, part in (
        (("en", "to-en"), "language 'en'"),
        (("fr", "up"), "direction 'up': choose to-en, from-en"),
        (("sv", "to-en"), "no captions in 'sv'"),
    ):
        with pytest.raises(XcliptError, match=part):
            captions_to_translate(dataset, *arguments, None)


def test_of_the_papers_split_only_what_it_needs(tmp_path):
    whole = [f"fr {k}" for k in range(10)]
    pieces = Given(
        {
            "en": {f"{k}.jpg": (f"en {k}",) for k in range(10)},
            "fr": {f"{k}.jpg": (text,) for k, text in enumerate(whole)},
        }
    )
    pieces.splits = ()
    drawn = [f"en {k}" for k in paper_order(10)[:3]]
    # Of a set in one piece all are trained, validated or tested on, but few are partners.
    assert sorted(captions_to_translate(pieces, "fr", "to-en", "paper", 3).rows) == whole
    partners = captions_to_translate(pieces, "fr", "from-en", "paper", 3)
    assert sorted(partners.rows) == sorted(drawn)
    assert set(partners.references) == {f"{text.removeprefix('en ')}.jpg" for text in drawn}
    published = make_multi30k(tmp_path)
    rows = captions_to_translate(published, "fr", "to-en", "paper", 1).rows
    assert len(rows) == 1 + 2 + 2 and sum("train" in text for text in rows) == 1
    (partner,) = captions_to_translate(published, "fr", "from-en", "paper", 1).rows
    assert partner.startswith("en train")
    # Without `val` and `test` there is the split to train on alone.
    assert len(captions_to_translate(many(6), "tr", "to-en", "paper", 2).rows) == 2 * 3
    with pytest.raises(XcliptError, match="shots '6': the paper's split of the 10"):
        captions_to_translate(pieces, "fr", "to-en", "paper", 6)


def test_auto_takes_what_is_there_and_says_why(tmp_path, monkeypatch):
    dataset = make_xtd(tmp_path)
    cached = {}
    monkeypatch.setattr(hub_engine, "find_model", cached.get)
    monkeypatch.setattr(apertium, "is_installed", lambda: False)

    def chosen(**changes):
        return open_engine(EngineRequest(**changes), dataset, [], "fr", "en", fetch=False)

    with pytest.raises(
        XcliptError, match=r"engine 'auto': nothing here translates from fr to en.* name a `file`"
    ):
        chosen()
    monkeypatch.setattr(apertium, "is_installed", lambda: True)
    monkeypatch.setattr(apertium, "list_modes", lambda: {"fra-eng": ("fr", "en")})
    monkeypatch.setattr(apertium, "_revision", lambda chain: "1")
    engine = chosen()
    assert engine.translator.engine == "apertium" and "auto: no translations" in engine.about
    nllb = "facebook/nllb-200-distilled-600M"
    cached[nllb] = HubModel(nllb, "abc", tmp_path)
    assert chosen().translator == Translator("ctranslate2", nllb, "abc", "beams=4")
    assert chosen(engine="transformers").translator.model == nllb
    monkeypatch.setattr(ctranslate2, "find_spec", lambda name: None)
    engine = chosen(beams=2, dtype="bfloat16", batch_size=7)
    assert engine.translator == Translator("transformers", nllb, "abc", "beams=2 dtype=bfloat16")
    assert "in the hub's cache" in engine.about and engine.batch_size == 7
    (tmp_path / "translated_to_en").mkdir()
    (tmp_path / "translated_to_en" / "fr.txt").write_text("one\ntwo")
    assert chosen().translator.engine == "file" and "beside xtd" in chosen().about
    assert chosen(engine="apertium").translator.engine == "apertium"
    named = chosen(model="owner/model")
    assert named.translator == Translator(
        "transformers", "owner/model", "not fetched yet", "beams=4"
    )
    assert named.about.endswith("(auto: its model is named)")
    table = tmp_path / "mine.tsv"
    table.write_text("un\tone\n")
    assert chosen(file=table).translator.model == "mine.tsv"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (
            {"engine": "babel"},
            "engine 'babel': choose auto, file, ctranslate2, transformers, apertium$",
        ),
        ({"engine": "file", "model": "x/y"}, "engine 'file': `model` and `beams` go with"),
        ({"engine": "file"}, "no translations from fr to en lie beside xtd"),
        ({"engine": "apertium", "beams": 3}, "beams: goes with"),
        ({"engine": "apertium", "file": Path("x")}, "file: goes with `engine=file` and without"),
        ({"model": "x/y", "file": Path("x")}, "file: goes with `engine=file` and without `model`"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, changes, part):
    with pytest.raises(XcliptError, match=part):
        open_engine(EngineRequest(**changes), make_xtd(tmp_path), [], "fr", "en")
