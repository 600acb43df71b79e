import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from xclipt.data.formats.arrow import ArrowDataset, is_hub_id
from xclipt.data.formats.table import TableDataset
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_one_row_a_caption(tmp_path: Path, suffix: str, comma: str) -> None:
    rows = [
        "Image,caption,language,split",
        "a.jpg,one,en,train",
        "a.jpg,two,en,",
        "b.jpg,üç,TR,test",
    ]
    path = write(tmp_path / f"t{suffix}", *(row.replace(",", comma) for row in rows))
    dataset = TableDataset.from_file(path)
    assert dataset.name == path.name
    assert dataset.languages == ("en", "tr")
    assert dataset.splits == ("train", "test")
    assert dataset.captions("en", "train")[0].captions == ("one", "two")
    assert dataset.captions("tr", None)[0].captions == ("üç",)


def test_one_column_a_language(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv", "id,image,en,caption_jp,url", "7,a.jpg,one,一,http://x", "8,b.jpg,two,,"
    )
    dataset = TableDataset.from_file(path)
    assert dataset.languages == ("en", "ja")
    assert [item.image for item in dataset.captions("ja", None)] == ["a.jpg"]
    assert dataset.notes == [
        "t.csv: 2 pictures, captions in en, ja (columns en, caption_jp), no split; "
        "not read: id, url",
        f"{path}: 1 empty caption left out (the first: data row 2)",
    ]


def test_values_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ",image,caption,language", "0,1.jpg,null,en", "1,2.jpg,012,na")
    dataset = TableDataset.from_file(path)
    assert dataset.captions("en", None)[0].captions == ("null",)
    assert dataset.captions("na", None)[0].captions == ("012",)


def test_quotes_byte_order_mark_and_long_files(tmp_path: Path) -> None:
    lines = "".join(f"{k}.jpg,caption {k},en\r\n" for k in range(25_000))
    head = '\ufeffimage,caption,language\r\nq.jpg,"a ""big"", red\none",en\r\n'
    (tmp_path / "t.csv").write_text(head + lines, "utf-8", newline="")
    dataset = TableDataset.from_file(tmp_path / "t.csv")
    captioned = dataset.captions("en", None)
    assert len(captioned) == 25_001
    assert captioned[0].captions == ('a "big", red\none',)
    assert captioned[-1].captions == ("caption 24999",)
    assert "1 caption runs over several lines" in dataset.notes[1]


def test_pictures_are_beside_the_file_or_in_images(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    path = write(tmp_path / "t.csv", "image,en", "a.png,x", "sub/b.png,x", "c.png,x")
    beside = make_picture(tmp_path / "a.png")
    inside = make_picture(tmp_path / "images" / "sub" / "b.png")
    dataset = TableDataset.from_file(path)
    assert dataset.picture_path("a.png") == beside
    assert dataset.picture_path("sub/b.png") == inside
    assert dataset.picture_path("c.png") == tmp_path / "images" / "c.png"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "empty"),
        (
            ["image,caption", "a.jpg,x"],
            "nothing says which language the captions in column caption",
        ),
        (["caption,language", "x,en"], "needs the columns image, caption and language"),
        (["caption,language", "x,en"], "needs the columns"),
        (["image,caption,language"], "no data rows"),
        (["image,en,EN", "a,x,y"], "two columns of captions in 'en'"),
        (["image,en,en", "a,x,y"], "two columns have the same name"),
        (["image,caption,language", "a.jpg,x,en", "b.jpg,y,xx"], "data row 2: 'xx' is no language"),
        (["image,caption,language", "a.jpg,x,"], "data row 1: no language"),
        (["image,caption,language", "", "a.jpg,x"], "line 3 has 2 fields for 3 columns"),
        (["image,caption,language", 'a.jpg,"x""', "b.jpg,y,en"], "line 3: unexpected end of data"),
        (["image,caption,language", 'a.jpg,"x" y,en'], "line 2: ',' expected after"),
        (["image,caption,language", ",x,en"], "data row 1: no picture"),
        (["image,caption,language", "http://a.b/c.jpg,x,en"], "data row 1: http://a.b/c.jpg is an"),
        (["image,caption,language", "a\x00.jpg,x,en"], "data row 1: picture name"),
        (["image,caption,language", "a.jpg,x,en,more"], "line 2 has 4 fields for 3"),
        (["image,caption,language", "a.jpg,,en"], "no caption in 'en'"),
        (["image,en,split", "a.jpg,x,train", "a.jpg,y,test"], "data row 2: a.jpg is in split"),
    ],
)
def test_bad_tables_are_named(
    tmp_path: Path, lines: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.csv", *lines)
    with pytest.raises(XcliptError) as caught:
        TableDataset.from_file(path)
    assert "t.csv" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"image,en\na.jpg,x\nb.jpg,\xe9\n")
    with pytest.raises(XcliptError, match=r"t.csv: line 3 is not UTF-8"):
        TableDataset.from_file(tmp_path / "t.csv")
    with pytest.raises(XcliptError, match=r"u.csv: cannot read"):
        TableDataset.from_file(tmp_path / "u.csv")


