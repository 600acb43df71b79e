"""``xclipt search`` on the builtin backbone, real deltas and real pictures."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.factories.running import run_xclipt
from xclipt.data.pictures import load_picture
from xclipt.data.sets.emoji import EmojiDataset


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of animals, food and vehicles, by their English names."""
    folder = tmp_path_factory.mktemp("photos")
    emoji = EmojiDataset()
    wanted = {"cat face", "dog face", "red apple", "pizza", "bicycle", "airplane", "rose", "fish"}
    for item in emoji.captions("en", None):
        if item.captions[0] in wanted:
            name = f"{item.captions[0]}.png"
            (folder / name).write_bytes(emoji.picture_path(item.image).read_bytes())
    assert len(list(folder.iterdir())) == len(wanted)
    return folder


def search(taught, photos, *options):
    return run_xclipt("search", *options, "--images", photos, "--artifacts", taught.directory.root)


def test_the_table_names_query_language_delta_and_pictures(taught, photos):
    run = search(taught, photos, "une pizza", "--lang", "fr", "--top", "3")
    assert run.code == 0, run.err
    assert "une pizza" in run.out and "French; lora-8shot-seed1" in run.out
    assert run.out.count(".png") == 3 and "pizza.png" in run.out and str(photos) in run.out


def test_json_is_one_document_and_several_languages_go_at_once(taught, photos):
    run = search(
        taught, photos, "une pizza", "ein Fahrrad", "een vis", "--lang", "fr,de,nl", "--json"
    )
    assert run.code == 0, run.err
    document = run.json()
    assert document["command"] == "search" and document["pictures"] == 8
    pizza, bicycle, fish = document["queries"]
    alone = search(taught, photos, "ein Fahrrad", "--lang", "de", "--json").json()["queries"][0]
    for together, by_itself in zip(bicycle["results"], alone["results"], strict=True):
        assert together["image"] == by_itself["image"]
        assert together["score"] == pytest.approx(by_itself["score"], abs=1e-5)
    assert "pizza.png" in [hit["image"] for hit in pizza["results"][:3]]
    assert [q["delta"] for q in (pizza, bicycle, fish)] == [*["lora-8shot-seed1"] * 2, None]
    assert [q["fallback"] for q in (pizza, bicycle, fish)] == [False, False, True]
    scores = [hit["score"] for hit in pizza["results"]]
    assert scores == sorted(scores, reverse=True)


def test_queries_from_a_file_and_a_page_that_needs_nothing_else(taught, photos, tmp_path):
    queries = tmp_path / "queries.txt"
    queries.write_text("fr\tune <b>rose</b>\n\nar\tقطة\na cat\n", encoding="utf-8")
    page = tmp_path / "found.html"
    run = search(taught, photos, "--queries", queries, "--html", page, "--top", "2", "--json")
    assert run.code == 0, run.err
    assert [q["language"] for q in run.json()["queries"]] == ["fr", "ar", None]
    text = page.read_text(encoding="utf-8")
    assert "une &lt;b&gt;rose&lt;/b&gt;" in text and 'dir="rtl"' in text
    assert "no delta: frozen base" in text
    assert "://" not in text and text.count('<img src="data:image/jpeg;base64,') == 6


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ["query", "--queries"]),
        (("un chat", "--lang", "fr,de"), ["--lang fr,de", "2 languages for 1 queries"]),
        (("un chat", "--lang", "germn"), ["--lang germn", "did you mean"]),
        ((" ",), ["empty"]),
        (("un chat", "--queries", "q.txt"), ["either", "--queries"]),
        (("--queries", "none.txt"), ["none.txt", "cannot read"]),
    ],
)
def test_mistakes_are_one_line(taught, photos, options, parts):
    run = search(taught, photos, *options)
    assert run.code == 2 and run.out == "" and len(run.err.strip().splitlines()) == 1
    for part in parts:
        assert part in run.err


def test_a_folder_that_is_not_there(taught, tmp_path):
    run = search(taught, tmp_path / "none", "un chat")
    assert run.code == 2 and "--images" in run.err and "no such folder" in run.err
    missing = run_xclipt("search", "un chat", "--artifacts", tmp_path / "new")
    assert missing.code == 2 and "--images" in missing.err and not (tmp_path / "new").exists()


