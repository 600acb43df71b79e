"""``eval`` with hard prompts, against encoding ``prompt + " " + caption`` and ranking by hand."""

import csv
import json
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.factories.deltas import store_noise
from tests.factories.running import run_xclipt
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.sets.emoji import EmojiDataset
from xclipt.deltas.lora import LoraSpec
from xclipt.progress import Silent
from xclipt.workspace import Workspace

COUNT = 24
PROMPT = "Language:"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, backbone):
    root = tmp_path_factory.mktemp("prompts") / "artifacts"
    directory, _ = ArtifactDirectory.open_or_create(root, backbone.identity)
    workspace = Workspace(directory, backbone, Silent())
    store_noise(workspace, "fr", "prompted", 0.02, spec=LoraSpec(hard_prompt="un dessin: "))
    store_noise(workspace, "fr", "bare", 0.02)
    return workspace


def evaluated(workspace: Workspace, *arguments: object):
    run = run_xclipt(
        *("eval", "--lang", "fr", "--limit", COUNT, "--artifacts", workspace.directory.root),
        *arguments,
    )
    assert run.code == 0, run.err
    return run


def recalls(features: Tensor, pictures: Tensor) -> tuple[float, float]:
    """R@1 of both directions, per cent; a row a picture."""
    cosines = F.normalize(features, dim=-1) @ F.normalize(pictures, dim=-1).T
    right = torch.arange(len(cosines))
    hits = [(cosines.argmax(way) == right).float().mean() for way in (1, 0)]
    return 100 * float(hits[0]), 100 * float(hits[1])


def by_hand(workspace: Workspace, prompt: str, delta: str | None = None) -> tuple[float, float]:
    emoji, backbone = EmojiDataset(), workspace.backbone
    entries = emoji.captions("fr", "test")[:COUNT]
    texts = [f"{prompt} {entry.captions[0]}".strip() for entry in entries]
    stored = workspace.directory.delta("fr", delta) if delta else None
    tower = stored.within(backbone) if stored else backbone
    pictures = backbone.encode_pictures([emoji.picture_path(entry.image) for entry in entries])
    return recalls(tower.encode_texts(texts), pictures)


def test_rows_are_those_of_the_prompt_before_every_caption(workspace):
    document = evaluated(
        *(workspace, "--delta", "bare", "--json"),
        *("--hard-prompt", f" {PROMPT}  ", "--hard-prompt", "une  photo", "--hard-prompt", PROMPT),
    ).json()
    rows = document["rows"]
    names = [(row["delta"], row["prompt"]) for row in rows]
    assert names == [(d, p) for d in (None, "bare") for p in (None, PROMPT, "une photo")]
    assert [row["system"] for row in rows[1::3]] == [f'base "{PROMPT}"', f'bare "{PROMPT}"']
    for row in rows:
        expected = by_hand(workspace, row["prompt"] or "", row["delta"])
        assert (row["t2i"]["R@1"], row["i2t"]["R@1"]) == pytest.approx(expected)
    assert len({row["mean_R@1"] for row in rows[:3]}) > 1, "prompts change something"
    base = rows[0]["mean_R@1"]
    for row in rows[1:]:
        assert row["gain"]["mean_R@1"] == pytest.approx(row["mean_R@1"] - base)
    # The base's gain is against no prompt; for a delta the pair says it.
    pairs = [(pair["delta"], pair["against"]) for pair in document["pairs"]]
    assert pairs == [(row["system"], "bare") for row in rows[4:]]
    for pair, row in zip(document["pairs"], rows[4:], strict=True):
        assert pair["mean_R@1"] == pytest.approx(row["mean_R@1"] - rows[3]["mean_R@1"])
        assert pair["ci95"][0] <= pair["mean_R@1"] <= pair["ci95"][1]
    # What is said of the language is said of it without a prompt.
    assert document["mean_gain"]["mean_R@1"] == pytest.approx(rows[3]["gain"]["mean_R@1"])
    assert document["disparity"]["base"]["languages"] == ["fr"]