def test_nothing_is_left_in_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    TableDataset.from_file(write(tmp_path / "t.csv", "image,en", "a.jpg,x"))
    assert not cache.exists()


def test_hub_ids_are_recognised() -> None:
    assert is_hub_id("owner/name-1.0_x")
    assert not any(map(is_hub_id, ("name", "a/b/c", "../x", "/x/y", "a/", "~/x", "")))


def picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A hub that is a dictionary, and a cache of its own."""
    shelf: dict[str, Any] = {}

    def load(identifier: str) -> Any:
        if isinstance(shelf[identifier], Exception):
            raise shelf[identifier]
        return shelf[identifier]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XCLIPT_CACHE", str(tmp_path / "cache"))
    return shelf


def test_hub_pictures_are_told_apart_by_content(hub: dict[str, Any]) -> None:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.List(datasets.Value("string")),
            "language": datasets.Value("string"),
        }
    )
    same_name = [{"bytes": picture(colour), "path": "0.png"} for colour in ("red", "blue", "red")]
    rows = {
        "image": same_name,
        "caption": [["one"], ["two", "2"], ["bir"]],
        "language": ["en", "en", "tr"],
    }
    table = datasets.Dataset.from_dict(rows, features=features)
    hub["owner/name"] = datasets.DatasetDict({"train": table, "validation": table.select([])})
    dataset = ArrowDataset.from_hub("owner/name")
    assert dataset.languages == ("en", "tr")
    assert dataset.splits == ("train",)
    english, turkish = dataset.captions("en", "train"), dataset.captions("tr", None)
    assert [item.captions for item in english] == [("one",), ("two", "2")]
    assert turkish[0].image == english[0].image != english[1].image
    colours = [load_picture(dataset.picture_path(item.image)).getpixel((0, 0)) for item in english]
    assert colours == [(255, 0, 0), (0, 0, 255)]


def test_hub_columns_a_language_and_splits(hub: dict[str, Any]) -> None:
    def table(*names: str) -> datasets.Dataset:
        return datasets.Dataset.from_dict(
            {"image": list(names), "en": ["x"] * len(names), "caption_fr": ["y"] * len(names)}
        )

    hub["owner/name"] = datasets.DatasetDict({"test": table("c"), "validation": table("a", "b")})
    dataset = ArrowDataset.from_hub("owner/name")
    assert dataset.splits == ("val", "test")
    assert [item.image for item in dataset.captions("fr", "val")] == ["a", "b"]
    assert not dataset.picture_path("a").exists()


def test_hub_errors_are_one_line(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    hub["no/such"] = datasets.exceptions.DatasetNotFoundError("long\nstory")
    hub["a/script"] = RuntimeError("Dataset scripts are no longer supported\n, but found x.py")
    hub["off/line"] = ConnectionError("Couldn't reach 'off/line' on the Hub")
    hub["odd/columns"] = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})})
    numbers = datasets.Dataset.from_dict({"image": ["a"], "caption": [3], "lang": ["en"]})
    hub["of/numbers"] = datasets.DatasetDict({"train": numbers})
    for identifier, says in (
        ("no/such", "no data set of that name"),
        ("a/script", "scripts are no longer supported"),
        ("off/line", "Couldn't reach"),
        ("odd/columns", "needs the columns"),
        ("of/numbers", "split 'train', row 1: column 'caption' holds int, not text"),
    ):
        with pytest.raises(XcliptError, match=f"^{identifier}") as caught:
            ArrowDataset.from_hub(identifier)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(XcliptError, match=r"127.0.0.1:9 cannot be reached .*HF_HUB_OFFLINE=1"):
        ArrowDataset.from_hub("no/such")
