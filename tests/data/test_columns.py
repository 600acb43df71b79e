"""Which column is what, and when that cannot be told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from xclipt.data.dataset import Dataset
from xclipt.data.registry import open_dataset
from xclipt.errors import UsageError, XcliptError

CAPTIONS = {
    "de": ("ein Hund läuft", "eine Katze"),
    "en": ("a dog runs", "a cat"),
    "no": ("en hund løper", "en katt sover"),
    "id": ("seekor anjing berlari", "seekor kucing"),
}


def table(folder: Path, *lines: str) -> Path:
    path = folder / "t.csv"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def wide(folder: Path, **columns: tuple[str, str]) -> Path:
    """Two pictures and the given columns."""
    rows = zip(("a.jpg", "b.jpg"), *columns.values(), strict=True)
    return table(folder, ",".join(("image", *columns)), *(",".join(row) for row in rows))


@pytest.mark.parametrize(
    "image",
    [
        *("filename", "file_name", "FilePath", "image_name", "Image Path", "img", "path", "photo"),
        *("Image", "picture", "image-file"),
    ],
)
@pytest.mark.parametrize("caption", ["text", "Title", "caption", "comment", "sentence"])
@pytest.mark.parametrize("language", ["lang", "Language", "locale"])
def test_what_columns_are_called(tmp_path: Path, image: str, caption: str, language: str) -> None:
    path = table(tmp_path, f"n,{language},{image},{caption}", "1,pt-BR,a.jpg,um cão")
    dataset = open_dataset(path)
    assert dataset.captions("pt", None)[0].image == "a.jpg"
    assert dataset.captions("pt", None)[0].captions == ("um cão",)
    assert dataset.notes == [
        f"t.csv: 1 picture, captions in pt (column {caption}, language in {language}), no split; "
        "not read: n"
    ]


def test_a_file_of_one_language(tmp_path: Path) -> None:
    path = table(tmp_path, "file_name,text,split", "a.jpg,bir köpek,train", "b.jpg,iki,validation")
    dataset = open_dataset(path, caption_lang="tur")
    assert (dataset.languages, dataset.splits) == (("tr",), ("train", "val"))
    assert dataset.notes == ["t.csv: 2 pictures, captions in tr (column text), splits train, val"]
    with pytest.raises(XcliptError, match=r"in column text are in; `caption_lang=CODE` does"):
        open_dataset(path)
    with pytest.raises(UsageError, match="'xq' is no language"):
        open_dataset(path, caption_lang="xq")


def test_a_language_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption,lang", "a.jpg,x,en")
    with pytest.raises(UsageError, match=r"column lang names the languages.*leave it out"):
        open_dataset(path, caption_lang="en")
    with pytest.raises(UsageError, match=r"its columns name the languages"):
        open_dataset(wide(tmp_path, en=CAPTIONS["en"]), caption_lang="en")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("no", ("1", "2")),
        ("No", ("1.", "2.")),
        ("id", ("17", "18")),
        ("id", ("img-17-a", "img-18-b")),
        ("id", ("0c9f-a1b2-c3d4", "77aa-bb12-c9")),
        ("is", ("true", "false")),
        ("as", ("x", "y")),
        ("so", ("yes", "no")),
        ("in", ("2021-03-01", "2021-03-02")),
        ("to", ("a.jpg", "b.jpg")),
        # Not words, and no text either.
        ("tr", ("1", "2")),
        ("ms", ("12.5", "13.5")),
        ("hr", ("http://a.b/c d", "https://a.b/e")),
    ],
)
def test_columns_that_are_named_like_languages(
    tmp_path: Path, column: str, values: tuple[str, str]
) -> None:
    dataset = open_dataset(wide(tmp_path, **{column: values}, de=CAPTIONS["de"], en=CAPTIONS["en"]))
    assert dataset.languages == ("en", "de")
    assert dataset.notes[0].endswith(f"; not read: {column}")


def test_words_that_are_languages_among_others(tmp_path: Path) -> None:
    everything = open_dataset(wide(tmp_path, **CAPTIONS))
    assert everything.languages == ("en", "de", "id", "no")
    assert everything.captions("no", None)[0].captions == ("en hund løper",)
    old = {"in": CAPTIONS["id"], "is": ("hundur hleypur", "köttur sefur"), "en": CAPTIONS["en"]}
    assert open_dataset(wide(tmp_path, **old)).languages == ("en", "id", "is")
    both = {"id": ("17", "18"), "in": CAPTIONS["id"], "en": CAPTIONS["en"]}
    dataset = open_dataset(wide(tmp_path, **both))
    assert dataset.captions("id", None)[0].captions == (CAPTIONS["id"][0],)


def test_a_word_alone_is_refused_until_it_is_said(tmp_path: Path) -> None:
    path = wide(tmp_path, no=CAPTIONS["no"])
    with pytest.raises(XcliptError, match=r"no is taken for no language unless `columns=no=no`"):
        open_dataset(path)
    assert open_dataset(path, columns={"no": "no"}).languages == ("no",)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("caption_id", ("17", "18")),
        ("sentence_no", ("0", "1")),
        ("text_as", ("x", "y")),
        # Words of three letters that ISO 639-3 has languages for: Southern Altai, Newari, Rawang.
        ("alt_text_", ("a dog on grass", "a cat asleep")),
        ("new_caption", ("a dog on grass", "a cat asleep")),
        ("caption-raw", ("a dog on grass", "a cat asleep")),
        ("cat", ("animals", "animals")),
        ("url", ("x y", "z w")),
    ],
)
def test_names_with_a_word_in_them_are_no_languages(
    tmp_path: Path, column: str, values: tuple[str, str]
) -> None:
    """A caption's number is no caption in Indonesian."""
    dataset = open_dataset(wide(tmp_path, **{column: values}, de=CAPTIONS["de"]))
    assert dataset.languages == ("de",)
    with pytest.raises(XcliptError):
        open_dataset(wide(tmp_path, **{column: values}))


