"""``--hub-bank`` of ``eval`` and ``search``, with the names of other emoji as the bank."""

import pytest
import torch
from torch.nn import functional as F

from tests.factories.deltas import store_noise
from tests.factories.running import run_in_terminal, run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.hubness import SHARPNESS
from xclipt.progress import Silent
from xclipt.workspace import Workspace

EMOJI = EmojiDataset()
QUERIES = EMOJI.captions("fr", "test")[:60]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, backbone):
    root = tmp_path_factory.mktemp("hubs") / "artifacts"
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    store_noise(workspace, "fr", "slight", 0.003)
    return workspace


def names(language: str) -> list[str]:
    """260 names of emoji of the training split that none of the queries has."""
    asked = {text for p in EMOJI.captions(language, "test") for text in p.captions}
    others = (text for p in EMOJI.captions(language, "train") for text in p.captions)
    return [text for text in dict.fromkeys(others) if text not in asked][:260]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("banks") / "noms.txt"
    path.write_text("\n".join(names("fr")) + "\n", encoding="utf-8")
    return path


def evaluated(workspace, *arguments):
    return run_xclipt(
        "eval", "--limit", 60, *arguments, "--artifacts", workspace.directory.root, "--json"
    )


def test_eval_shows_the_correction_beside_the_plain_figures_and_nowhere_else(workspace, bank):
    plain = evaluated(workspace, "--lang", "fr").json()
    run = evaluated(workspace, "--lang", "fr", "--hub-bank", bank)
    assert run.code == 0, run.err
    document = run.json()
    corrected = [row.pop("hub_corrected") for row in document["rows"]]
    assert document == plain, "disparity, gains and gaps are those without"
    assert [row["delta"] for row in plain["rows"]] == [None, "slight"]
    # The formula of the issue, written out.
    pictures, captions, texts = (
        F.normalize(part, dim=-1)
        for part in (
            workspace.encode_pictures([EMOJI.picture_path(p.image) for p in QUERIES]).features,
            workspace.encode_texts([p.captions[0] for p in QUERIES]),
            workspace.encode_texts(names("fr")),
        )
    )
    near = pictures @ texts.T
    b = SHARPNESS / near.std(correction=0)
    scores = captions @ pictures.T - (b * near).exp().mean(1).log() / b
    t2i = 100 * (scores.argmax(1) == torch.arange(60)).float().mean().item()
    base = corrected[0]
    assert base["texts"] == 260 and base["t2i"]["R@1"] == pytest.approx(t2i)
    mean = (t2i + plain["rows"][0]["i2t"]["R@1"]) / 2
    assert base["mean_R@1"] == pytest.approx(mean)
    change = mean - plain["rows"][0]["mean_R@1"]
    assert base["change"]["mean_R@1"] == pytest.approx(change)
    assert base["change"]["ci95"][0] <= change <= base["change"]["ci95"][1]
    assert base["N10_skew"]["hub_corrected"] < base["N10_skew"]["plain"]


@pytest.mark.slow
def test_the_delta_and_the_prompt_of_the_queries_are_those_of_the_bank(workspace, bank):
    rows = evaluated(
        workspace, "--lang", "fr", "--hub-bank", f"fr={bank}", "--hard-prompt", "un dessin de"
    ).json()["rows"]
    assert [row["prompt"] for row in rows] == [None, "un dessin de"] * 2
    figures = [tuple(row["hub_corrected"]["N10_skew"].values()) for row in rows]
    assert len(set(figures)) == 4


def test_the_table_fits_80_columns(workspace, bank):
    root = workspace.directory.root
    out = run_in_terminal(
        *(80, "eval", "--lang", "fr,de", "--limit", 60, "--hub-bank", f"fr={bank}"),
        *("--artifacts", root),
    ).out
    table = out[out.index("emoji, split test: with hub correction") :].splitlines()
    table = table[: next(i for i, line in enumerate(table) if line.startswith("disparity"))]
    assert max(map(len, table)) <= 80 and "…" not in "".join(table)
    named = [table[i - 1].split() for i, line in enumerate(table) if " 260 " in line]
    assert named == [["fr", "base"], ["fr", "slight"]]


