"""The paper's split: its indices, and the same three parts for whoever trains or measures."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.factories.datasets import Captions, Given, make_folder
from tests.factories.tiny import workspace_in
from xclipt.alignment.align import align
from xclipt.alignment.build import AlignmentRequest, build_alignment
from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.data.sets import coco, xtd
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.data.splits import PAPER, PaperSplit, paper_order, protocol
from xclipt.errors import XcliptError
from xclipt.evaluation.queries import EvaluationRequest, select_queries
from xclipt.training.captions import hold_out
from xclipt.workspace import Workspace

PARTS = ("train", "val", "test")
LANGUAGES = ("en", "fr", "tr")


def images(dataset: Dataset, language: str, split: str | None) -> set[str]:
    return {picture.image for picture in dataset.captions(language, split)}


def parts(dataset: Dataset, shots: int) -> dict[str, set[str]]:
    """Pictures of the three parts, of whatever language."""
    view = PaperSplit(dataset, shots)
    return {
        part: set().union(*(images(view, language, part) for language in dataset.languages))
        for part in PARTS
    }


def one_caption(names: list[str], language: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"{language} {name}",) for name in names}


def in_one_piece(captions: Captions, splits: tuple[str, ...] = ()) -> Given:
    dataset = Given(captions)
    dataset.splits = splits
    return dataset


def french(count: int) -> Captions:
    return {"fr": one_caption([f"{i:02}.jpg" for i in range(count)], "fr")}


@st.composite
def captioned(draw: st.DrawFn) -> Captions:
    """Pictures, and for each language which of them have captions in it, in any order."""
    names = [f"{i:02}.jpg" for i in range(draw(st.integers(4, 24)))]
    languages = draw(st.lists(st.sampled_from(LANGUAGES), min_size=1, unique=True))
    subsets = st.lists(st.sampled_from(names), min_size=3, unique=True)
    return {language: one_caption(draw(subsets), language) for language in languages}


def every_image(captions: Captions) -> list[str]:
    return sorted(set().union(*captions.values()))


def test_the_order_is_the_papers():
    order = paper_order(1000)
    torch.manual_seed(42)
    assert order == torch.randperm(1000).tolist()
    assert order[:6] == [542, 618, 816, 68, 94, 215]
    assert order[50:53] == [820, 440, 338]


def test_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    paper_order(1000)
    assert torch.equal(torch.rand(3), expected)


@settings(deadline=None)
@given(captioned(), st.data())
def test_parts_share_nothing_and_are_everything_whatever_the_language(captions, data):
    dataset = in_one_piece(captions)
    pictures = every_image(captions)
    shots = data.draw(st.integers(1, len(pictures) // 2))
    found = parts(dataset, shots)
    assert [len(found[part]) for part in PARTS] == [shots, shots, len(pictures) - 2 * shots]
    assert sorted(name for part in found.values() for name in part) == pictures
    view = PaperSplit(dataset, shots)
    for language in dataset.languages:
        for part in PARTS:
            assert images(view, language, part) == found[part] & set(captions[language])
        assert view.captions(language, None) == dataset.captions(language, None)
    more = data.draw(st.integers(shots, len(pictures) // 2))
    assert found["train"] <= parts(dataset, more)["train"]


@settings(max_examples=40, deadline=None)
@given(captioned(), st.data())
def test_with_a_split_to_train_on_only_shots_are_drawn(captions, data):
    split_of = {name: data.draw(st.sampled_from(PARTS)) for name in every_image(captions)}
    published = {part: {n for n, own in split_of.items() if own == part} for part in PARTS}
    assume(published["train"])
    with TemporaryDirectory() as folder:
        dataset = make_folder(Path(folder) / "own", captions, split_of)
    shots = data.draw(st.integers(1, len(published["train"])))
    view = PaperSplit(dataset, shots)
    drawn = set().union(*(images(view, language, "train") for language in captions))
    assert len(drawn) == shots and drawn <= published["train"]
    for language in captions:
        assert images(view, language, "train") == drawn & set(captions[language])
        for part in {"val", "test"} & set(dataset.splits):
            assert view.captions(language, part) == dataset.captions(language, part)
    with pytest.raises(XcliptError, match="shots"):
        PaperSplit(dataset, len(published["train"]) + 1)


@pytest.mark.parametrize("shots", [0, 11, 21, None])
def test_a_number_that_there_are_no_pictures_for(shots):
    value = "all" if shots is None else shots
    with pytest.raises(XcliptError, match=f"shots '{value}': .* takes a number from 1 to 10"):
        PaperSplit(in_one_piece(french(20)), shots)


def test_a_part_that_was_not_published_is_refused():
    view = PaperSplit(Given(french(2)), 1)
    assert len(view.captions("fr", "train")) == 1
    with pytest.raises(XcliptError, match="split 'test': given has none"):
        view.captions("fr", "test")


def test_own_splits_are_taken_as_they_are():
    emoji = EmojiDataset()
    assert protocol(emoji, "val", 50, "test") == (emoji, "val")
    assert protocol(emoji, None, None, "train") == (emoji, None)
    with pytest.raises(XcliptError, match=r"split 'full': is for .*; emoji has the splits train"):
        protocol(emoji, "full", 50, "test")


def test_of_a_data_set_in_one_piece_there_are_the_papers_and_all():
    dataset = in_one_piece(french(6), ("test",))
    view, part = protocol(dataset, PAPER, 2, "val")
    assert isinstance(view, PaperSplit) and part == "val"
    assert protocol(dataset, "full", 2, "test") == (dataset, None)


def test_the_real_xtd(data_root):
    dataset = open_dataset("xtd", data_root)
    every = [p.image for p in dataset.captions("en", None)]
    order = paper_order(1000)
    view = PaperSplit(dataset, 50)
    for part, numbers in zip(PARTS, (order[:50], order[50:100], order[100:]), strict=True):
        assert images(view, "ja", part) == {every[i] for i in numbers}
    with pytest.raises(XcliptError, match="shots '501'"):
        PaperSplit(dataset, 501)


def taken(
    workspace: Workspace, dataset: Dataset, language: str, shots: int, routine: int | None = None
) -> dict[str, set[str]]:
    """The pictures that training, validation and evaluation take of the paper's split."""
    request = AlignmentRequest(language, shots=shots, routine=routine, split=PAPER)
    alignment = build_alignment(workspace, dataset, request)
    held = hold_out(workspace.directory, dataset, alignment, None)
    queries = select_queries(
        workspace, dataset, EvaluationRequest([language], split=PAPER, shots=shots)
    )
    assert queries.split == alignment.split == PAPER
    texts = align(workspace, dataset, [replace(request, with_pictures=False)]) if routine else None
    assert texts is None or texts.rows[0].alignment.pairs == alignment.pairs
    return {
        "train": {pair.image for pair in alignment.pairs},
        "val": set(held.images),
        "test": set(queries.languages[0].images),
    }


