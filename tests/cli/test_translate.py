"""``xclipt translate`` as its users run it; killed at random moments it leaves the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.factories.datasets import make_xtd
from tests.factories.running import run_xclipt
from tests.factories.tiny import tiny_backbone
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.registry import open_dataset
from xclipt.data.sets import xtd
from xclipt.translation.lookup import look_up
from xclipt.translation.store import Direction


@pytest.fixture
def artifacts(tmp_path):
    root = tmp_path / "artifacts"
    ArtifactDirectory.open_or_create(root, tiny_backbone().identity)
    return root


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "xtd"
    make_xtd(folder)
    (folder / "translated_to_en").mkdir()
    (folder / "translated_to_en" / "fr.txt").write_text("en one\nfr two\n")
    return folder


def run(artifacts, data, *arguments):
    return run_xclipt(
        *("translate", "--dataset", "xtd", "--data-dir", data.parent, "--artifacts", artifacts),
        *arguments,
    )


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_documents_contract(artifacts, data):
    before = tree(artifacts)
    dry = run(artifacts, data, "--lang", "fr", "--dry-run", "--json").json()
    assert dry["dry_run"] and dry["translations"][0]["translated"] == 2
    assert tree(artifacts) == before
    done = run(artifacts, data, "--lang", "fr", "--json")
    assert done.code == 0, done.err
    assert "fr to en by file: " in done.err and "auto: they lie beside xtd" in done.err
    (entry,) = done.json()["translations"]
    assert done.json()["command"] == "translate"
    assert entry["language"] == "fr" and entry["direction"] == "to-en"
    assert entry["engine"] == "file" and entry["model"] == "xtd-translated_to_en"
    assert len(entry["revision"]) == 12
    counts = [entry[key] for key in ("texts", "translated", "cached", "missing", "dropped")]
    assert counts == [2, 2, 0, 0, 1] and entry["flags"] == {"copied": 1}
    assert entry["scored"] == 2 and 0 < entry["chrf"] < 100 and entry["bleu"] >= 0
    again = run(artifacts, data, "--lang", "fr")
    assert "copied 1" in again.out and "xtd-translated_to_en" in again.out
    assert run(artifacts, data, "--lang", "fr", "--json").json()["translations"][0]["cached"] == 2


def test_the_papers_split(artifacts, data):
    paper = ("--lang", "fr", "--split", "paper", "--shots", "1", "--dry-run")
    assert "the paper's split of the 2 pictures" in run(artifacts, data, *paper[:4]).err
    names = [f"COCO_val2014_{k:012}.jpg" for k in range(4)]
    (data / xtd.PICTURES_FILE).write_text("\n".join(names))
    for language, path in xtd.CAPTIONS_FILES.items():
        (data / path).write_text("\n".join(f"{language} {k}" for k in range(4)))
    for direction, texts in (("to-en", 4), ("from-en", 1)):
        (data / f"translated_{direction.replace('-', '_')}").mkdir(exist_ok=True)
        (data / f"translated_{direction.replace('-', '_')}/fr.txt").write_text("a\nb\nc\nd\n")
        done = run(artifacts, data, *paper, "--direction", direction, "--json")
        assert done.json()["translations"][0]["translated"] == texts, done.err
    assert run(artifacts, data, *paper, "--shots", "0").code == 2


def test_a_file_of_ones_own(artifacts, data, tmp_path):
    table = tmp_path / "mine.tsv"
    table.write_text("en one\tsv ett\n")
    done = run(artifacts, data, "--lang", "sv", "--direction", "from-en", "--file", table, "--json")
    (entry,) = done.json()["translations"]
    assert (entry["translated"], entry["missing"], entry["chrf"]) == (1, 1, None)
    refused = run(artifacts, data, "--lang", "sv,da", "--direction", "from-en", "--file", table)
    assert refused.code == 2 and "holds one language" in refused.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--lang", "fr", "--on-bad", "cry"), "--on-bad cry"),
        (("--lang", "fr", "--on-bad", "error"), "--on-bad error: 'fr two'"),
        (("--lang", "fr", "--direction", "up"), "--direction up"),
        (("--lang", "fr", "--limit", "0"), "--limit 0"),
        (("--lang", "en"), "--lang en"),
        (("--lang", "de", "--engine", "file"), "no translations from de to en"),
        (("--lang", "fr", "--engine", "ctranslate2", "--model", "/nowhere"), "--model /nowhere"),
    ],
)
def test_refusals_are_one_line(artifacts, data, arguments, part):
    refused = run(artifacts, data, *arguments)
    assert refused.code == (1 if "was translated to" in refused.err else 2) and not refused.out
    (line,) = [line for line in refused.err.splitlines() if line.startswith("xclipt: ")]
    assert part in line and "Traceback" not in refused.err


def test_the_published_korean_is_italian(data_root, tmp_path):
    root = tmp_path / "artifacts"
    ArtifactDirectory.open_or_create(root, tiny_backbone().identity)
    xtd = ("--lang", "ko", "--dataset", "xtd", "--data-dir", data_root, "--artifacts", root)
    file = data_root / "xtd/translated_from_en/ko.txt"
    done = run_xclipt("translate", *xtd, "--direction", "from-en", "--file", file)
    assert done.code == 0
    found = "all 1,000 translations look like Italian, not Korean"
    assert f"en to ko: {found}, and are dropped; take another --engine or --file, or" in done.err
    into_korean, directory = Direction("en", "ko"), ArtifactDirectory.open(root)
    captions = [p.captions[0] for p in open_dataset("xtd", data_root).captions("en", None)]
    assert look_up(directory, captions, into_korean).missing == 1000
    kept = run_xclipt("translate", *xtd, "--direction", "from-en", "--file", file, "--on-bad=keep")
    assert kept.code == 0 and found not in kept.err
    assert look_up(directory, captions, into_korean).missing == 0


@pytest.mark.slow
def test_killed_twenty_times_it_leaves_the_same_bytes(data_root, tmp_path):
    def command(root):
        return [
            *(sys.executable, "-m", "xclipt", "translate", "--dataset", "xtd", "--lang", "fr,ko"),
            *("--direction", "from-en", "--engine", "file", "--batch-size", "1", "--limit", "150"),
            *("--data-dir", str(data_root), "--artifacts", str(root), "-q"),
        ]

    roots = [tmp_path / "undisturbed", tmp_path / "killed"]
    for root in roots:
        ArtifactDirectory.open_or_create(root, tiny_backbone().identity)
    subprocess.run(command(roots[0]), check=True, stdout=subprocess.DEVNULL)
    shards = len(list(roots[0].rglob("*.jsonl")))
    assert shards == 300
    chance = random.Random(7)
    killed = 0
    for kill in range(20):
        process = subprocess.Popen(command(roots[1]), stdout=subprocess.DEVNULL)
        # From the moment that it writes on, so that the kills meet the work and not the imports.
        goal = shards * (kill + chance.random()) / 20
        while process.poll() is None and len(list(roots[1].rglob("*.jsonl"))) < goal:
            time.sleep(0.01)
        time.sleep(chance.random() / 50)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 18
    subprocess.run(command(roots[1]), check=True, stdout=subprocess.DEVNULL)
    assert tree(roots[0]) == tree(roots[1])
