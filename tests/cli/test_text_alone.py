"""``train-delta --parallel``: text alone, from the command line."""

import json

import pytest

from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from xclipt.data.sets.emoji import EMOJI

FRENCH = ("un", "chat", "chien", "court", "dort")
ENGLISH = ("a", "cat", "dog", "runs", "sleeps")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    write_mclip_backbone(folder)
    return folder


@pytest.fixture
def pairs(tmp_path):
    picks = [[(i * 7 + k * k * (1 + i // 5)) % 5 for k in range(4)] for i in range(250)]
    lines = [
        f"{' '.join(ENGLISH[p] for p in row)} {i}\t{' '.join(FRENCH[p] for p in row)} {i}"
        for i, row in enumerate(picks)
    ]
    file = tmp_path / "en-fr.tsv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def train(tmp_path, backbone, pairs):
    def train(*arguments, source=pairs, language="fr"):
        return run_xclipt(
            *("train-delta", "--artifacts", tmp_path / "artifacts", "--backbone", backbone),
            *("--lang", language, "--parallel", source, *arguments),
        )

    return train


def test_it_trains_shows_and_serves_without_a_picture(tmp_path, train):
    run = train("--json", "--epochs", "1", "--log", tmp_path / "log.jsonl")
    assert run.code == 0, run.err
    (delta,) = json.loads(run.out)["deltas"]
    assert delta["name"] == "lora-allpairs-en-fr-seed1" and delta["validation"]["pairs"] == 25
    judged = {"mean_R@1", "cosine", "loss"}
    assert judged | {f"base_{name}" for name in judged} <= delta["validation"].keys()
    assert all(judged <= entry.keys() for entry in delta["validation"]["history"])
    assert "en-fr.tsv: 250 pairs en-fr (columns 1 and 2)" in run.err
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, delta["steps"] + 1)]
    assert lines[0]["delta"] == "fr/lora-allpairs-en-fr-seed1"
    assert {"loss/total", "loss/contrastive", "loss/alignment", "cosine"} <= lines[0].keys()
    assert any({"validation/cosine", "validation/loss"} <= line.keys() for line in lines)
    root = ("--artifacts", tmp_path / "artifacts")
    status = json.loads(run_xclipt("status", *root, "--json").out)
    assert status["deltas"][0]["pairs"] == 225
    exported = run_xclipt("export-delta", *root, "--format", "hub", "--out", tmp_path / "out")
    assert exported.code == 0, exported.err
    (card,) = (tmp_path / "out").rglob("README.md")
    text = card.read_text()
    assert "on 225 sentence pairs of `en-fr.tsv`" in text
    measured = run_xclipt("eval", *root, "--lang", "fr", "--dataset", "emoji", "--json")
    assert measured.code == 0, measured.err
    row = json.loads(measured.out)["rows"][1]
    assert row["protocol"] == "225 sentence pairs"


def test_tensorboard_reads_what_is_written(tmp_path, train):
    run = train("--shots", "20", "--tensorboard", tmp_path / "runs")
    assert run.code == 0, run.err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss/total", "learning_rate", "validation/MRR"} <= {*events.Tags()["scalars"]}
    assert [one.step for one in events.Scalars("loss/total")][:3] == [1, 2, 3]


def test_beside_captions_and_pictures_for_validation_alone(train):
    both = train("--dataset", "emoji", "--shots", "4", "--pairs", "30", "--dry-run", "--json")
    assert json.loads(both.out)["deltas"][0]["name"] == "lora-4shot-30pairs-en-fr-seed1"
    judged = train("--dataset", "emoji", "--shots", "0", "--dry-run", "--json")
    assert json.loads(judged.out)["deltas"][0]["name"] == "lora-0shot-allpairs-en-fr-seed1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shots", "251"), "--shots 251: en-fr.tsv has 250 usable pairs in 'fr'"),
        (("--shots", "1"), "--shots 1: must be at least 2, or all"),
        (("--routine", "2"), "--routine 2: sentence pairs are what people wrote"),
        (("--align-loss", "image"), "--align-loss image: --align-loss image is of pictures"),
        (("--align-weight", "0"), "--align-weight 0: without alignment nothing is learnt"),
        (("--split", "paper"), "--split: is for captions, and --parallel names sentences"),
        (("--pairs", "9"), "--pairs: is for captions, and --parallel names sentences"),
        (("--temperature", "0.5"), "--temperature 0.5: must be at least 1"),
        (("--log", "/dev/null/no/log"), "--log /dev/null/no/log: cannot write"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, train, arguments, said):
    run = train(*arguments)
    assert run.code == 2 and run.out == ""
    last = run.err.strip().splitlines()[-1]
    assert last.startswith(f"xclipt: {said}"), run.err
    assert not (tmp_path / "artifacts" / "deltas" / "fr").exists()


def test_sources_that_do_not_hold_the_language(tmp_path, train, pairs):
    unnamed = tmp_path / "pairs.tsv"
    unnamed.write_bytes(pairs.read_bytes())
    for source, language, said in (
        (tmp_path / "none.tsv", "fr", "no such file"),
        (None, "all", "--lang all: name the languages to take of --parallel"),
        (None, "fr,de", "en-fr.tsv: is French, by its name; --columns en=1,de=2 reads it as"),
        (
            unnamed,
            "fr,de",
            f"pairs.tsv is read as 'fr' and as 'de': say which it is, as fr={tmp_path}",
        ),
    ):
        given = {"source": source} if source else {}
        run = train("--joint" if "," in language else "--quiet", language=language, **given)
        assert run.code == 2 and said in run.err, run.err


def test_zero_shots_need_sentences(tmp_path, backbone):
    run = run_xclipt("train-delta", "--artifacts", tmp_path / "a", "--lang", "fr", "--shots", "0")
    assert run.code == 2 and "--shots 0: must be a positive number or all" in run.err
    assert EMOJI.name == "emoji"