def test_a_deltas_own_prompt_stays_unless_one_is_given(workspace):
    asked = ("--hard-prompt", PROMPT, "--hard-prompt", "un dessin:", "--hard-prompt", "")
    run = evaluated(workspace, "--delta", "prompted", *asked, "--json")
    rows = [row for row in run.json()["rows"] if row["delta"]]
    # Its own is not measured twice, and an empty one takes it away.
    assert [row["prompt"] for row in rows] == ["un dessin:", PROMPT, None]
    assert [row["system"] for row in rows] == ["prompted", f'prompted "{PROMPT}"', 'prompted ""']
    for row in rows:
        expected = by_hand(workspace, row["prompt"] or "", "prompted")
        assert (row["t2i"]["R@1"], row["i2t"]["R@1"]) == pytest.approx(expected)
    assert "changes nothing" not in run.err
    run = evaluated(workspace, "--delta", "none", "--hard-prompt", "", "--json")
    assert len(run.json()["rows"]) == 1 and "an empty hard prompt changes nothing" in run.err


def test_prompts_from_a_file_and_from_a_configuration(workspace, tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffLanguage: \r\n\r\n写真、\n".encode())
    (tmp_path / "c.yaml").write_text("hard-prompt: [one, 'a, b']\ndelta: none\n")
    (tmp_path / "one.yaml").write_text("hard_prompt: one\ndelta: none\n")
    for config, prompts in (("c", ["one", "a, b"]), ("one", ["one"])):
        document = evaluated(
            *(workspace, "--config", tmp_path / f"{config}.yaml", "--json"),
            *("--prompt-file", tmp_path / "p.txt"),
        ).json()
        assert [row["prompt"] for row in document["rows"]] == [None, *prompts, PROMPT, "写真、"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "cannot read (No such file or directory)"),
        (b"\n \r\n", "holds no prompt; write one a line"),
        (b"good\n\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_a_file_without_prompts_is_refused(workspace, tmp_path, content, part):
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content)
    run = run_xclipt(
        *("eval", "--lang", "fr", "--prompt-file", path),
        *("--artifacts", workspace.directory.root),
    )
    assert run.code == 2 and str(path) in run.err and part in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.slow
def test_what_a_prompt_leaves_no_room_for_is_told(workspace):
    long = "mot " * 300
    err = evaluated(workspace, "--delta", "bare", "--hard-prompt", long).err
    assert f'emoji after "{long.strip()}": {COUNT} of {COUNT} texts do not fit' in err
    assert "do not fit" not in evaluated(workspace, "--hard-prompt", PROMPT).err


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (140, 1)])
def test_the_table_fits_the_terminal(workspace, monkeypatch, columns, lines):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    out = evaluated(workspace, "--delta", "bare", "--hard-prompt", PROMPT).out
    table = re.sub(r"\x1b\[[0-9;]*m", "", out).split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= columns and "…" not in out
    figures = [line for line in table if re.search(r"\d\.\d{3}", line)]
    assert len(figures) == 4 * lines
    assert figures[0].startswith(" fr ")
    assert sum(f'"{PROMPT}"' in line for line in figures) == 2


def test_files_tell_the_prompts_apart(workspace, tmp_path):
    prompts = ("é ç", "é |$à$")  # the same but for what a file's name cannot hold
    evaluated(
        *(workspace, "--delta", "bare", "--csv", tmp_path / "r.csv"),
        *("--markdown", tmp_path / "r.md", "--report", tmp_path / "r.html", "--gallery", 1),
        *("--clip-benchmark", tmp_path / "clip", "--mteb", tmp_path / "mteb"),
        *("--plot", tmp_path / "r.svg"),
        *(argument for prompt in prompts for argument in ("--hard-prompt", prompt)),
    )
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == ["", *prompts] * 2
    assert rows[4]["system"] == f'bare "{prompts[0]}"'
    results = [json.loads(path.read_text()) for path in (tmp_path / "clip").glob("*.json")]
    assert {one["pretrained"] for one in results} == {row["system"] for row in rows}
    assert len(list((tmp_path / "mteb").rglob("*.json"))) == 2 * 6
    table = [
        line for line in (tmp_path / "r.md").read_text().splitlines() if line.startswith("| fr |")
    ]
    assert len(table) == 6 and r'| bare "é \|$à$" |' in table[5]
    assert "bare &#34;é ç&#34;" in (tmp_path / "r.html").read_text()
    # Its own rows come back under the same names.
    beside = evaluated(
        *(workspace, "--delta", "bare", "--compare", tmp_path / "r.csv", "--json"),
        *("--hard-prompt", prompts[0]),
    ).json()["compared"]
    assert [row["system"] for row in beside] == [row["system"] for row in rows]
