"""``xclipt search`` on the builtin backbone, real deltas and real pictures."""

import pytest

from tests.factories.running import run_xclipt
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
    assert "http" not in text and text.count('<img src="data:image/jpeg;base64,') == 6


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
