"""Delimited text in whatever way people's programs write it."""

import csv
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xclipt.data.formats.delimited import sniff
from xclipt.data.formats.encodings import read_text
from xclipt.data.formats.table import TableDataset
from xclipt.data.registry import open_dataset
from xclipt.errors import UsageError, XcliptError


def image_column(name: str) -> bool:
    return name == "image"


def rows_of(path: Path, text: str, encoding: str = "utf-8") -> list[list[str]]:
    path.write_bytes(text.encode(encoding))
    file = sniff(path, image_column)
    return [list(file.names), *file.rows()]


TEXTS = (
    ("un chien, noir; et | blanc\tlà", "fr"),
    ('il dit "oui", puis\nrien', "fr"),
    ("çığ", "tr"),
    ("it's a dog's life", "en"),
)


@pytest.mark.parametrize("separator", ",;|\t")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_separator_quoting_and_unicode_encoding(
    tmp_path: Path, separator: str, end: str, quoting: int, encoding: str
) -> None:
    rows = [
        ["image", "caption", "language"],
        *([f"{i}.jpg", *texts] for i, texts in enumerate(TEXTS)),
    ]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    assert rows_of(tmp_path / "t.csv", out.getvalue(), encoding) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('image, caption\na.jpg, "x, y"\n', [["image", "caption"], ["a.jpg", "x, y"]]),
        ("'image';'caption'\n'a.jpg';'x; y'\n", [["image", "caption"], ["a.jpg", "x; y"]]),
        (
            "image,caption\n'a.jpg','x, y'\n'b.jpg','l''eau'\n",
            [["image", "caption"], ["a.jpg", "x, y"], ["b.jpg", "l'eau"]],
        ),
        (
            "image,caption\na.jpg,'tis\nb.jpg,x\nc.jpg,'y'\n",
            [["image", "caption"], ["a.jpg", "'tis"], ["b.jpg", "x"], ["c.jpg", "'y'"]],
        ),
        ('image,caption\na.jpg,"a \\"b\\" c"\n', [["image", "caption"], ["a.jpg", 'a "b" c']]),
        ('image\tcaption\na.jpg\t"x" y\n', [["image", "caption"], ["a.jpg", '"x" y']]),
        ("sep=;\r\nimage;caption\r\na.jpg;x, y\r\n", [["image", "caption"], ["a.jpg", "x, y"]]),
        ("image,caption\ra.jpg,x\r", [["image", "caption"], ["a.jpg", "x"]]),
        (
            "image;caption;;\na.jpg;x;;\n",
            [["image", "caption", "unnamed 2", "unnamed 3"], ["a.jpg", "x", "", ""]],
        ),
        ("image,caption\na.jpg,x,,\n", [["image", "caption"], ["a.jpg", "x"]]),
        # Commas in every row, and as many of them, do not make columns of the header.
        (
            "image;caption\na.jpg;x, y\nb.jpg;z, w\n",
            [["image", "caption"], ["a.jpg", "x, y"], ["b.jpg", "z, w"]],
        ),
        # No column that is looked for: what makes rows of one length.
        (
            "bild|text\na.jpg|x, y\nb.jpg|z, w, v\n",
            [["bild", "text"], ["a.jpg", "x, y"], ["b.jpg", "z, w, v"]],
        ),
    ],
)
def test_ways_of_writing(tmp_path: Path, text: str, rows: list[list[str]]) -> None:
    assert rows_of(tmp_path / "t.csv", text) == rows


def test_two_separators_that_do_as_well_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XcliptError, match=r"commas or semicolons.*`columns=image=NAME`"):
        rows_of(tmp_path / "t.csv", "bild;a,text\nx.jpg;b,y\n")


def test_a_quotation_mark_far_down_is_named_by_its_line(tmp_path: Path) -> None:
    lines = [f"{i}.jpg,x\n" for i in range(40_000)]
    lines[30_000] = '30000.jpg,"x" y\n'
    with pytest.raises(XcliptError, match="line 30002: ',' expected after"):
        rows_of(tmp_path / "t.csv", "image,caption\n" + "".join(lines))