@settings(max_examples=15, deadline=None)
@given(captioned(), st.booleans(), st.data())
def test_training_and_evaluation_take_the_same_parts(captions, published, data):
    pictures = every_image(captions)
    split_of = {name: PARTS[i % 3] for i, name in enumerate(pictures)} if published else None
    to_train_on = pictures[::3] if published else pictures[: len(pictures) // 2]
    shots = data.draw(st.integers(1, len(to_train_on)))
    with TemporaryDirectory() as root:
        dataset = make_folder(Path(root) / "own", captions, split_of)
        workspace = workspace_in(Path(root))
        expected = parts(dataset, shots)
        for language in captions:
            own = {part: expected[part] & set(captions[language]) for part in PARTS}
            if own["train"] and len(own["test"]) > 1:
                assert taken(workspace, dataset, language, shots) == own


def test_pictures_without_english_do_not_move_the_parts(tmp_path):
    names = [f"{i:02}.jpg" for i in range(20)]
    with_english = [name for name in names if name not in ("10.jpg", "14.jpg")]
    captions = {"en": one_caption(with_english, "en"), "fr": one_caption(names, "fr")}
    dataset = make_folder(tmp_path / "own", captions)
    workspace = workspace_in(tmp_path)
    french_alone = taken(workspace, dataset, "fr", 4)
    assert [len(french_alone[part]) for part in PARTS] == [4, 4, 12]
    assert sorted(name for part in french_alone.values() for name in part) == names
    aligned = taken(workspace, dataset, "fr", 4, routine=1)
    assert aligned == french_alone | {"train": french_alone["train"] & set(with_english)}
    english = taken(workspace, dataset, "en", 4)
    assert english == {part: french_alone[part] & set(with_english) for part in PARTS}


@pytest.mark.parametrize("language", ["de", "fr"])
def test_xtd_is_cut_in_three_by_its_published_order(tmp_path, make_picture, language):
    # Picture 3 has no French caption.
    pictures = [f"COCO_val2014_{i:012}.jpg" for i in range(40)]
    for image in pictures:
        make_picture(tmp_path / coco.IMAGES / image)
    for code, file in xtd.CAPTIONS_FILES.items():
        lines = [f"{code} {i}" if (code, i) != ("fr", 3) else "" for i in range(40)]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    (tmp_path / xtd.PICTURES_FILE).write_text("\n".join(pictures) + "\n")
    dataset = xtd.XtdDataset(tmp_path, tmp_path / coco.IMAGES)
    order = [pictures[i] for i in paper_order(40)]
    gone = {pictures[3]} if language == "fr" else set()
    assert taken(workspace_in(tmp_path), dataset, language, 8, routine=1) == {
        "train": {*order[:8]} - gone,
        "val": {*order[8:16]} - gone,
        "test": {*order[16:]} - gone,
    }
