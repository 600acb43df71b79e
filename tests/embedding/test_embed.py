"""Features into files: any number of shards, kills, damage, formats and smaller numbers."""

import io
import json
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from tests.factories.deltas import store_noise
from tests.factories.noting import Noting
from tests.factories.tiny import WORDS, tiny_backbone, workspace_in
from xclipt.data.formats.reading import Reading
from xclipt.data.pictures import load_picture
from xclipt.embedding.embed import (
    EmbeddingRequest,
    choose_delta,
    embed_pictures,
    embed_texts,
    merge_shards,
)
from xclipt.embedding.files import FILES, file_kind
from xclipt.embedding.shards import BLOCK, CHUNK, Block, Shards, rows_of_shard
from xclipt.embedding.sources import open_pictures, open_texts
from xclipt.errors import UsageError, XcliptError
from xclipt.progress import Silent

ROWS = 5 * CHUNK + 7


def texts(count: int = ROWS) -> list[str]:
    """Texts of one to six words, all different."""
    words = len(WORDS)
    numbers = [(i, i // words, i // words**2) for i in range(count)]
    return [
        " ".join(WORDS[n % words] for n in (*some, *some[: i % 4]))
        for i, some in enumerate(numbers)
    ]


def _read_pixels(path: Path) -> torch.Tensor:
    load_picture(path)  # which the tiny backbone does not do
    return _TINY.read_pixels(path)


_TINY = tiny_backbone()


@pytest.fixture
def workspace(tmp_path):
    found = workspace_in(tmp_path, replace(_TINY, read_pixels=_read_pixels))
    store_noise(found, "de", "new", 0.1)
    return found


@pytest.fixture
def lines(tmp_path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{text}\n" for text in texts()))
    return path


def embed(workspace, lines, out, language="de", **asked):
    """One shard, or all of it."""
    source = open_texts(lines, language, Reading())
    delta = choose_delta(workspace, language, None)
    return embed_texts(workspace, source, EmbeddingRequest(out, **asked), language, delta)


def in_shards(workspace, lines, out, shards, **asked):
    for shard in reversed(range(shards)):
        embed(workspace, lines, out, shards=shards, shard=shard, **asked)
    return merge_shards(out, Silent())


def bytes_of(*paths):
    return [path.read_bytes() for path in paths]


def both(out):
    return out, out.with_name(f"{out.name}.json")


@pytest.mark.parametrize(("rows", "shards"), [(0, 1), (1, 3), (64, 2), (65, 2), (1000, 7)])
def test_shards_share_whole_chunks_and_leave_none(rows, shards):
    parts = [rows_of_shard(rows, shards, shard) for shard in range(shards)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert all(part.start % CHUNK == 0 or not part for part in parts)
    chunks = [-(-len(part) // CHUNK) for part in parts]
    assert max(chunks) - min(chunks) <= 1


def test_features_are_those_of_the_model_in_the_order_of_the_lines(workspace, lines, tmp_path):
    import xclipt

    out = tmp_path / "out.npy"
    done = embed(workspace, lines, out)
    assert (done.encoded, done.description.rows) == (ROWS, ROWS)
    found = np.load(out)
    expected = xclipt.Model(workspace).encode_text(texts(), "de")
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    base = xclipt.Model(workspace).encode_text(texts())
    assert np.abs(found - base).max() > 1e-3, "the delta makes a difference here"


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_any_number_of_shards_gives_the_same_bytes(workspace, lines, tmp_path, suffix, numbers):
    whole = tmp_path / "one" / f"out{suffix}"
    embed(workspace, lines, whole, numbers=numbers)
    for shards in (2, 3, 9):
        out = tmp_path / str(shards) / f"out{suffix}"
        in_shards(workspace, lines, out, shards, numbers=numbers)
        assert bytes_of(*out.parent.iterdir()) == bytes_of(*whole.parent.iterdir())
        assert not Shards.folder(out).exists()


def test_what_a_killed_shard_left_is_gone_on_from(workspace, lines, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    embed(workspace, lines, whole)
    monkeypatch.setattr("xclipt.embedding.shards.BLOCK", CHUNK)
    encode, calls = type(workspace.backbone).encode_texts, []

    def killed(self, captions, *rest, **given):
        calls.append(len(captions))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, captions, *rest, **given)

    monkeypatch.setattr(type(workspace.backbone), "encode_texts", killed)
    with pytest.raises(KeyboardInterrupt):
        embed(workspace, lines, out)
    assert not out.exists() and len(list(Shards.folder(out).glob("*.safetensors"))) == 2
    done = embed(workspace, lines, out)
    assert done.encoded == ROWS - 2 * CHUNK
    assert out.read_bytes() == whole.read_bytes()


def test_shards_of_other_numbers_fit_together(workspace, lines, tmp_path):
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    embed(workspace, lines, whole)
    embed(workspace, lines, out, shards=2, shard=0)
    first = len(rows_of_shard(ROWS, 2, 0))
    lost = [embed(workspace, lines, out, shards=3, shard=shard).encoded for shard in range(3)]
    assert sum(lost) == ROWS - first and lost[0] == 0
    merge_shards(out, Silent())
    assert out.read_bytes() == whole.read_bytes()


def test_the_same_again_is_there_already_and_an_edited_file_is_made_anew(
    workspace, lines, tmp_path
):
    out = tmp_path / "out.npy"
    embed(workspace, lines, out)
    before = bytes_of(*both(out))
    assert embed(workspace, lines, out).encoded == 0
    assert embed(workspace, lines, out, shards=2, shard=1).encoded == 0
    damaged = bytearray(before[0])
    damaged[-1] ^= 1
    out.write_bytes(damaged)
    with pytest.raises(XcliptError, match="not what was written"):
        file_kind(out, "out")(out).require_sound()
    assert embed(workspace, lines, out).encoded == ROWS
    assert bytes_of(*both(out)) == before


def _killed(*given):
    raise KeyboardInterrupt


def test_a_kill_before_the_shards_are_gone_leaves_none_for_long(
    workspace, lines, tmp_path, monkeypatch
):
    out = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        patch.setattr(Shards, "remove", _killed)
        with pytest.raises(KeyboardInterrupt):
            embed(workspace, lines, out)
    assert Shards.folder(out).exists()
    assert embed(workspace, lines, out).encoded == 0
    assert not Shards.folder(out).exists()


def test_merging_says_which_shards_are_missing(workspace, lines, tmp_path):
    out = tmp_path / "out.npy"
    with pytest.raises(UsageError, match="no shards of it"):
        merge_shards(out, Silent())
    for shard in (0, 2):
        embed(workspace, lines, out, shards=4, shard=shard)
    with pytest.raises(XcliptError, match=r"run shards 1, 3 of 4 again"):
        merge_shards(out, Silent())
    assert not out.exists()


@pytest.mark.parametrize("how", ["a byte", "cut", "other rows", "other work"])
def test_a_damaged_shard_is_never_merged(workspace, lines, tmp_path, how):
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    embed(workspace, lines, whole)
    for shard in (0, 1):
        embed(workspace, lines, out, shards=2, shard=shard)
    first, second = sorted(Shards.folder(out).glob("*.safetensors"))
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    if how == "other rows":  # sound in itself, under the name of rows that it does not hold
        first.replace(first.with_name(f"{second.name[:20]}{first.name[20:]}"))
        second.unlink()
        embed(workspace, lines, out, shards=2, shard=0)
    elif how == "other work":  # of a process that runs on after its folder was deleted
        stray = replace(Shards.open(out), work=replace(Shards.open(out).work, numbers="int8"))
        second.unlink()
        features = np.ones((ROWS - 3 * CHUNK, 8), np.float32)
        rows = np.arange(3 * CHUNK, ROWS)
        stray.add(range(3 * CHUNK, ROWS), Block(list(map(str, rows)), rows, features, []))
    else:
        second.write_bytes(data if how == "a byte" else data[:-100])
    with pytest.raises(XcliptError, match=r"missing or damaged.*run shard 1 of 2 again"):
        merge_shards(out, Silent())
    assert embed(workspace, lines, out, shards=2, shard=1).encoded == ROWS - 3 * CHUNK
    merge_shards(out, Silent())
    assert out.read_bytes() == whole.read_bytes()


def test_shards_of_other_work_are_refused(workspace, lines, tmp_path):
    out = tmp_path / "out.npy"
    embed(workspace, lines, out, shards=2, shard=0)
    store_noise(workspace, "de", "newer", 0.2, seed=2)
    with pytest.raises(XcliptError, match=r"another delta \(de/newer here, de/new there\)"):
        embed(workspace, lines, out, shards=2, shard=1)
    other = replace(workspace, backbone=tiny_backbone(1))
    with pytest.raises(XcliptError, match="backbone fingerprint"):
        embed_texts(
            other, open_texts(lines, None, Reading()), EmbeddingRequest(out, shards=2, shard=1)
        )
    lines.write_text(lines.read_text().replace("chat", "chien"))
    with pytest.raises(XcliptError, match="source sha256"):
        embed(workspace, lines, out, shards=2, shard=1)


def test_files_of_other_libraries_have_what_was_written(workspace, lines, tmp_path):
    arrays = {}
    for suffix in FILES:
        embed(workspace, lines, tmp_path / f"out{suffix}")
        file = file_kind(tmp_path / f"out{suffix}", "out")(tmp_path / f"out{suffix}")
        file.require_sound()
        assert file.ids == [str(number) for number in range(1, ROWS + 1)]
        arrays[suffix] = np.concatenate(list(file.features()))
    tensors = load_file(tmp_path / "out.safetensors")
    table = pq.read_table(tmp_path / "out.parquet")
    described = json.loads((tmp_path / "out.npy.json").read_text())
    assert described["ids"] == json.loads(bytes(tensors["ids"])) == table["id"].to_pylist()
    assert described["work"]["delta"] == "de/new" and len(described["work"]["delta_sha256"]) == 64
    assert described["work"]["backbone_fingerprint"] == workspace.backbone.identity.fingerprint
    assert described["normalised"] and described["work"]["language"] == "de"
    loaded = np.array(table["features"].to_pylist(), np.float32)
    for found in (arrays[".safetensors"], arrays[".parquet"], tensors["features"], loaded):
        assert np.array_equal(found, arrays[".npy"])


@pytest.mark.parametrize("numbers", ["float16", "int8"])
def test_smaller_numbers_tell_what_they_lose(workspace, lines, tmp_path, numbers):
    out = tmp_path / "out.npy"
    loss = embed(workspace, lines, out, numbers=numbers).description.loss
    exact = tmp_path / "exact.npy"
    assert embed(workspace, lines, exact).description.loss is None
    full, small = np.load(exact), np.load(out).astype(np.float32)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert np.abs(full - small).max() < {"float16": 1e-3, "int8": 2e-2}[numbers]
    wanted, found = full @ full.T, full @ small.T
    shares = []
    for row in range(ROWS):
        others = [other for other in range(ROWS) if other != row]
        least = sorted(wanted[row, others])[-10]
        best = sorted(others, key=lambda other: -found[row, other])[:10]
        shares.append(np.mean([wanted[row, other] >= least - 1e-6 for other in best]))
    assert loss.recall == pytest.approx(np.mean(shares), abs=2e-3) and loss.rows == ROWS
    if numbers == "int8":
        assert 0.5 < loss.recall < 1, "a loss that is not there cannot be measured"
    few = tmp_path / "few.txt"
    few.write_text("un chat\nun chien\n")
    assert embed(workspace, few, tmp_path / "few.npy", numbers=numbers).description.loss is None


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(workspace, tmp_path, monkeypatch):
    """Nothing but blocks: what is alive at once of 8 blocks is that of 2."""
    monkeypatch.setattr("xclipt.embedding.embed.ROWS_AT_ONCE", BLOCK)
    peaks = []
    for blocks in (2, 8):
        path = tmp_path / f"{blocks}.txt"
        path.write_text("".join(f"{text}\n" for text in texts(64) * (blocks * BLOCK // 64)))
        tracemalloc.start()
        embed(workspace, path, tmp_path / f"{blocks}.npy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


@pytest.mark.parametrize("text", ["un chat\n\nun chien\n", "un chat\n   \n"])
def test_an_empty_line_would_shift_the_rows(tmp_path, text):
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(XcliptError, match="line 2: no text"):
        open_texts(path, None, Reading())


TABLES = {
    "a.csv": "id,caption\nx1,un chat\nx2,un chien\n",
    "a.tsv": "id\tde\ten\nx1\tun chat\ta cat\nx2\tun chien\ta dog\n",
    "a.jsonl": '{"id": "x1", "text": "un chat"}\n{"id": "x2", "text": "un chien", "more": 1}\n',
    "a.json": '[{"id": "x1", "text": "un chat"}, {"id": "x2", "text": "un chien"}]',
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_of_tables(tmp_path, name):
    path = tmp_path / name
    path.write_text(TABLES[name])
    source = open_texts(path, "de", Reading())
    assert list(source.read(0)) == [("x1", "un chat"), ("x2", "un chien")]
    assert list(source.read(1)) == [("x2", "un chien")] and source.rows == 2


def test_the_captions_of_xclipts_own_layout(tmp_path):
    path = tmp_path / "captions.de.jsonl"
    rows = [
        {"image": "a.jpg", "captions": ["un chat", "noir"]},
        {"image": "b.jpg", "captions": "x"},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    source = open_texts(path, "de", Reading())
    assert list(source.read(0)) == [("1#1", "un chat"), ("1#2", "noir"), ("2", "x")]
    assert source.rows == 3


def test_rows_of_another_language_are_never_encoded_as_this_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,lang,text\n1,de,ein Hund\n2,deu,eine Katze\n3,fr,un chat\n")
    with pytest.raises(XcliptError, match=r"data row 3: is in 'fr', by column lang"):
        open_texts(path, "de", Reading())
    assert open_texts(path, None, Reading()).rows == 3


def test_long_texts_are_told_of(workspace, tmp_path):
    (tmp_path / "a.txt").write_text("un chat\n" + "chat " * 30 + "\n")
    notes = Noting()
    told = replace(workspace, progress=notes)
    embed(told, tmp_path / "a.txt", tmp_path / "a.npy")
    assert any("1 of 2 texts do not fit the text tower's 16 tokens" in note for note in notes.notes)


def test_a_parquet_table_and_columns_that_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"key": [7, 8], "one": ["a", "b"], "two": ["c", "d"]}), path)
    with pytest.raises(XcliptError, match=r"key, one, two.*columns=caption=NAME"):
        open_texts(path, None, Reading())
    said = Reading(columns={"caption": "two", "id": "key"})
    assert list(open_texts(path, None, said).read(0)) == [("7", "c"), ("8", "d")]
    with pytest.raises(UsageError, match="no such column"):
        open_texts(path, None, Reading(columns={"caption": "three"}))
    with pytest.raises(XcliptError, match="holds int, not text"):
        open_texts(path, None, Reading(columns={"caption": "key"}))


def test_a_language_without_a_delta_is_refused_with_the_remedy(workspace):
    with pytest.raises(XcliptError, match=r"'fr' \(French\).*there: de.*fallback='base'"):
        choose_delta(workspace, "fr", None)
    assert choose_delta(workspace, "fr", None, "base") is None
    assert choose_delta(workspace, "en", None) is None is choose_delta(workspace, "de", "none")
    assert choose_delta(workspace, "de", "new").manifest.name == "new"
    with pytest.raises(XcliptError, match="no delta 'old'"):
        choose_delta(workspace, "de", "old")


@pytest.fixture
def photos(tmp_path, make_picture):
    folder = tmp_path / "photos"
    for number in range(CHUNK + 9):
        make_picture(folder / f"{number % 3}/{number:03}.png", f"#{number:02x}80{number:02x}")
    return folder


def pictures_in(workspace, folder, out, **asked):
    source = open_pictures(folder, None, Reading())
    return embed_pictures(workspace, source, EmbeddingRequest(out, **asked))


def test_pictures_of_a_folder_and_broken_ones_are_left_out(workspace, photos, tmp_path):
    (photos / "0/broken.png").write_text("no picture")
    out = tmp_path / "out.npy"
    done = pictures_in(workspace, photos, out)
    assert [one.id for one in done.left_out] == ["0/broken.png"]
    file = file_kind(out, "out")(out)
    wanted = sorted(p.relative_to(photos).as_posix() for p in photos.glob("*/[0-9]*.png"))
    assert file.ids == wanted and file.description.work.folder == str(photos)
    features = workspace.backbone.encode_pictures([photos / one for one in wanted])
    expected = torch.nn.functional.normalize(features, dim=-1).numpy()
    assert np.abs(np.load(out) - expected).max() < 1e-6
    shared = tmp_path / "shared.npy"
    for shard in (1, 0):
        pictures_in(workspace, photos, shared, shards=2, shard=shard)
    merge_shards(shared, Silent())
    assert bytes_of(*both(shared)) == bytes_of(*both(out))


def test_the_same_bytes_on_any_number_of_cores(backbone, photos, tmp_path):
    # The tests' own image tower remembers what it has seen.
    tower = backbone.image_tower._tower
    workspace = workspace_in(tmp_path, replace(backbone, image_tower=tower))
    before, outs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            outs.append(tmp_path / f"{threads}.npy")
            pictures_in(workspace, photos, outs[-1])
    finally:
        torch.set_num_threads(before)
    one, three = bytes_of(*outs)
    assert one == three


def test_a_list_of_paths_and_a_table_beside_its_pictures(workspace, photos, tmp_path):
    paths = sorted(photos.glob("*/*.png"))[:5]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path.relative_to(tmp_path)}\n" for path in reversed(paths)))
    pictures_in(workspace, listed, tmp_path / "list.npy")
    pictures_in(workspace, photos, tmp_path / "all.npy")
    table = tmp_path / "table.csv"
    rows = [f"{path.relative_to(tmp_path)},un chat\n" for path in paths]
    table.write_text("image,fr\n" + "".join(rows))
    pictures_in(workspace, table, tmp_path / "table.npy")
    whole = np.load(tmp_path / "all.npy")[:5]
    assert np.abs(np.load(tmp_path / "list.npy")[::-1] - whole).max() < 1e-6
    assert np.abs(np.load(tmp_path / "table.npy") - whole).max() < 1e-6


def test_pictures_that_lie_in_parquet_and_in_shards(workspace, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIPT_CACHE", str(tmp_path / "cache"))
    paths = sorted(photos.glob("*/*.png"))[:5]
    pictures_in(workspace, photos, tmp_path / "all.npy")
    rows = [{"image": {"bytes": p.read_bytes(), "path": p.name}, "fr": "un chat"} for p in paths]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in paths:
            tar.add(path, f"{path.stem}.png")
            caption = io.BytesIO(b"un chat")
            entry = tarfile.TarInfo(f"{path.stem}.txt")
            entry.size = len(caption.getvalue())
            tar.addfile(entry, caption)
    for place, said in (("table.parquet", Reading()), ("shard.tar", Reading("fr"))):
        out = tmp_path / f"{place}.npy"
        source = open_pictures(tmp_path / place, None, said)
        embed_pictures(workspace, source, EmbeddingRequest(out))
        assert np.abs(np.load(out) - np.load(tmp_path / "all.npy")[:5]).max() < 1e-6


def test_not_one_picture(workspace, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(UsageError, match="no pictures in it"):
        open_pictures(folder, None, Reading())
    (folder / "a.png").write_text("no picture")
    with pytest.raises(XcliptError, match=r"not one of its 1 files is a picture.*a\.png"):
        pictures_in(workspace, folder, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"out": Path("out.bin")}, "must end in .npy, .safetensors, .parquet"),
        ({"numbers": "int4"}, "choose float32, float16, int8"),
        ({"shards": 2}, "shard=0"),
        ({"shards": 2, "shard": 2}, "from 0 to 1"),
        ({"shard": 1}, "from 0 to 0"),
    ],
)
def test_requests_that_contradict_themselves(asked, part):
    request = EmbeddingRequest(**{"out": Path("out.npy")} | asked)
    with pytest.raises(UsageError) as error:
        request.require_valid()
    assert part in str(error.value)


@pytest.mark.parametrize("kind", [".npy", ".safetensors"])
def test_ids_of_which_one_byte_is_turned(workspace, lines, tmp_path, kind):
    out = tmp_path / f"out{kind}"
    embed(workspace, lines, out)
    file = out.with_name(f"{out.name}.json") if kind == ".npy" else out
    sound = file.read_bytes()
    for place in range(len(sound) - 30, len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 0x80
        file.write_bytes(damaged)
        with pytest.raises(XcliptError, match=rf"out\{kind}"):
            file_kind(out, "out")(out).require_sound()
