"""The paper's indices, and a training that takes them."""

import pytest
import torch

from tests.tiny import tiny_backbone
from xclipt.alignment.alignment_set import AlignmentRequest, build_alignment
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.paper_split import paper_split
from xclipt.data.xtd import CAPTIONS_FILES, PICTURES_FILE, XtdDataset
from xclipt.errors import XcliptError
from xclipt.progress import Silent
from xclipt.training.held_out import hold_out
from xclipt.workspace import Workspace


def test_indices_are_those_of_randperm_with_seed_42():
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(42)).tolist()
    train, validate, test = paper_split(1000, 50)
    assert (train, validate, test) == (order[:50], order[50:100], order[100:])
    assert train[:5] == [542, 618, 816, 68, 94]
    assert paper_split(1000, 10)[0] == train[:10]


def test_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    paper_split(1000, 50)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("shots", [0, 11])
def test_too_many_shots(shots):
    with pytest.raises(ValueError, match="10 items"):
        paper_split(10, shots)


@pytest.fixture
def xtd(tmp_path, make_picture):
    """XTD's layout with 40 pictures; picture 3 has no French caption."""
    images = [f"COCO_val2014_{i:012}.jpg" for i in range(40)]
    for image in images:
        make_picture(tmp_path / "images" / image)
    for language, file in CAPTIONS_FILES.items():
        lines = [f"{language} {i}" if (language, i) != ("fr", 3) else "" for i in range(40)]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    (tmp_path / PICTURES_FILE).write_text("\n".join(images) + "\n")
    return XtdDataset(tmp_path, tmp_path / "images")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    backbone = tiny_backbone()
    directory, _ = ArtifactDirectory.open_or_create(tmp_path / "artifacts", backbone.identity)
    return Workspace(directory, backbone, Silent())


@pytest.mark.parametrize("language", ["de", "fr"])
def test_xtd_is_cut_in_three_by_its_published_order(workspace, xtd, language):
    request = AlignmentRequest(language=language, shots=8, split="paper")
    alignment = build_alignment(workspace, xtd, request)
    held = hold_out(workspace.directory, xtd, alignment, None)
    train, validate, _ = paper_split(40, 8)
    gone = {3} if language == "fr" else set()
    numbers = [int(pair.image[13:25]) for pair in alignment.pairs]
    assert sorted(numbers) == sorted(set(train) - gone)
    assert [int(image[13:25]) for image in held.images] == [i for i in validate if i not in gone]
    assert {pair.partner for pair in alignment.pairs} == {f"en {i}" for i in numbers}
    assert alignment.split == held.split == "paper"


def test_all_shots_or_too_many_are_refused(workspace, xtd):
    for shots in (None, 21):
        with pytest.raises(XcliptError, match="--split paper"):
            request = AlignmentRequest(language="de", shots=shots, split="paper")
            build_alignment(workspace, xtd, request)
