"""Own data in the formats that people have it in."""

import io
import json
import sys
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories.datasets import caption_row, write_captions
from xclipt.data.formats.known import FORMATS
from xclipt.data.pictures import load_picture
from xclipt.data.registry import open_dataset
from xclipt.errors import UsageError, XcliptError


def dump(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), "utf-8")
    return path


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 9, "caption": "bir köpek"},
        {"id": 2, "image_id": 7, "caption": "iki kedi"},
        {"id": 3, "image_id": 9, "caption": "köpek "},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "A dog ."}, {"raw": "Dog"}]},
        {"filename": "b.jpg", "split": "val", "sentences": [{"raw": "A cat ."}]},
        {"filename": "c.jpg", "split": "restval", "sentences": [{"raw": "A cow ."}]},
    ],
    "dataset": "flickr30k",
}  # fmt: skip


def test_coco_captions(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    path = dump(tmp_path / "captions_val2014.json", COCO)
    picture = make_picture(tmp_path / "val2014" / "a.jpg")
    dataset = open_dataset(path, caption_lang="tr")
    captions = {item.image: item.captions for item in dataset.captions("tr", None)}
    assert captions == {"b.jpg": ("bir köpek", "köpek"), "a.jpg": ("iki kedi",)}
    assert dataset.picture_path("a.jpg") == picture
    assert dataset.notes == [
        "captions_val2014.json: 2 pictures, captions in tr (column caption), no split; "
        "COCO's layout"
    ]
    with pytest.raises(XcliptError, match="`caption_lang=CODE` does"):
        open_dataset(path)
    broken = {**COCO, "annotations": [*COCO["annotations"], {"image_id": 8, "caption": "x"}]}  # type: ignore[misc]
    with pytest.raises(XcliptError, match=r"c.json: annotation 4: no image has the id 8"):
        open_dataset(dump(tmp_path / "c.json", broken), caption_lang="tr")


def test_coco_pictures_beside_its_annotations(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    path = dump(tmp_path / "annotations" / "captions_val2014.json", COCO)
    picture = make_picture(tmp_path / "val2014" / "a.jpg")
    assert open_dataset(path, caption_lang="tr").picture_path("a.jpg") == picture


def test_karpathys_splits(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    path = dump(tmp_path / "dataset_flickr30k.json", KARPATHY)
    picture = make_picture(tmp_path / "flickr30k-images" / "b.jpg")
    dataset = open_dataset(path, caption_lang="en")
    assert dataset.splits == ("train", "val")
    assert [p.image for p in dataset.captions("en", "train")] == ["a.jpg", "c.jpg"]
    assert dataset.captions("en", "train")[0].captions == ("A dog .", "Dog")
    assert dataset.picture_path("b.jpg") == picture
    images = [{**image, "filepath": "val2014"} for image in KARPATHY["images"]]  # type: ignore[dict-item]
    dataset = open_dataset(dump(tmp_path / "k.json", {"images": images}), caption_lang="en")
    assert dataset.captions("en", "val")[0].image == "val2014/b.jpg"
    del images[1]["sentences"]
    with pytest.raises(XcliptError, match=r"k.json: what follows image 1 has no 'sentences'"):
        open_dataset(dump(tmp_path / "k.json", {"images": images}), caption_lang="en")


def test_json_as_a_table(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "caption": "un", "lang": "fr"},
        {"image": "a.jpg", "caption": ["deux", "trois"], "lang": "fr"},
        {"image": "b.jpg", "caption": "one", "lang": "en", "split": "test"},
    ]
    for path in (dump(tmp_path / "t.json", rows), lines(tmp_path / "t.jsonl", *rows)):
        dataset = open_dataset(path)
        assert dataset.languages == ("en", "fr")
        assert dataset.captions("fr", None)[0].captions == ("un", "deux", "trois")
        assert dataset.splits == ("test",)
    for text, says in (
        ("{", "is not JSON"),
        ('{"a": 1}', "neither COCO's captions"),
        ("[]", "neither COCO's captions"),
        ("[1]", "entry 1: not an object"),
        ('[{"image": 3, "en": "x"}]', "entry 1: no picture in column 'image'"),
    ):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(XcliptError, match=says) as caught:
            open_dataset(tmp_path / "t.json")
        assert "t.json" in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "t.jsonl").write_text('{"image": "a.jpg", "en": "x"}\n\n[1]\n')
    with pytest.raises(XcliptError, match=r"t.jsonl: line 3: not an object"):
        open_dataset(tmp_path / "t.jsonl")


def test_captions_by_the_names_of_pictures(tmp_path: Path) -> None:
    path = dump(tmp_path / "c.json", {"a.jpg": ["un chien", "le chien"], "x/b.png": "un chat"})
    dataset = open_dataset(path, caption_lang="fr")
    first, second = dataset.captions("fr", None)
    assert (first.captions, second.image) == (("un chien", "le chien"), "x/b.png")
    with pytest.raises(XcliptError, match="neither COCO's captions"):
        open_dataset(dump(tmp_path / "c.json", {"a": "un chien"}), caption_lang="fr")


def test_a_folder_of_a_data_set_is_named(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    """As archives unpack: what is meant lies one folder deeper."""
    make_picture(tmp_path / "mine" / "images" / "a.jpg")
    below = tmp_path / "mine" / "annotations"
    below.mkdir()
    (below / "captions.csv").write_text("image,fr\na.jpg,un chien\n")
    with pytest.raises(XcliptError, match=f"holds no captions itself, but {below} does"):
        open_dataset(tmp_path / "mine")
    assert open_dataset(below).languages == ("fr",)


def test_a_caption_a_line_in_our_own_layout(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "caption": text} for text in ("un", "deux")]
    write_captions(tmp_path, "fr", *rows, caption_row("b.jpg", "trois"))
    dataset = open_dataset(tmp_path)
    assert [p.captions for p in dataset.captions("fr", None)] == [("un", "deux"), ("trois",)]
    with pytest.raises(UsageError, match=r"needs none; leave it out"):
        open_dataset(tmp_path, caption_lang="fr")


def test_text_files_beside_the_pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    for name, texts in {
        "a.jpg": {"fr": "un chien\n\nle chien\n", "tr": "bir köpek"},
        "sub/b.v2.PNG": {"fr": "un chat"},
        "c.jpg": {},
    }.items():
        picture = make_picture(tmp_path / name)
        for language, text in texts.items():
            picture.with_suffix(f".{language}.txt").write_text(text, "utf-8")
    (tmp_path / "notes.txt").write_text("photographed in May")
    dataset = open_dataset(tmp_path)
    assert dataset.languages == ("fr", "tr")
    first, second = dataset.captions("fr", None)
    assert (first.image, first.captions) == ("a.jpg", ("un chien", "le chien"))
    assert dataset.picture_path(second.image).samefile(tmp_path / "sub" / "b.v2.PNG")
    assert dataset.notes == [
        f"{tmp_path.name}: 2 pictures, captions in fr, tr (NAME.LANG.txt beside each), no split"
    ]
    (tmp_path / "a.german.txt").write_text("ein Hund")
    (tmp_path / "a.draft.txt").write_text("???")
    dataset = open_dataset(tmp_path)
    assert dataset.languages == ("de", "fr", "tr")
    assert dataset.notes[1].endswith(
        "1 text file is not read, since no language is called so (the first: a.draft.txt)"
    )
    (tmp_path / "c.txt").write_text("une vache")
    with pytest.raises(UsageError, match=r"c.txt: nothing says which language"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, caption_lang="fr").captions("fr", None)) == 3
    (tmp_path / "c.txt").write_bytes(b"une \xe9toile")
    with pytest.raises(XcliptError, match=r"c.txt: line 1 is not UTF-8 but perhaps"):
        open_dataset(tmp_path, caption_lang="fr")
    make_picture(tmp_path / "c.png")
    with pytest.raises(XcliptError, match=r"c.jpg and c.png share the captions in c.txt|c.jpg"):
        open_dataset(tmp_path, caption_lang="fr", encoding="cp1252")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_image_folders(tmp_path: Path, form: str, make_picture: Callable[..., Path]) -> None:
    def write(folder: Path, *names: str) -> None:
        rows = [{"file_name": name, "text": f"text {name}"} for name in names]
        lines(folder / "metadata.jsonl", *rows)
        if form == "csv":
            (folder / "metadata.jsonl").unlink()
            text = "".join(f"{row['file_name']},{row['text']}\n" for row in rows)
            (folder / "metadata.csv").write_text(f"file_name,text\n{text}")

    write(tmp_path / "flat", "0.jpg", "sub/1.jpg")
    picture = make_picture(tmp_path / "flat" / "sub" / "1.jpg")
    dataset = open_dataset(tmp_path / "flat", caption_lang="en")
    assert dataset.splits == ()
    assert dataset.picture_path("sub/1.jpg") == picture
    write(tmp_path / "split" / "train", "0.jpg", "1.jpg")
    write(tmp_path / "split" / "validation", "0.jpg")
    picture = make_picture(tmp_path / "split" / "validation" / "0.jpg")
    dataset = open_dataset(tmp_path / "split", caption_lang="en")
    assert dataset.splits == ("train", "val")
    (one,) = dataset.captions("en", "val")
    assert dataset.picture_path(one.image) == picture
    (tmp_path / "flat" / "metadata.csv").write_text("file_name,text\n0.jpg,x\n")
    lines(tmp_path / "flat" / "metadata.jsonl", {"file_name": "0.jpg", "text": "x"})
    with pytest.raises(XcliptError, match=r"metadata.csv and metadata.jsonl; keep one"):
        open_dataset(tmp_path / "flat", caption_lang="en")