def test_numbers_in_a_column_of_json_are_no_captions(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"image": "a.jpg", "caption_id": 17, "id": 3, "de": ["ein Hund", "er"]}\n')
    assert open_dataset(path).languages == ("de",)


@pytest.mark.parametrize(
    ("header", "languages"),
    [
        (("caption_id", "caption_no"), ("id", "no")),
        (("ind", "nor"), ("id", "no")),
        (("Indonesian", "Norwegian"), ("id", "no")),
        (("Bahasa Indonesia", "norsk"), ("id", "no")),
        (("ind_Latn", "nob_Latn"), ("id", "nb")),
    ],
)
def test_ways_to_name_a_language(
    tmp_path: Path, header: tuple[str, str], languages: tuple[str, ...]
) -> None:
    columns = dict(zip(header, (CAPTIONS["id"], CAPTIONS["no"]), strict=True))
    assert open_dataset(wide(tmp_path, **columns)).languages == languages


def test_names_of_languages_in_a_column(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption,language", "a.jpg,un chien,French", "b.jpg,x,Deutsch")
    assert open_dataset(path).languages == ("de", "fr")


def test_splits_in_capitals(tmp_path: Path) -> None:
    rows = ("a.jpg,x,Train", "b.jpg,y,TEST", "c.jpg,z,Validation", "d.jpg,w,Extra")
    path = table(tmp_path, "image,fr,Split", *rows)
    assert open_dataset(path).splits == ("train", "val", "test", "Extra")


@pytest.mark.parametrize("name", ["id", "image_id", "Bild", "nom du fichier"])
def test_pictures_known_by_what_the_column_holds(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, f"n,{name},text", "1,x/a.JPG,un chien", "2,b.heic,un chat")
    dataset = open_dataset(path, caption_lang="fr")
    assert [item.image for item in dataset.captions("fr", None)] == ["x/a.JPG", "b.heic"]
    assert f"(column text, pictures in {name})" in dataset.notes[0]
    two = table(tmp_path, f"{name},thumb,text", "a.jpg,a_s.jpg,un chien", "b.jpg,b_s.jpg,un chat")
    with pytest.raises(XcliptError, match="`columns=image=NAME` names it"):
        open_dataset(two, caption_lang="fr")


def test_numbered_columns_are_several_captions(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption_1,caption_2", "a.jpg,un chien,le chien", "b.jpg,un chat,")
    dataset = open_dataset(path, caption_lang="fr")
    assert dataset.captions("fr", None)[0].captions == ("un chien", "le chien")
    assert "captions in fr (columns caption_1, caption_2), no split" in dataset.notes[0]
    with pytest.raises(XcliptError, match="captions in columns caption_1, caption_2 are in"):
        open_dataset(path)


@pytest.mark.parametrize("name", ["caption_fr", "fr_caption", "text-fr", "title.fr", "fr", "FR"])
def test_languages_within_names(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, f"image,{name}", "a.jpg,un chien")
    assert open_dataset(path).languages == ("fr",)


@pytest.mark.parametrize(
    ("header", "says", "columns"),
    [
        (
            "filename,filepath,text,lang",
            "filename and filepath may both be the column of the image; `columns=image=filename`",
            {"image": "filename"},
        ),
        (
            "image,title,text,lang",
            "title and text may both be the column of the caption; `columns=caption=title`",
            {"caption": "text"},
        ),
        (
            "bild,beschreibung,sprache,x",
            "it has bild, beschreibung, sprache, x; `columns=caption=NAME` names the captions",
            {"image": "bild", "caption": "beschreibung", "language": "sprache"},
        ),
        ("image,fr,caption_fr,x", "two columns of captions in 'fr'", {"fr": "fr"}),
    ],
)
def test_columns_that_may_be_several_things(
    tmp_path: Path, header: str, says: str, columns: dict[str, str]
) -> None:
    names = header.split(",")
    values = {"lang": "fr", "sprache": "fr"} | {columns.get("image", "image"): "a.jpg"}
    path = table(tmp_path, header, ",".join(values.get(name, f"{name} words") for name in names))
    with pytest.raises(XcliptError) as caught:
        open_dataset(path)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    dataset = open_dataset(path, columns=columns)
    wanted = columns.get("caption") or columns.get("fr") or "text"
    assert dataset.captions("fr", None)[0].captions == (f"{wanted} words",)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption,language", "a.jpg,x,en")
    with pytest.raises(
        UsageError, match=r"columns 'image=bild': .* it has image, caption"
    ) as caught:
        open_dataset(path, columns={"image": "bild"})
    assert caught.value.field == "columns"
    with pytest.raises(XcliptError, match="'xq' is no language"):
        open_dataset(path, columns={"xq": "caption"})


@pytest.fixture
def pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> dict[str, Path]:
    return {
        name: make_picture(tmp_path / "images" / name, size=(4 + i, 4))
        for i, name in enumerate(("a.jpg", "sub/b.jpg", "other/b.jpg", "c.jpg"))
    }


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("images/a.jpg", "a.jpg"),
        (".\\images\\a.jpg", "a.jpg"),
        ("..\\{here}\\images\\a.jpg", "a.jpg"),
        ("C:\\pics\\a.jpg", "a.jpg"),
        ("\\\\server\\share\\sub\\b.jpg", "sub/b.jpg"),
        ("D:/pics/other/b.jpg", "other/b.jpg"),
        ("{root}/images/c.jpg", "c.jpg"),
        ("/somebody/elses/images/c.jpg", "c.jpg"),
        ("sub\\b.jpg", "sub/b.jpg"),
        ("flickr/Images/c.jpg", "c.jpg"),
    ],
)
def test_absolute_relative_and_windows_paths(
    tmp_path: Path, pictures: dict[str, Path], written: str, found: str
) -> None:
    name = written.format(root=tmp_path, here=tmp_path.name)
    dataset = open_dataset(table(tmp_path, "image,en", f"{name},x"))
    assert dataset.picture_path(dataset.captions("en", None)[0].image).samefile(pictures[found])