@pytest.mark.parametrize(
    ("lines", "named", "parts"),
    [
        (lambda: names("fr")[:199], "fr=", ["199 different texts of 'fr'", "with fewer"]),
        (
            lambda: [*names("fr"), QUERIES[3].captions[0].upper(), QUERIES[9].captions[0]],
            "fr=",
            ["2 texts of it are among the 'fr' queries", QUERIES[3].captions[0]],
        ),
        (lambda: names("fr"), "de=", ["nothing is asked in 'de'"]),
        (lambda: names("ja"), "fr=", ["not written as 'fr' is"]),
        (lambda: names("fr"), "", ["of which language", "--hub-bank CODE=FILE"]),
    ],
)
def test_eval_refuses_banks_in_one_line(workspace, tmp_path, lines, named, parts):
    path = tmp_path / "bank.txt"
    path.write_text("\n".join(lines()), encoding="utf-8")
    run = evaluated(workspace, "--lang", "fr,en", "--hub-bank", f"{named}{path}")
    (error,) = (line for line in run.err.splitlines() if line.startswith("xclipt: "))
    assert run.code == 2 and run.out == "" and "--hub-bank" in error and str(path) in error
    for part in parts:
        assert part in error


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for item in QUERIES:
        (folder / item.image).write_bytes(EMOJI.picture_path(item.image).read_bytes())
    return folder


def searched(workspace, photos, *arguments):
    run = run_xclipt(
        *("search", *arguments, "--images", photos, "--artifacts", workspace.directory.root),
        *("--top", 60, "--json"),
    )
    assert run.code == 0, run.err
    return run


def test_search_ranks_by_the_correction_and_shows_cosines(workspace, photos, bank):
    asked = ("un animal", "--lang", "fr")
    (plain,) = searched(workspace, photos, *asked).json()["queries"]
    (ranked,) = searched(workspace, photos, *asked, "--hub-bank", bank).json()["queries"]
    assert plain["hub_bank"] is None and ranked["hub_bank"] == str(bank)
    assert all("corrected" not in hit for hit in plain["results"])
    cosine = {hit["image"]: hit["score"] for hit in plain["results"]}
    assert {hit["image"]: hit["score"] for hit in ranked["results"]} == pytest.approx(cosine)
    corrected = [hit["corrected"] for hit in ranked["results"]]
    assert corrected == sorted(corrected, reverse=True)
    assert [h["image"] for h in ranked["results"]] != [h["image"] for h in plain["results"]]
    # One bias a picture, whatever is asked.
    (other,) = searched(workspace, photos, "du pain", "--lang", "fr", "--hub-bank", bank).json()[
        "queries"
    ]
    bias = [
        {hit["image"]: hit["score"] - hit["corrected"] for hit in answer["results"]}
        for answer in (ranked, other)
    ]
    assert bias[0] == pytest.approx(bias[1], abs=1e-5)


def test_only_texts_in_the_language_of_a_bank_are_corrected(workspace, photos, bank):
    run = searched(
        *(workspace, photos, "un animal", "ein Tier", "--lang", "fr,de"),
        *("--hub-bank", f"fr={bank}", "--like", photos / QUERIES[0].image),
    )
    banks = [query["hub_bank"] for query in run.json()["queries"]]
    assert banks == [str(bank), None, None]


def test_a_query_that_the_bank_holds_is_pointed_out(workspace, photos, bank):
    run = searched(workspace, photos, names("fr")[0], "--lang", "fr", "--hub-bank", bank)
    assert f"{bank}: holds 1 of the queries" in run.err and names("fr")[0] in run.err


def test_search_refuses_a_bank_of_no_language_that_is_asked_in(workspace, photos, bank):
    for arguments, part in (
        (("a cat", "--hub-bank", bank), "of which language"),
        (("a cat", "--lang", "en", "--hub-bank", f"fr={bank}"), "nothing is asked in 'fr'"),
        (("--like", photos / QUERIES[0].image, "--hub-bank", bank), "of which language"),
    ):
        run = run_xclipt(
            *("search", *arguments, "--images", photos, "--artifacts", workspace.directory.root)
        )
        assert run.code == 2 and run.out == "" and "--hub-bank" in run.err and part in run.err
        assert len(run.err.splitlines()) == 1
