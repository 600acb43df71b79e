"""The index of a folder: what is encoded when, and what is found."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tests.factories.noting import Noting
from tests.factories.tiny import tiny_backbone, workspace_in
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError
from xclipt.search import index as index_module
from xclipt.search.index import PictureIndex, index_pictures
from xclipt.search.stored import check_index


@pytest.fixture
def encoded(monkeypatch):
    """Names of the pictures that the image tower was given."""
    from xclipt.backbones.backbone import Backbone

    names: list[str] = []
    encode = Backbone.encode_pictures
    monkeypatch.setattr(
        Backbone,
        "encode_pictures",
        lambda self, paths, progress=None: (
            names.extend(path.name for path in paths) or encode(self, paths, progress)
        ),
    )
    return names


def colours(path):
    """``(3, 4, 4)``: enough for the tiny image tower, which takes the mean."""
    return torch.tensor(list(load_picture(path).resize((4, 4)).getdata())).float().T.view(3, 4, 4)


@pytest.fixture
def workspace(tmp_path):
    return workspace_in(tmp_path, replace(tiny_backbone(), read_pixels=colours))


@pytest.fixture
def photos(tmp_path, make_picture):
    folder = tmp_path / "photos"
    make_picture(folder / "red.png")
    make_picture(folder / "holiday/blue.jpg", "blue")
    make_picture(folder / "green.PNG", "green")
    make_picture(folder / ".hidden.png")
    make_picture(folder / ".cache/thumb.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_every_picture_is_found_by_its_own_features(workspace, photos, encoded):
    index = index_pictures(workspace, photos)
    assert index.names == ("green.PNG", "holiday/blue.jpg", "red.png") and index.encoded == 3
    own = F.normalize(workspace.backbone.encode_pictures([photos / n for n in index.names]), dim=-1)
    assert torch.allclose(index.features, own, atol=1e-6)
    found = index.search(own, top=2)
    assert [hits[0].name for hits in found] == list(index.names)
    assert all(hits[0].score == pytest.approx(1, abs=1e-5) for hits in found)
    assert all(len(hits) == 2 and hits[0].score >= hits[1].score for hits in found)
    assert len(index.search(own[:1].numpy(), top=50)[0]) == 3


def test_only_what_is_new_or_changed_is_encoded(workspace, photos, encoded, make_picture):
    first = index_pictures(workspace, photos)
    assert sorted(encoded) == ["blue.jpg", "green.PNG", "red.png"]
    encoded.clear()
    again = index_pictures(workspace, photos)
    assert encoded == [] and again.encoded == 0
    assert torch.equal(again.features, first.features)
    make_picture(photos / "white.png", "white")
    make_picture(photos / "red.png", "orange", size=(9, 9))
    (photos / "green.PNG").unlink()
    changed = index_pictures(workspace, photos)
    assert sorted(encoded) == ["red.png", "white.png"] and changed.encoded == 2
    assert changed.names == ("holiday/blue.jpg", "red.png", "white.png")
    assert torch.equal(changed.features[0], first.features[1])
    assert not torch.allclose(changed.features[1], first.features[2])


def test_a_file_changed_within_its_size_is_seen(workspace, tmp_path, make_picture):
    folder = tmp_path / "photos"
    path = make_picture(folder / "a.bmp", "red")
    before = index_pictures(workspace, folder)
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    make_picture(path, "blue")
    os.utime(path, ns=(changed + 1, changed + 1))
    assert path.stat().st_size == size
    after = index_pictures(workspace, folder)
    assert after.encoded == 1 and not torch.equal(before.features, after.features)


def test_a_moved_picture_is_not_encoded_again(workspace, photos, encoded):
    index_pictures(workspace, photos)
    encoded.clear()
    (photos / "red.png").rename(photos / "holiday/first.png")
    index = index_pictures(workspace, photos)
    assert encoded == [] and "holiday/first.png" in index.names


def test_broken_files_are_left_out_named_and_not_tried_again(workspace, photos, monkeypatch):
    (photos / "cut.jpg").write_bytes(b"\xff\xd8 no picture")
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    index = index_pictures(workspace, photos)
    assert [b.path.name for b in index.broken] == ["cut.jpg"] and len(index.names) == 3
    tried = []
    monkeypatch.setattr("xclipt.search.index.find_broken", lambda paths: tried.extend(paths) or [])
    again = index_pictures(workspace, photos)
    assert again.broken == index.broken and not tried


def test_pipes_and_devices_are_named_and_never_waited_for(workspace, photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.png").symlink_to("/dev/zero")
    index = index_pictures(workspace, photos)
    assert len(index.names) == 3
    assert [(b.path.name, b.reason) for b in index.broken] == [
        (name, "cannot read (not a regular file)") for name in ("pipe.jpg", "zero.png")
    ]
    with pytest.raises(XcliptError, match=r"pipe\.jpg: .*not a regular file"):
        load_picture(photos / "pipe.jpg")


def test_a_damaged_index_is_made_again_from_the_features(workspace, photos, encoded):
    first = index_pictures(workspace, photos)
    encoded.clear()
    (file,) = (workspace.directory.root / "indexes").iterdir()
    for damage in (b"", file.read_bytes()[:-7], b"nonsense" * 40):
        file.write_bytes(damage)
        assert torch.equal(index_pictures(workspace, photos).features, first.features)
    assert encoded == []


def rewritten(file: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Change an index that stays a sound file."""
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    change(tensors, metadata)
    save_file(tensors, file, metadata)


def permute(tensors, metadata):
    tensors["features"] = tensors["features"].flip(0).contiguous()