def test_names_that_mean_one_file_in_another_case_or_without_their_ending(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    for name in ("Dog 1.JPG", "cat.png", "cat.jpg", "Tree.jpg", "tree.jpg"):
        make_picture(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").touch()
    names = ("dog 1.jpg", "DOG 1", "cat", "TREE.JPG", "tree.JPG", "notes")
    dataset = open_dataset(table(tmp_path, "image,fr", *(f"{name},x" for name in names)))
    found = {name: dataset.picture_path(name) for name in names}
    assert {name: path.name for name, path in found.items() if path.is_file()} == {
        "dog 1.jpg": "Dog 1.JPG",
        "DOG 1": "Dog 1.JPG",
        "tree.JPG": "tree.jpg",
    }


def test_the_end_of_a_path_that_means_two_pictures_is_no_picture(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    path = table(tmp_path, "image,en", "C:\\1\\a.jpg,x", "C:\\2\\a.jpg,y", "C:\\2\\c.jpg,z")
    dataset = open_dataset(path)
    assert [dataset.picture_path(p.image).is_file() for p in dataset.captions("en", None)] == [
        False,
        False,
        True,
    ]


def test_a_name_in_two_folders_is_refused(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    for folder in ("train", "test"):
        make_picture(tmp_path / folder / "a.jpg")
    only = make_picture(tmp_path / "test" / "b.jpg")
    dataset: Dataset = open_dataset(table(tmp_path, "image,en", "a.jpg,x", "b.jpg,x"))
    assert dataset.picture_path("b.jpg") == only
    with pytest.raises(XcliptError, match=r"test and train both have a picture a.jpg"):
        dataset.picture_path("a.jpg")
