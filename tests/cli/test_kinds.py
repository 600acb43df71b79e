"""Delta kinds, backbones and recipes from the command line."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.factories.models import write_clip, write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.factories.tiny import WORDS

COUNTS = {
    "lora": (884_736, 0.158),
    "adapter": (2_507_904, 0.447),
    "compacter": (261_120, 0.047),
    "soft-prompt": (4_096, 0.0007),
}


@pytest.fixture
def data(tmp_path, make_picture):
    """Sixteen pictures with captions in words that the small tokenizer knows."""
    folder = tmp_path / "data"
    pairs = list(itertools.islice(itertools.combinations(WORDS[:8], 2), 16))
    for i in range(16):
        make_picture(folder / "images" / f"{i}.png", f"rgb({i * 15},{255 - i * 9},{i * 5})")
    for language, order in (("en", 1), ("fr", -1)):
        lines = [
            json.dumps({"image": f"{i}.png", "captions": [" ".join(pair[::order])]})
            for i, pair in enumerate(pairs)
        ]
        (folder / f"captions.{language}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("kind", COUNTS)
def test_dry_run_needs_neither_weights_nor_network_nor_data(tmp_path, monkeypatch, kind):
    import huggingface_hub

    def refuse(*arguments, **settings):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    artifacts = tmp_path / "artifacts"
    run = run_xclipt(
        *("train-delta", "--backbone", "mclip-l14", "--delta", kind, "--lang", "fr"),
        *("--dry-run", "--json", "--artifacts", artifacts),
    )
    assert run.code == 0, run.err
    assert not artifacts.exists()
    document = run.json()
    assert document["command"] == "train-delta" and document["dry_run"] is True
    (delta,) = document["deltas"]
    count, share = COUNTS[kind]
    assert delta["trainable_parameters"] == count
    assert delta["backbone_parameters"] == 560_677_632
    assert round(delta["percent"], 4 if share < 0.001 else 3) == share
    assert delta["tensor_bytes"] == 4 * count < delta["bytes"] < 4 * count + 61_000
    assert delta["kind"] == kind and delta["language"] == "fr" and delta["path"]


@pytest.mark.slow
def test_dry_run_as_a_user_runs_it_with_no_network_and_an_empty_hub_home(tmp_path):
    """Every kind in a process of its own making, in which a connection would be the end."""
    code = (
        "import socket, sys\n"
        "def refuse(*arguments, **settings): sys.exit('asked the network')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from xclipt.cli.app import main\n"
        "for kind in sys.argv[1:]:\n"
        "    try: main(['train-delta', '--backbone', 'mclip-l14', '--delta', kind, '--lang', 'fr',"
        " '--dry-run', '--json'])\n"
        "    except SystemExit as exit:\n"
        "        if exit.code: raise\n"
        "    print(chr(0))"
    )
    home, cache = tmp_path / "hub", tmp_path / "cache"
    run = subprocess.run(
        [sys.executable, "-c", code, *COUNTS],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("XCLIPT")},
            **{"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "XDG_CACHE_HOME": str(cache)},
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    documents = [json.loads(text) for text in run.stdout.split("\0")[:-1]]
    planned = [document["deltas"][0] for document in documents]
    assert [plan["trainable_parameters"] for plan in planned] == [n for n, _ in COUNTS.values()]
    assert {plan["backbone_parameters"] for plan in planned} == {560_677_632}
    assert [f"{plan['percent']:.4f}" for plan in planned] == [
        "0.1578",
        "0.4473",
        "0.0466",
        "0.0007",
    ]
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "xclipt-artifacts").exists()


def test_dry_run_as_a_table_and_with_the_papers_recipe(tmp_path):
    common = ("--dry-run", "--artifacts", tmp_path / "artifacts", "--backbone", "mclip-labse-l14")
    run = run_xclipt("train-delta", "--lang", "fr,jp", "--recipe", "paper", *common)
    assert run.code == 0, run.err
    assert "mclip-labse-l14" in run.out and "331,776" in run.out and "500" in run.out
    document = run_xclipt(
        *("train-delta", "--lang", "fr", "--recipe", "paper", "--learning-rate", "2e-4"),
        *("--full-finetune", "--json", *common),
    ).json()["deltas"][0]
    assert document["kind"] == "full-finetune" and document["percent"] > 99
    recipe = document["recipe"]
    assert recipe["learning_rate"] == 2e-4 and recipe["batch_size"] == 5
    assert recipe["epochs"] == 50 and recipe["align_loss"] == "mse" and recipe["warmup"] == 0


@pytest.mark.parametrize("write", [write_mclip_backbone, write_clip])
def test_every_kind_is_trained_measured_and_listed(tmp_path, data, write):
    model, artifacts = tmp_path / "model", tmp_path / "artifacts"
    model.mkdir()
    write(model)
    common = ("--artifacts", artifacts, "--dataset", data)
    names = []
    for options in (
        ("--delta", "lora", "--rank", "2", "--tune", "head"),
        ("--delta", "adapter", "--bottleneck", "4", "--no-train-layernorm"),
        ("--delta", "compacter", "--reduction", "4"),
        ("--delta", "soft-prompt", "--tokens", "2", "--prompt-init", "a cat"),
        ("--full-finetune",),
    ):
        run = run_xclipt(
            *("train-delta", "--lang", "fr", "--backbone", model, "--shots", "4"),
            *("--epochs", "2", "--validate-on", "4", *options, *common, "--json"),
            "--even-if-worse",
        )
        assert run.code == 0, run.err
        (delta,) = run.json()["deltas"]
        names.append(delta["name"])
        file = next((artifacts / "deltas/fr" / delta["name"]).glob("delta-*.safetensors"))
        assert delta["bytes"] == file.stat().st_size
        # The directory knows its backbone: a folder by its full path.
        rows = run_xclipt("eval", "--lang", "fr", *common, "--json").json()["rows"]
        assert [row["delta"] for row in rows] == [None, delta["name"]]
        assert rows[1]["n"] == 8
    kinds = [*COUNTS, "full-finetune"]
    assert names == [f"{kind}-4shot-data-seed1" for kind in kinds]
    listed = run_xclipt("status", "--artifacts", artifacts, "--json").json()
    assert {delta["kind"] for delta in listed["deltas"]} == set(kinds)
    assert listed["backbone"]["id"] == str(model)


def test_a_soft_prompt_takes_its_length_from_its_text(tmp_path, data):
    model, artifacts = write_mclip_backbone(tmp_path / "model"), tmp_path / "artifacts"
    common = ("train-delta", "--lang", "fr", "--backbone", model, "--artifacts", artifacts)
    prompt = ("--delta", "soft-prompt", "--prompt-init", "a cat runs")
    few = ("--shots", "4", "--epochs", "1", "--dataset", data, "--even-if-worse", "--json")
    trained = run_xclipt(*common, *prompt, *few)
    assert trained.code == 0, trained.err
    (delta,) = trained.json()["deltas"]
    assert delta["trainable_parameters"] == 3 * 16
    folder = artifacts / "deltas/fr" / delta["name"]
    setting = yaml.safe_load((folder / "manifest.yaml").read_text())["setting"]
    assert (setting["tokens"], setting["prompt_init"]) == (3, "a cat runs")
    again = run_xclipt(*common, *prompt, *few, "--tokens", "3")
    assert "is there already, from the same request" in again.err
    other = run_xclipt(*common, *prompt, *few, "--tokens", "2")
    assert other.code == 2 and "setting.tokens 2 and 3" in other.err
    # A dry run has no tokenizer to count with.
    planned = run_xclipt(*common, *prompt, "--dry-run")
    assert planned.code == 2 and "--tokens: without a tokenizer" in planned.err
    assert run_xclipt(*common, *prompt, "--tokens", "3", "--dry-run").code == 0


def test_a_hard_prompt_is_recorded_and_applied(tmp_path, data):
    model, artifacts = write_mclip_backbone(tmp_path / "model"), tmp_path / "artifacts"
    common = ("--artifacts", artifacts, "--dataset", data)
    trained = run_xclipt(
        *("train-delta", "--lang", "fr", "--backbone", model, "--shots", "4", "--epochs", "1"),
        *("--learning-rate", "1e-9", "--hard-prompt", "un petit", *common),
    )
    assert trained.code == 0, trained.err
    path = artifacts / "deltas/fr/lora-4shot-data-seed1/manifest.yaml"
    manifest = yaml.safe_load(path.read_text())
    assert manifest["setting"]["hard_prompt"] == "un petit"
    # The delta is as good as nothing, so what it does to the ranking is the prompt.
    base, prompted = run_xclipt("eval", "--lang", "fr", *common, "--json").json()["rows"]
    lines = (data / "captions.fr.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        entry["captions"] = [f"un petit {caption}" for caption in entry["captions"]]
    (data / "captions.fr.jsonl").write_text("\n".join(map(json.dumps, entries)))
    by_hand = run_xclipt("eval", "--lang", "fr", *common, "--json").json()["rows"][0]
    for direction in ("t2i", "i2t"):
        assert prompted[direction]["MRR"] == pytest.approx(by_hand[direction]["MRR"], abs=1e-6)
    assert base["t2i"] != prompted["t2i"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--delta", "prefix"), ["--delta prefix", "soft-prompt"]),
        (("--delta", "adapter", "--rank", "4"), ["--rank", "adapter", "lora"]),
        (("--delta", "adapter", "--bottleneck", "0"), ["--bottleneck 0"]),
        (("--delta", "compacter", "--reduction", "100"), ["--reduction 100", "width 1024"]),
        (("--delta", "soft-prompt", "--tokens", "600"), ["--tokens 600", "512 positions"]),
        (("--full-finetune", "--tokens", "2"), ["--tokens", "full-finetune"]),
        (("--tune", "everything"), ["--tune everything", "head"]),
        (("--recipe", "secret"), ["--recipe secret", "paper"]),
        (("--head-learning-rate", "-1"), ["--head-learning-rate"]),
    ],
)
def test_wrong_settings(tmp_path, options, parts):
    run = run_xclipt(
        *("train-delta", "--lang", "fr", "--backbone", "mclip-l14", "--dry-run", *options),
        *("--artifacts", tmp_path / "artifacts"),
    )
    assert run.code == 2 and run.out == ""
    assert len(run.err.strip().splitlines()) == 1
    for part in parts:
        assert part in run.err
