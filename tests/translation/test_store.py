"""Translations on disk: found by text, written by several at once, never half, never misread."""

import json
import multiprocessing
import os
import signal

import pytest
import yaml

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.identity import BackboneIdentity
from xclipt.errors import XcliptError
from xclipt.files import replacing, sweep
from xclipt.translation.lookup import LookedUp, captions_translated, look_up
from xclipt.translation.store import (
    Direction,
    Translation,
    TranslationStore,
    Translator,
    stores,
)

MARIAN = Translator("transformers", "Helsinki-NLP/opus-mt-fr-en", "abc123", "beams=4")
APERTIUM = Translator("apertium", "fra-spa spa-eng", "3.8")


@pytest.fixture
def directory(tmp_path):
    return ArtifactDirectory(tmp_path, BackboneIdentity("tiny", "0", "0" * 64))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_kept_from_one_opening_to_the_next(directory):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    store.add([Translation("un chat", "a cat"), Translation("x", "x", ("copied",), True)])
    store.add([Translation("un\u2028 chien", 'a "dog"\n')])
    again = stores(directory, "fr", "en")
    assert [store.translator for store in again] == [MARIAN]
    assert len(again[0]) == 3 and "un chat" in again[0] and "a cat" not in again[0]
    assert again[0].get("x") == Translation("x", "x", ("copied",), True)
    assert again[0].get("un\u2028 chien") == Translation("un\u2028 chien", 'a "dog"\n')
    assert again[0].get("autre") is None
    assert stores(directory, "en", "fr") == []


def test_files_are_for_people(directory):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    store.add([Translation("é", "猫")])
    folder = directory.root / "translations" / "fr-en" / MARIAN.name
    assert folder.name.startswith("transformers-Helsinki-NLP--opus-mt-fr-en-")
    card = yaml.safe_load((folder / "translator.yaml").read_text())
    assert card == {
        **{"format": 1, "source": "fr", "target": "en", "engine": "transformers"},
        **{"model": MARIAN.model, "revision": "abc123", "setting": "beams=4"},
    }
    (shard,) = folder.glob("*.jsonl")
    text = shard.read_text("utf-8")
    assert '"é"' in text and '"猫"' in text
    entry = json.loads(text)
    assert entry["sha256"].startswith("4a99557e4033c3539d")


def test_another_revision_or_setting_is_another_translator(directory):
    for other in (
        Translator("transformers", MARIAN.model, "def456", "beams=4"),
        Translator("transformers", MARIAN.model, "abc123", "beams=1"),
    ):
        TranslationStore(directory, MARIAN, "fr", "en").add([Translation("a", "b")])
        assert "a" not in TranslationStore(directory, other, "fr", "en")


def test_two_writers_do_not_disturb_each_other(directory):
    one, two = (TranslationStore(directory, MARIAN, "fr", "en") for _ in range(2))
    one.add([Translation("a", "1")])
    two.add([Translation("b", "2")])
    two.add([Translation("a", "1")])
    assert len(TranslationStore(directory, MARIAN, "fr", "en")) == 2


def test_damaged_lines_are_as_good_as_absent(directory):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    store.add([Translation("a", "1"), Translation("b", "2"), Translation("c", "3")])
    (shard,) = store.folder.glob("*.jsonl")
    lines = shard.read_bytes().split(b"\n")
    shard.write_bytes(b"\n".join([lines[0], lines[1].replace(b'"b"', b'"x"'), lines[2][:-9]]))
    (store.folder / "other.jsonl").write_bytes(b'\xff\n[]\n3\n{"source": 1, "text": 2}\n')
    again = TranslationStore(directory, MARIAN, "fr", "en")
    assert len(again) == 1 and "a" in again
    again.add([Translation("a", "1"), Translation("b", "2"), Translation("c", "3")])
    assert len(TranslationStore(directory, MARIAN, "fr", "en")) == 3


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda text: text.replace("format: 1", "format: 2"), "format 2"),
        (lambda text: text.replace("abc123", "def456"), "remove the folder"),
        (lambda text: "[", "cannot read"),
        (lambda text: "- a", "cannot read"),
    ],
)
def test_bad_translator_files_are_named(directory, change, part):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    store.add([Translation("a", "b")])
    card = store.folder / "translator.yaml"
    card.write_text(change(card.read_text()))
    with pytest.raises(XcliptError, match=part) as raised:
        stores(directory, "fr", "en")
    assert str(card) in str(raised.value)