def rename(tensors, metadata):
    metadata["names"] = metadata["names"].replace("red", "tan")


def redate(tensors, metadata):
    tensors["stamps"] += 1


def spoil(tensors, metadata):
    tensors["features"][1] = torch.nan


def spoil_without_hash(tensors, metadata):
    spoil(tensors, metadata)
    del metadata["sha256"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (permute, "its content is not what was written"),
        (rename, "its content is not what was written"),
        (redate, "its content is not what was written"),
        (spoil, "its content is not what was written"),
        (spoil_without_hash, "holds features that are not finite"),
        (lambda tensors, metadata: metadata.pop("names"), "no index that can be read"),
        (lambda tensors, metadata: metadata.update(names="[]"), "names and features are not"),
    ],
)
def test_an_index_that_was_tampered_with_is_made_again(photos, tmp_path, encoded, change, problem):
    listener = Noting()
    workspace = workspace_in(tmp_path, replace(tiny_backbone(), read_pixels=colours), listener)
    first = index_pictures(workspace, photos)
    (file,) = (workspace.directory.root / "indexes").iterdir()
    assert check_index(file) == ""
    encoded.clear()
    rewritten(file, change)
    assert check_index(file).startswith(problem)
    again = index_pictures(workspace, photos)
    assert again.names == first.names and torch.equal(again.features, first.features)
    (remark,) = listener.notes
    assert remark.startswith(f"{file}: {problem}") and remark.endswith(
        "the folder is indexed again"
    )
    assert check_index(file) == "" and encoded == []
    index_pictures(workspace, photos)
    assert len(listener.notes) == 1


def test_an_index_of_the_last_release_is_read_as_it_is(workspace, photos):
    first = index_pictures(workspace, photos)
    (file,) = (workspace.directory.root / "indexes").iterdir()
    rewritten(file, lambda tensors, metadata: metadata.pop("sha256"))
    before = file.read_bytes()
    assert check_index(file) == ""
    assert torch.equal(index_pictures(workspace, photos).features, first.features)
    assert file.read_bytes() == before


def test_a_picture_without_numbers_stops_the_index(workspace, photos):
    (photos / "cut.jpg").write_bytes(b"no picture")
    spoilt = replace(workspace.backbone, read_pixels=lambda path: colours(path) * torch.nan)
    with pytest.raises(XcliptError, match=r"^backbone tiny: its features of .*photos/green.PNG"):
        index_pictures(replace(workspace, backbone=spoilt), photos)
    assert not (workspace.directory.root / "indexes").exists()


def test_another_backbone_has_another_index(workspace, photos, tmp_path):
    first = index_pictures(workspace, photos)
    other = replace(tiny_backbone(seed=1), read_pixels=colours)
    second = index_pictures(workspace_in(tmp_path / "other", other), photos)
    assert second.encoded == 3 and not torch.allclose(first.features, second.features)


def test_folders_without_pictures_are_one_line(workspace, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.jpg").write_text("text")
    for name, message in (("none", "no such folder"), ("empty", "no pictures"), ("bad", "not one")):
        with pytest.raises(XcliptError, match=f"images '.*{name}': {message}"):
            index_pictures(workspace, tmp_path / name)


@pytest.mark.parametrize("biased", [False, True])
def test_many_pictures_are_ranked_in_parts_as_in_one(tmp_path, monkeypatch, biased):
    monkeypatch.setattr(index_module, "_PICTURES_AT_ONCE", 30)
    draw = torch.manual_seed(0)
    features = F.normalize(torch.randn(100, 8, generator=draw), dim=-1)
    queries = F.normalize(torch.randn(5, 8, generator=draw), dim=-1)
    bias = torch.rand(100, generator=draw) if biased else None
    index = PictureIndex(tmp_path, tuple(map(str, range(100))), features, 0, ())
    whole = queries @ features.T
    ranked = whole if bias is None else whole - bias
    for top in (1, 40, 200):
        rows = ranked.sort(dim=1, descending=True).indices[:, :top]
        for hits, right, scores in zip(index.search(queries, top, bias), rows, whole, strict=True):
            assert [int(hit.name) for hit in hits] == right.tolist()
            assert torch.tensor([hit.score for hit in hits]).allclose(scores[right])
            assert all((hit.corrected is None) != biased for hit in hits)


def test_pictures_that_cannot_be_opened_here_are_counted(workspace, photos, monkeypatch):
    monkeypatch.setattr(
        "xclipt.data.pictures.picture_suffixes", lambda: frozenset((".png", ".jpg"))
    )
    for name in ("a.heic", "holiday/b.HEIC", "c.jxl", ".hidden.heic", "d.mov"):
        (photos / name).write_bytes(b"\xff\x0a" + bytes(20))
    (photos / "e.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    index = index_pictures(workspace, photos)
    assert len(index.names) == 3
    assert index.unread == {".heic": 2, ".jxl": 1}
    assert [(b.path.name, "pillow-heif" in b.reason) for b in index.broken] == [("e.jpg", True)]
    tried = []
    real = index_module.find_broken
    monkeypatch.setattr(
        "xclipt.search.index.find_broken", lambda paths: real(tried.extend(p := [*paths]) or p)
    )
    index_pictures(workspace, photos)
    assert "e.jpg" in {path.name for path in tried}  # its package may have come since
    for name in (*index.names, "e.jpg"):
        (photos / name).unlink()
    with pytest.raises(XcliptError, match=r"only pictures that Pillow alone cannot read: 2 \.heic"):
        index_pictures(workspace, photos)