def test_a_picture_finds_itself_and_others_like_it(taught, photos):
    run = search(taught, photos, "--like", photos / "red apple.png", "--top", "8", "--json")
    assert run.code == 0, run.err
    (answer,) = run.json()["queries"]
    assert answer["like"] == answer["query"] == str(photos / "red apple.png")
    assert answer["language"] is answer["delta"] is answer["hub_bank"] is None
    assert not answer["fallback"]
    first, *others = answer["results"]
    assert first["image"] == "red apple.png" and first["identical"]
    assert first["score"] == pytest.approx(1, abs=1e-5)
    assert len(others) == 7 and not any(hit["identical"] for hit in others)
    rank = {hit["image"]: hit["rank"] for hit in answer["results"]}
    (dog,) = search(taught, photos, "--like", photos / "dog face.png", "--json").json()["queries"]
    assert dog["results"][1]["image"] == "cat face.png" and rank["cat face.png"] > 2


def test_a_picture_from_elsewhere_and_texts_are_asked_together(taught, photos, tmp_path):
    copy, other = tmp_path / "a copy.png", tmp_path / "other.png"
    copy.write_bytes((photos / "pizza.png").read_bytes())
    load_picture(copy).rotate(5, fillcolor="white").save(other)
    run = search(
        taught, photos, "une rose", "--lang", "fr", "--like", copy, "--like", other, "--json"
    )
    assert run.code == 0, run.err
    text, same, turned = run.json()["queries"]
    assert (text["query"], text["language"], text["like"]) == ("une rose", "fr", None)
    assert "identical" not in text["results"][0]
    assert same["results"][0]["image"] == turned["results"][0]["image"] == "pizza.png"
    assert same["results"][0]["identical"] and not turned["results"][0]["identical"]
    assert turned["results"][0]["score"] < 0.9999
    out = search(taught, photos, "--like", copy, "--top", "2").out
    assert "pizza.png  (the same file)" in out and "copy.png  (pictures like it)" in out
    assert out.count("the same file") == 1


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.jpg", None, "no such file"),
        ("text.jpg", b"no picture", "not an image"),
        (".", None, "no such file"),
    ],
)
def test_what_is_no_picture_cannot_be_searched_with(taught, photos, tmp_path, name, content, part):
    if content:
        (tmp_path / name).write_bytes(content)
    run = search(taught, photos, "--like", tmp_path / name)
    assert run.code == 2 and run.out == "" and len(run.err.strip().splitlines()) == 1
    assert f"--like {tmp_path / name}: {part}" in run.err


class Links(HTMLParser):
    """Addresses that thumbnails link to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._href: str | None = None

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self._href = dict(attributes)["href"]
        elif tag == "img" and self._href:
            self.found.append(self._href)


def test_thumbnails_link_to_the_files_from_wherever_the_page_lies(taught, photos, tmp_path):
    folder = tmp_path / "my #1 photos"
    (folder / "été").mkdir(parents=True)
    names = ["été/50% off?.png", "a:b.png"]
    for name, source in zip(names, ("rose.png", "fish.png"), strict=True):
        (folder / name).write_bytes((photos / source).read_bytes())
    example = tmp_path / "ex&mple.png"
    example.write_bytes((photos / "pizza.png").read_bytes())
    for page in (tmp_path / "found.html", folder / "found.html", tmp_path / "a/b c/found.html"):
        run = search(taught, folder, "une <rose>", "--like", example, "--html", page, "--json")
        assert run.code == 0, run.err
        links = Links()
        links.feed(page.read_text(encoding="utf-8"))
        assert len(links.found) == 5
        opened = [
            Path(unquote(urlsplit(urljoin(page.resolve().as_uri(), link)).path))
            for link in links.found
        ]
        assert set(opened) == {*((folder / name).resolve() for name in names), example.resolve()}
        assert not any(urlsplit(link).scheme for link in links.found), "moved with the pictures"
        for query in run.json()["queries"]:
            for hit in query["results"]:
                path = Path(unquote(urlsplit(hit["uri"]).path))
                assert path == (folder / hit["image"]).resolve() and path.is_file()