def test_a_new_verdict_replaces_the_old_one_and_nothing_else(directory):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    store.add([Translation("a", "a", ("copied",), True), Translation("b", "1")])
    store.add([Translation("c", "2")])
    before = files(store.folder)

    def keep(translation):
        return Translation(translation.source, translation.text, translation.flags, False)

    assert store.revise(keep) == 1
    after = files(store.folder)
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) == 1
    assert store.get("a") == Translation("a", "a", ("copied",), False)
    assert store.revise(keep) == 0


def test_look_up_takes_one_translator_the_one_with_most(directory):
    texts = ["a", "b", "c"]
    into_english = Direction("fr", "en")
    nothing = LookedUp((None, None, None), frozenset((0, 1, 2)), None)
    assert look_up(directory, texts, into_english) == nothing
    marian = TranslationStore(directory, MARIAN, "fr", "en")
    # Nothing can be used, and yet `b` need not be translated again.
    marian.add([Translation("b", "m2", ("empty",), True)])
    bad = (Translation("b", "m2", ("empty",), True),)
    dropped = LookedUp((None, None, None), frozenset((0, 2)), MARIAN, bad)
    assert look_up(directory, texts, into_english) == dropped
    marian.add([Translation("a", "m1")])
    apertium = TranslationStore(directory, APERTIUM, "fr", "en")
    apertium.add([Translation("b", "a2")])
    # One each, as what was dropped does not count: the first by name.
    found = look_up(directory, texts, into_english)
    assert found == LookedUp((None, "a2", None), frozenset((0, 2)), APERTIUM)
    marian.add([Translation("c", "m3")])
    found = look_up(directory, texts, into_english)
    dropped = (Translation("b", "m2", ("empty",), True),)
    assert found == LookedUp(("m1", None, "m3"), frozenset(), MARIAN, dropped)
    assert found.missing == 1
    for engine in ("apertium", "fra-spa spa-eng", APERTIUM.name):
        assert look_up(directory, texts, into_english, engine).translator == APERTIUM
    assert look_up(directory, texts, into_english, "ctranslate2").translator is None


def test_what_was_dropped_is_not_absent(directory):
    store = TranslationStore(directory, MARIAN, "fr", "en")
    dropped = tuple(Translation(text, "", ("empty",), True) for text in ("a", "b"))
    store.add(dropped)
    into_english = Direction("fr", "en")
    assert look_up(directory, ["a", "b"], into_english) == LookedUp(
        (None, None), frozenset(), MARIAN, dropped
    )
    with pytest.raises(XcliptError) as refusal:
        captions_translated(directory, ["a", "b"], Direction("fr", "en"), "own")
    assert str(refusal.value) == (
        "own: no caption in 'fr' to use: all 2 translations have faults (empty 2), and were "
        "dropped; translate by another `engine` or from a `file`, or keep them: `xclipt translate "
        f"--lang fr --direction to-en --dataset own --engine {MARIAN.engine} --model "
        f"{MARIAN.model} --on-bad keep`"
    )
    store.add([Translation("c", "a cat")])
    texts, translator, untranslated = captions_translated(
        directory, ["a", "c"], Direction("fr", "en"), "own"
    )
    assert (texts, translator, untranslated) == (("a", "a cat"), MARIAN, 1)
    with pytest.raises(XcliptError, match="1 of 3 captions have no translation"):
        captions_translated(directory, ["a", "c", "d"], Direction("fr", "en"), "own")


def _hang_while_writing(path, ready):
    with replacing(path) as aside:
        aside.write_text("half")
        ready.set()
        signal.pause()


def test_sweeping_spares_the_living(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    writer = context.Process(target=_hang_while_writing, args=(tmp_path / "a.jsonl", ready))
    writer.start()
    assert ready.wait(10) and writer.pid
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    sweep(tmp_path, "b.jsonl")
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())