def test_the_only_table_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,en\na.jpg,x\n")
    (tmp_path / "readme.txt").write_text("Words, and words.\n")
    # What lies beside a table more often than not.
    dump(tmp_path / "settings.json", [{"width": 3}])
    dump(tmp_path / "dataset_info.json", {"images": 3})
    lines(tmp_path / "log.jsonl", {"step": 1})
    (tmp_path / "images.tar").touch()
    (tmp_path / "cut.json").write_text("{")
    assert open_dataset(tmp_path).languages == ("en",)
    (tmp_path / "b.tsv").write_text("image\tfr\na.jpg\tx\n")
    with pytest.raises(XcliptError, match=r"a.csv and b.tsv may all be .* name one of these"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["c.json", "c.jsonl", "c.ndjson", "karpathy.json"])
def test_json_is_a_folders_table_by_what_it_holds(tmp_path: Path, name: str) -> None:
    row = {"image": "a.jpg", "caption": "x"}
    if name == "karpathy.json":
        dump(tmp_path / name, KARPATHY)
    else:
        (tmp_path / name).write_text(json.dumps([row] if name == "c.json" else row))
    assert open_dataset(tmp_path, caption_lang="en").captions("en", None)[0].image == "a.jpg"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XCLIPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_parquet_with_pictures_in_it(
    tmp_path: Path, cache: Path, make_picture: Callable[..., Path]
) -> None:
    import datasets

    def table(*colours: str) -> Any:
        pictures = [make_picture(tmp_path / f"{c}.png", c).read_bytes() for c in colours]
        rows = {
            "photo": [{"bytes": data, "path": "0.png"} for data in pictures],
            "text": [f"a {c} one" for c in colours],
        }
        kinds = {"photo": datasets.Image(), "text": datasets.Value("string")}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))

    folder = tmp_path / "shards"
    folder.mkdir()
    table("red", "blue").to_parquet(folder / "train-00000-of-00001.parquet")
    table("lime").to_parquet(folder / "validation-00000-of-00001.parquet")
    dataset = open_dataset(folder, caption_lang="en")
    assert dataset.splits == ("train", "val")
    (item,) = dataset.captions("en", "val")
    path = dataset.picture_path(item.image)
    assert path.is_relative_to(cache)
    assert load_picture(path).getpixel((0, 0)) == (0, 255, 0)
    single = open_dataset(folder / "train-00000-of-00001.parquet", caption_lang="en")
    assert len(single.captions("en", "train")) == 2
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(XcliptError, match="datasets cannot read it") as caught:
        open_dataset(folder, caption_lang="en")
    assert "\n" not in str(caught.value)


