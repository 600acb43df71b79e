"""Which pairs a routine trains on, from translations that are known word by word."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch.nn import functional as F

from tests.factories.datasets import Given, many
from tests.factories.noting import Noting
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest, build_alignment
from xclipt.alignment.routines import inference_text
from xclipt.errors import UsageError, XcliptError
from xclipt.translation.store import Translation, TranslationStore, Translator
from xclipt.workspace import Workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return workspace_in(tmp_path, progress=Noting())


def store(workspace, translations: Mapping[str, str], source, target, name="one", dropped=()):
    known = TranslationStore(workspace.directory, Translator("file", name, "0"), source, target)
    known.add(
        [
            Translation(s, t, ("empty",) * (s in dropped), s in dropped)
            for s, t in translations.items()
        ]
    )
    return known.translator


def request(routine: int | None, **more) -> AlignmentRequest:
    more.setdefault("text", inference_text(routine))
    return AlignmentRequest("tr", routine=routine, **more)


def test_each_routine_has_its_texts(workspace):
    dataset = many(12)
    english = {f"en {k} {j}": f"mt-tr {k} {j}" for k in range(12) for j in range(2)}
    turkish = {f"tr {k} {j}": f"mt-en {k} {j}" for k in range(12) for j in range(3)}
    into = store(workspace, english, "en", "tr")
    back = store(workspace, turkish, "tr", "en", "two")
    one = build_alignment(workspace, dataset, request(1, shots=6))
    assert one.translator is None and len(one.pairs) == 6
    two = build_alignment(workspace, dataset, request(2, shots=6))
    three = build_alignment(workspace, dataset, request(3, shots=6))
    none = build_alignment(workspace, dataset, request(None, shots=6))
    baseline2 = build_alignment(workspace, dataset, request(None, shots=6, text="to-en"))
    assert (two.translator, three.translator, baseline2.translator) == (into, back, back)
    for human, *others in zip(
        *(made.pairs for made in (one, two, three, none, baseline2)), strict=True
    ):
        number, caption = human.text.removeprefix("tr ").split(" ")
        mine = human.partner.split(" ")[2]
        assert [(pair.text, pair.partner) for pair in others] == [
            (human.text, f"mt-tr {number} {mine}"),
            (f"mt-en {number} {caption}", human.partner),
            (human.text, None),
            (f"mt-en {number} {caption}", None),
        ]
        assert {pair.image for pair in others} == {human.image}


def test_untranslated_text_is_refused_with_the_command(workspace):
    dataset = many(12)
    with pytest.raises(XcliptError, match=r"6 of the 6 English captions.*translate --lang tr --di"):
        build_alignment(workspace, dataset, request(2, shots=6))
    order = build_alignment(workspace, dataset, request(1, shots=12)).pairs
    store(workspace, {pair.text: "x " + pair.text for pair in order[:6]}, "tr", "en")
    # What is needed is there; the seventh is not.
    assert len(build_alignment(workspace, dataset, request(3, shots=6)).pairs) == 6
    with pytest.raises(XcliptError, match=r"given: 1 of the 7 captions .*--direction to-en --data"):
        build_alignment(workspace, dataset, request(3, shots=7))
    with pytest.raises(XcliptError, match="by 'opus'"):
        build_alignment(workspace, dataset, request(3, shots=6, translator="opus"))


def test_dropped_translations_give_their_place_to_the_next(workspace):
    dataset = many(12)
    order = build_alignment(workspace, dataset, request(1, shots=12)).pairs
    bad = {order[1].text, order[3].text}
    store(workspace, {p.text: "x " + p.text for p in order}, "tr", "en", dropped=bad)
    made = build_alignment(workspace, dataset, request(3, shots=6))
    assert [p.image for p in made.pairs] == [order[i].image for i in (0, 2, 4, 5, 6, 7)]
    assert made.left_out.counts() == {"bad_translations": 2}
    assert "2 of dropped translations" in workspace.progress.notes[-1]
    with pytest.raises(XcliptError, match=r"10 usable pairs in 'tr'.*: 2 of 12 translations have"):
        build_alignment(workspace, dataset, request(3, shots=12))
    assert len(build_alignment(workspace, dataset, request(3, shots=12, up_to=True)).pairs) == 10


def test_where_all_were_dropped_the_same_is_not_asked_for_again(workspace):
    """Translating again would drop the same: the two ways out are named instead."""
    dataset = many(12)
    english = [f"en {k} {j}" for k in range(12) for j in range(2)]
    italian = {text: f"un gatto nero dorme sul divano della casa {text}" for text in english}
    store(workspace, italian, "en", "tr", dropped=english)
    for shots in (6, None):
        with pytest.raises(XcliptError) as refusal:
            build_alignment(workspace, dataset, request(2, shots=shots))
        assert str(refusal.value) == (
            f"given has 0 usable pairs in 'tr' of split 'train': all {12 if shots else 36} "
            "translations look like Italian, not Turkish, and were dropped; translate by another "
            "`engine` or from a `file`, or keep them: `xclipt translate --lang tr --direction "
            "from-en --dataset given --engine file --file one --on-bad keep`"
        )
    good = store(workspace, {text: f"bir {text}" for text in english}, "en", "tr", "another")
    assert build_alignment(workspace, dataset, request(2, shots=6)).translator == good


def test_pairs_that_repeat_are_taken_once(workspace):
    dataset = Given(
        {
            "en": {"a.jpg": ("one",), "b.jpg": ("one",), "c.jpg": ("two",)},
            "tr": {"a.jpg": ("bir",), "b.jpg": ("bir",), "c.jpg": ("bir",)},
        }
    )
    made = build_alignment(workspace, dataset, request(1, shots=2))
    assert {(p.text, p.partner) for p in made.pairs} == {("bir", "one"), ("bir", "two")}
    assert len(build_alignment(workspace, dataset, request(None, shots=3)).pairs) == 3


def test_texts_that_are_cut_are_counted_once(workspace):
    long = "un " * 15
    captions = {"0.jpg": "a cat", "1.jpg": f"{long} cat", "2.jpg": "a dog"}
    dataset = Given(
        {
            "en": {image: (text,) for image, text in captions.items()},
            "tr": {image: (f"{long}{i}",) for i, image in enumerate(captions)},
        }
    )
    build_alignment(workspace, dataset, request(1, shots=3))
    assert workspace.progress.notes == [
        "given in 'tr': 4 of 6 texts do not fit the text tower's 16 tokens and are cut"
    ]


@pytest.mark.parametrize("floor", [math.nan, math.inf, -math.inf])
def test_the_floor_is_a_number(floor):
    with pytest.raises(XcliptError, match=r"floor '.*': a cosine is between -1 and 1"):
        request(1, floor=floor)


def test_the_floor_is_the_frozen_towers_cosine(workspace):
    words = [("chat", "cat"), ("chien", "dog"), ("court", "runs"), ("dort", "sleeps")]
    dataset = Given(
        {
            "en": {f"{i}.jpg": (e,) for i, (_, e) in enumerate(words)},
            "tr": {f"{i}.jpg": (t,) for i, (t, _) in enumerate(words)},
        }
    )
    every = build_alignment(workspace, dataset, request(1, shots=4)).pairs
    texts = workspace.backbone.encode_texts([p.text for p in every])
    partners = workspace.backbone.encode_texts([p.partner for p in every])
    cosines = F.cosine_similarity(texts, partners, dim=-1)
    floor = float(torch.sort(cosines).values[1:3].mean())
    made = build_alignment(workspace, dataset, request(1, shots=2, floor=floor))
    assert list(made.pairs) == [p for p, c in zip(every, cosines, strict=True) if c >= floor]
    with pytest.raises(XcliptError, match=r"2 usable pairs.*2 below the floor"):
        build_alignment(workspace, dataset, request(1, shots=3, floor=floor))


def test_the_translator_is_chosen_by_name(workspace):
    dataset = many(4)
    captions = [f"tr {k} {j}" for k in range(4) for j in range(3)]
    store(workspace, {c: "good " + c for c in captions}, "tr", "en", "good")
    store(workspace, {c: "better " + c for c in captions}, "tr", "en", "better")
    for name in ("good", "better"):
        made = build_alignment(workspace, dataset, request(3, shots=3, translator=name))
        assert made.translator.model == name
        assert all(pair.text.startswith(f"{name} tr") for pair in made.pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"routine": 3, "text": "target"}, "text 'target': routine 3"),
        ({"routine": 1, "text": "to-en"}, "text 'to-en': routine 1"),
        ({"routine": 2, "text": "to-en"}, "text 'to-en': routine 2"),
        ({"routine": 1, "translator": "file"}, "translator 'file': routine 1"),
        ({"routine": None, "floor": 0.5}, "floor: "),
    ],
)
def test_contradictions_are_usage_errors(change, message):
    with pytest.raises(UsageError, match=message):
        AlignmentRequest("tr", **change)


def test_english_is_not_aligned_with_itself(workspace):
    for routine, text in ((1, "target"), (2, "target"), (3, "to-en"), (None, "to-en")):
        with pytest.raises(XcliptError, match="language 'en'"):
            build_alignment(workspace, many(3), AlignmentRequest("en", 2, routine, text))
    assert build_alignment(workspace, many(3), AlignmentRequest("en", 2, None)).pairs


def test_too_many_shots_name_both_counts(workspace):
    with pytest.raises(XcliptError, match="shots '31': given has 30 pictures"):
        build_alignment(workspace, many(30), request(1, shots=31))
    with pytest.raises(XcliptError, match="shots '0': must be at least 1"):
        build_alignment(workspace, many(30), request(1, shots=0))