def test_rows_are_read_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("image;caption\n")
        file.writelines(f"{i}.jpg;caption number {i}\n" for i in range(200_000))
    tracemalloc.start()
    count = sum(1 for _ in sniff(path, image_column).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert path.stat().st_size > 5_000_000 > 2 * peak


CODE_PAGES = [
    ("cp1254", "bir köpek çimlerde koşuyor, şapkalı adam ığdır"),
    ("cp1252", "un chien court à travers l'été, où là-bas"),
    ("cp1251", "собака бежит по траве"),
    ("gb18030", "一只狗在草地上奔跑，很快"),
    ("cp932", "犬が芝生の上を走っている"),
    ("cp949", "개가 잔디 위를 달린다"),
]


@pytest.mark.parametrize(("encoding", "caption"), CODE_PAGES)
def test_a_code_page_is_proposed_and_taken_but_never_guessed(
    tmp_path: Path, encoding: str, caption: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f"image;caption;lang\na.jpg;x;en\nb.jpg;{caption};en\n".encode(encoding))
    with pytest.raises(XcliptError, match=r"t.csv: line 3 is not UTF-8 but perhaps ") as caught:
        open_dataset(path)
    # The words stand there as each reading has them, so that a person can tell.
    assert encoding in str(caught.value) and "`encoding=" in str(caught.value)
    assert "\n" not in str(caught.value)
    items = open_dataset(path, encoding=encoding).captions("en", None)
    assert items[1].captions == (caption,)


def test_what_is_as_likely_is_proposed_by_what_people_have(tmp_path: Path) -> None:
    """Spanish reads nearly the same by the page of Central Europe."""
    rows = "".join(f"{n}.jpg;¿qué está haciendo el perro aquí, el {n}?;es\n" for n in range(9))
    (tmp_path / "t.csv").write_bytes(f"image;caption;lang\n{rows}".encode("cp1252"))
    with pytest.raises(XcliptError, match=r"perhaps cp1252 \("):
        open_dataset(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("image;caption\na.jpg;собака бежит\n".encode("cp866"))
    with pytest.raises(XcliptError, match=r" cp866 \('.*собака бежит"):
        open_dataset(tmp_path / "t.csv")


def test_encodings_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,en\na.jpg,x\n".encode("utf-16"))
    for encoding, says in (
        ("cp1252", "begins with the byte order mark of utf-16"),
        ("latin-17", "no encoding that Python knows"),
        ("base64", "no encoding that Python knows"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            open_dataset(path, encoding=encoding)
        assert caught.value.field == "encoding"
    path.write_bytes("image,en\na.jpg,x\n".encode("utf-16-le"))
    with pytest.raises(XcliptError, match="`encoding=utf-16-le`"):
        open_dataset(path)
    assert open_dataset(path, encoding="utf-16-le").languages == ("en",)
    path.write_bytes("image,en\na.jpg,x\n".encode("utf-16")[:-1])
    with pytest.raises(XcliptError, match="damaged UTF-16"):
        open_dataset(path)
    path.write_bytes(b"image,en\na.jpg,\x81\n")
    with pytest.raises(XcliptError, match="line 2 is not cp1252; name another"):
        open_dataset(path, encoding="cp1252")


def test_all_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("a\r\nb\u2028c".encode("utf-8-sig"))
    assert read_text(tmp_path / "t") == "a\r\nb\u2028c"


KAGGLE_30K = """image_name| comment_number| comment
1.jpg| 0| A dog runs , fast .
1.jpg| 1| " Peace " sign .
2.jpg| 0| Two men , one old , talk .
2.jpg| 4   A dog runs across the grass .
"""


def test_flickr30k_as_kaggle_has_it(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(KAGGLE_30K)
    with pytest.raises(XcliptError, match=r"in column comment are in; `caption_lang=CODE`"):
        open_dataset(path)
    dataset = open_dataset(path, caption_lang="en")
    first, second = dataset.captions("en", None)
    assert first.captions == ("A dog runs , fast .", '" Peace " sign .')
    # The published file lacks this bar.
    assert second.captions == ("Two men , one old , talk .", "A dog runs across the grass .")
    assert dataset.notes == [
        "results.csv: 2 pictures, captions in en (column comment), no split; separated by bars; "
        "not read: comment_number"
    ]


def test_flickr8k_as_kaggle_has_it(tmp_path: Path, make_picture: object) -> None:
    folder = tmp_path / "flickr8k"
    picture = make_picture(folder / "Images" / "1.jpg")  # type: ignore[operator]
    (folder / "readme.txt").write_text("Have fun, and cite us.\n")
    (folder / "captions.txt").write_text(
        'image,caption\n1.jpg,A dog .\n1.jpg,"A "" big "" dog , black"\n2.jpg,A cat , and a dog .\n'
    )
    for named in (folder, folder / "captions.txt"):
        dataset = open_dataset(named, caption_lang="en")
        first, second = dataset.captions("en", None)
        assert first.captions == ("A dog .", 'A " big " dog , black')
        assert second.captions == ("A cat , and a dog .",)
        assert dataset.picture_path("1.jpg") == picture
        assert not dataset.picture_path("2.jpg").exists()


@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "results_20130124.token", "pairs.csv"])
def test_token_files_have_no_header(
    tmp_path: Path, name: str, make_picture: Callable[..., Path]
) -> None:
    folder = tmp_path / "flickr"
    picture = make_picture(folder / "Flicker8k_Dataset" / "1.jpg")
    (folder / "CrowdFlowerAnnotations.txt").write_text("1.jpg\t1.jpg#0\t1\t3\t0\n")
    (folder / "trainImages.txt").write_text("1.jpg\n2.jpg\n")
    rows = [("1.jpg#0", "A dog , black ."), ("1.jpg#1", '"Peace" , a sign'), ("2.jpg#0", "A cat .")]
    with (folder / name).open("w", newline="") as file:
        if name.endswith(".csv"):
            csv.writer(file).writerows(rows)
        else:
            file.writelines(f"{image}\t{text}\n" for image, text in rows)
    for named in (folder, folder / name):
        dataset = open_dataset(named, caption_lang="en")
        first, second = dataset.captions("en", None)
        assert (first.image, second.image) == ("1.jpg", "2.jpg")
        assert first.captions == ("A dog , black .", '"Peace" , a sign')
        assert dataset.notes[0].endswith("no line names the columns")
        assert dataset.picture_path("1.jpg") == picture


def test_rows_of_separators_alone_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image;caption;note\na.jpg;un chien;x\n;;\n;\n;;;;\n")
    dataset = open_dataset(path, caption_lang="fr")
    assert [item.image for item in dataset.captions("fr", None)] == ["a.jpg"]


def test_commas_without_quotation_marks_belong_to_no_column_but_the_last(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,caption,language\na.jpg,x, y,en\n")
    with pytest.raises(XcliptError, match="line 2 has 4 fields for 3 columns"):
        TableDataset.from_file(path)