def test_parquet_of_names(tmp_path: Path, cache: Path, make_picture: Callable[..., Path]) -> None:
    import datasets

    rows = {"no": [1, 2], "file_name": ["a.png", "b.png"], "en": ["x", "y"], "tr": ["ç", "ş"]}
    path = tmp_path / "mine" / "t.parquet"
    datasets.Dataset.from_dict(rows).to_parquet(path)
    picture = make_picture(path.parent / "images" / "b.png")
    dataset = open_dataset(path)
    assert (dataset.languages, dataset.splits) == (("en", "tr"), ())
    assert dataset.picture_path("b.png") == picture
    assert dataset.notes[0].endswith("; not read: no")


@pytest.mark.parametrize("form", ["structures", "bytes"])
def test_parquet_with_pictures_that_nothing_calls_so(
    tmp_path: Path, cache: Path, form: str, make_picture: Callable[..., Path]
) -> None:
    """As pandas or polars write them: the three are not one, though their names are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    colours = ("red", "lime", "blue")
    pictures = [make_picture(tmp_path / f"{c}.png", c).read_bytes() for c in colours]
    column = [{"bytes": data, "path": "0.png"} for data in pictures]
    rows = {"image": column if form == "structures" else pictures, "en": list(colours)}
    path = tmp_path / "mine" / "t.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table(rows), path)
    dataset = open_dataset(path)
    found = dataset.captions("en", None)
    assert [item.captions for item in found] == [(colour,) for colour in colours]
    shades = [load_picture(dataset.picture_path(item.image)).getpixel((0, 0)) for item in found]
    assert shades == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    names = {"image": [f"{colour}.png" for colour in colours], "hash": [b"1", b"2", b"3"]}
    pq.write_table(pa.table({**names, "en": list(colours)}), path)
    assert open_dataset(path).captions("en", None)[0].image == "red.png"
    pq.write_table(pa.table({**rows, "image": [{"bytes": None, "path": "red.png"}] * 3}), path)
    assert open_dataset(path).captions("en", None)[0].captions == colours


def test_webdataset_shards(tmp_path: Path, cache: Path, make_picture: Callable[..., Path]) -> None:
    def shard(path: Path, **members: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                entry = tarfile.TarInfo(name.replace("_", "."))
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))

    red = make_picture(tmp_path / "r.png", "red").read_bytes()
    blue = make_picture(tmp_path / "b.png", "blue").read_bytes()
    shard(tmp_path / "w" / "000.tar", a_png=red, a_txt=b"a red one")
    shard(tmp_path / "w" / "001.tar", b_png=blue, b_txt=b"a blue one")
    dataset = open_dataset(tmp_path / "w", caption_lang="en")
    first, second = dataset.captions("en", None)
    assert (dataset.splits, first.captions) == ((), ("a red one",))
    assert load_picture(dataset.picture_path(second.image)).getpixel((0, 0)) == (0, 0, 255)
    shard(tmp_path / "l.tar", a_png=red, a_fr_txt=b"un rouge", a_tr_txt="kırmızı".encode())
    assert open_dataset(tmp_path / "l.tar").languages == ("fr", "tr")
    said = json.dumps({"caption": "rot", "language": "de", "width": 8}).encode()
    shard(tmp_path / "j.tar", a_png=red, a_json=said)
    assert open_dataset(tmp_path / "j.tar").captions("de", None)[0].captions == ("rot",)


def test_workbooks(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    book = openpyxl.Workbook()
    for row in (
        ("No", "file_name", "en", "tr"),
        (1, "007.jpg", "null", "üç"),
        (2, "2.jpg", "x", "y"),
    ):
        book.active.append(row)
    book.create_sheet("empty")
    book.save(path)
    dataset = open_dataset(path)
    assert dataset.languages == ("en", "tr")
    assert dataset.captions("en", None)[0].captions == ("null",)
    assert dataset.notes == [
        "t.xlsx: 2 pictures, captions in en, tr (columns en, tr), no split; sheet Sheet; "
        "not read: No"
    ]
    book["empty"].append(("image", "en"))
    book["empty"].append(("a.jpg", "x"))
    book.save(path)
    with pytest.raises(XcliptError, match="the sheets Sheet, empty all hold something"):
        open_dataset(path)
    path.write_bytes(b"PK no more")
    with pytest.raises(XcliptError, match="not a workbook"):
        open_dataset(path)


def test_workbooks_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(XcliptError, match="`pip install openpyxl pandas`"):
        open_dataset(tmp_path / "t.xlsx")
    for suffix, module, package in ((".xls", "xlrd", "xlrd"), (".ods", "odf", "odfpy")):
        monkeypatch.setitem(sys.modules, module, None)
        (tmp_path / f"t{suffix}").touch()
        with pytest.raises(XcliptError, match=f"`pip install {package} pandas`; or save it as CSV"):
            open_dataset(tmp_path / f"t{suffix}")


@pytest.mark.parametrize(("written", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_accented_names_in_either_spelling(
    tmp_path: Path, written: Any, on_disk: Any, make_picture: Callable[..., Path]
) -> None:
    name = "Übung/Ça va.png"
    folder = write_captions(
        tmp_path / "own", "fr", caption_row(unicodedata.normalize(written, name), "x")
    ).parent
    write_captions(folder, "en", caption_row(unicodedata.normalize(on_disk, name), "x"))
    table = tmp_path / "own" / "t.csv"
    table.write_text(f"image,fr\n{unicodedata.normalize(written, name)},x\n", "utf-8")
    picture = make_picture(folder / "images" / unicodedata.normalize(on_disk, name))
    for dataset in (open_dataset(folder), open_dataset(table)):
        (item,) = dataset.captions("fr", None)
        assert dataset.picture_path(item.image) == picture
        assert {
            p.image for language in dataset.languages for p in dataset.captions(language, None)
        } == {item.image}


def test_formats_are_told_apart_by_their_endings() -> None:
    endings = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(endings) == len(set(endings))
