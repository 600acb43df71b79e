"""Indexes of faiss: what they find, what they lose, and what is never read."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.factories.tiny import tiny_backbone, workspace_in
from xclipt.data.formats.reading import Reading
from xclipt.embedding.embed import EmbeddingRequest, embed_pictures, embed_texts
from xclipt.embedding.sources import open_pictures, open_texts
from xclipt.errors import UsageError, XcliptError
from xclipt.progress import Silent
from xclipt.search.answer import Query
from xclipt.search.faiss_file import (
    KINDS,
    PictureFeatures,
    build_index,
    open_index_file,
    save_index,
    write_index_file,
)
from xclipt.search.index import PictureIndex
from xclipt.search.recall import TextQueries, measure_index

DIM, COUNT = 16, 2000


def random(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, DIM, generator=generator), dim=-1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> PictureIndex:
    names = tuple(f"images/{i}.png" for i in range(COUNT))
    return PictureIndex(tmp_path_factory.mktemp("photos"), names, random(COUNT, 0), 0, ())


@pytest.fixture(scope="module")
def pictures(exact) -> PictureFeatures:
    return PictureFeatures.of_index(exact, tiny_backbone().identity.fingerprint)


def written(pictures, kind, path):
    index = build_index(pictures, kind, Silent())
    write_index_file(path, index, pictures, kind, [])
    return open_index_file(path, tiny_backbone().identity)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_finds_is_what_exact_search_finds_first(exact, pictures, kind, tmp_path):
    found = written(pictures, kind, tmp_path / "a.faiss")
    assert found.names == exact.names and found.folder == exact.folder.resolve()
    queries = exact.features[::100]
    for ours, wanted in zip(found.search(queries, 20), exact.search(queries, 20), strict=True):
        assert wanted[0].name in [hit.name for hit in ours[: 20 if kind == "ivfpq" else 1]]
        assert ours[0].score == pytest.approx(1, abs=0.01 if kind != "ivfpq" else 0.5)
    assert len(found.search(queries[:1], 5000)[0]) == COUNT or kind in ("hnsw", "ivf", "ivfpq")
    if kind == "flat":
        ours, wanted = found.search(queries, 7)[3], exact.search(queries, 7)[3]
        assert [hit.name for hit in ours] == [hit.name for hit in wanted]


def measured(pictures, kind, queries, own=()):
    texts = TextQueries("t", tuple(Query("t", None) for _ in queries), own)
    return measure_index(build_index(pictures, kind, Silent()), pictures, texts, queries.numpy())


def recall_by_hand(pictures, index, queries, itself):
    features = np.concatenate(list(pictures.batches()))
    shares = []
    for query, own in zip(queries.numpy(), itself, strict=True):
        cosines = features @ query
        order = [i for i in np.argsort(-cosines) if i != own]
        _, found = index.search(query[None], 11)
        kept = [i for i in found[0] if i != own][:10]
        shares.append(len(set(kept) & set(order[:10])) / 10)
    return np.mean(shares)


def test_recall_of_texts_and_of_pictures_by_hand(pictures):
    queries = random(40, 7)
    text, picture = measured(pictures, "ivfpq", queries)
    index = build_index(pictures, "ivfpq", Silent())
    assert text.recall == pytest.approx(recall_by_hand(pictures, index, queries, [-1] * 40))
    own = np.unique(np.linspace(0, COUNT - 1, 500).astype(int))
    features = torch.from_numpy(pictures.rows(own))
    assert picture.recall == pytest.approx(recall_by_hand(pictures, index, features, own), abs=2e-3)
    assert (text.asked_with, text.queries, picture.queries) == ("texts", 40, 500)
    assert 0.1 < text.recall < 1 and text.own_exact is None
    assert all(one.recall == 1 for one in measured(pictures, "flat", queries))


def test_texts_that_lie_apart_lose_what_pictures_keep(exact):
    """Lists are of pictures that are alike; what texts ask for is not what makes these alike."""
    clustered, spread = random(50, 1).repeat(COUNT // 50, 1), 0.3 * random(COUNT, 2)
    clustered[:, DIM // 2 :], spread[:, : DIM // 2] = 0, 0
    clustered = F.normalize(clustered + spread, dim=-1)
    queries = random(100, 9)
    queries[:, : DIM // 2] = 0
    pictures = PictureFeatures.of_index(replace(exact, features=clustered), "f")
    text, picture = measured(pictures, "ivf", F.normalize(queries, dim=-1))
    assert picture.recall > 0.99 and text.recall < 0.8


def test_captions_are_looked_for_by_the_name_of_their_picture(exact, pictures):
    queries = F.normalize(exact.features[:30] + 0.1 * random(30, 3), dim=-1)
    text, _ = measured(pictures, "flat", queries, tuple(f"{i}.png" for i in range(30)))
    assert text.own_exact == text.own_found == 1
    text, _ = measured(pictures, "flat", queries, tuple(f"{i + 900}.png" for i in range(30)))
    assert text.own_exact == text.own_found < 0.2
    text, _ = measured(pictures, "flat", queries, tuple(f"{i}.jpg" for i in range(30)))
    assert text.own_exact is None


def test_too_few_pictures(exact, tmp_path):
    few = replace(exact, names=exact.names[:20], features=exact.features[:20])
    pictures = PictureFeatures.of_index(few, "f")
    assert measured(pictures, "hnsw", random(3, 1)) == []
    for kind in ("ivf", "ivfpq"):
        with pytest.raises(UsageError, match="20 pictures are too few"):
            build_index(pictures, kind, Silent())


def test_nothing_is_given_to_faiss_that_is_not_described(pictures, tmp_path, monkeypatch):
    path = tmp_path / "a.faiss"
    written(pictures, "flat", path)
    identity, read = tiny_backbone().identity, []
    monkeypatch.setattr(faiss, "read_index", read.append)
    with pytest.raises(XcliptError, match="backbone 000000000000's"):
        open_index_file(path, tiny_backbone(1).identity)
    data, beside = bytearray(path.read_bytes()), tmp_path / "a.faiss.json"
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(XcliptError, match="not what was written"):
        open_index_file(path, identity)
    described = beside.read_text()
    for text, part in (
        (described[:-20], "cannot read"),
        (described.replace('"format": 1', '"format": 2'), "format 2"),
        (described.replace('"rows": 2000', '"rows": "all"'), "rows is 'all'"),
        ("[]", "cannot read"),
    ):
        beside.write_text(text)
        with pytest.raises(XcliptError, match=part):
            open_index_file(path, identity)
    beside.unlink()
    with pytest.raises(XcliptError, match="no index is read that nothing describes"):
        open_index_file(path, identity)
    assert not read
    with pytest.raises(UsageError, match="no such file"):
        open_index_file(tmp_path / "b.faiss", identity)


def test_ids_that_are_not_the_files(pictures, tmp_path):
    path = tmp_path / "a.faiss"
    written(pictures, "flat", path)
    beside = tmp_path / "a.faiss.json"
    document = json.loads(beside.read_text())
    document["ids"].pop()
    beside.write_text(json.dumps(document))
    with pytest.raises(XcliptError, match="does not hold what"):
        open_index_file(path, tiny_backbone().identity)


def test_without_faiss(pictures, tmp_path, monkeypatch):
    written(pictures, "flat", tmp_path / "a.faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    for act in (
        lambda: build_index(pictures, "flat", Silent()),
        lambda: open_index_file(tmp_path / "a.faiss", tiny_backbone().identity),
    ):
        with pytest.raises(XcliptError, match=r"pip install 'xclipt\[index\]'"):
            act()


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_an_index_of_what_embed_wrote(tmp_path, make_picture, suffix, numbers):
    workspace = workspace_in(tmp_path)
    for number in range(40):
        make_picture(tmp_path / f"photos/{number:02}.png", f"#{number:02x}40{number:02x}")
    out = tmp_path / f"out{suffix}"
    source = open_pictures(tmp_path / "photos", None, Reading())
    embed_pictures(workspace, source, EmbeddingRequest(out, numbers))
    pictures = PictureFeatures.of_file(out)
    assert pictures.folder == tmp_path / "photos" and len(pictures.ids) == 40
    found = written(pictures, "flat", tmp_path / "a.faiss")
    own = workspace.backbone.encode_pictures([tmp_path / "photos/07.png"])
    (hits,) = found.search(F.normalize(own, dim=-1), 1)
    assert hits[0].name == "07.png" and hits[0].score == pytest.approx(1, abs=1e-2)
    with pytest.raises(XcliptError, match="the features are backbone 000000000000's"):
        pictures.require_backbone(tiny_backbone(1).identity)


def test_features_of_texts_are_no_pictures(tmp_path):
    workspace = workspace_in(tmp_path)
    (tmp_path / "lines.txt").write_text("un chat\n")
    out = tmp_path / "out.npy"
    source = open_texts(tmp_path / "lines.txt", None, Reading())
    embed_texts(workspace, source, EmbeddingRequest(out))
    with pytest.raises(UsageError, match="features of texts"):
        PictureFeatures.of_file(out)
    (tmp_path / "out.npy.json").unlink()
    with pytest.raises(XcliptError, match="not beside it"):
        PictureFeatures.of_file(out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_for_the_last_bytes():
    index = faiss.IndexFlatIP(4)
    index.add(np.eye(4, dtype=np.float32))  # so few that they are written when the file is closed
    with pytest.raises(OSError, match="No space left"):
        save_index(Path("/dev/full"), index)
