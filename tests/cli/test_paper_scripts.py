"""The paper's scripts and joint training as a user types them: XTD's layout, a small M-CLIP."""

import pytest

from tests.factories.models import write_mclip_backbone
from tests.factories.published import write_xtd
from tests.factories.running import run_xclipt

FEW = ("--shots", "4", "--epochs", "2", "--even-if-worse")


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    root = tmp_path_factory.mktemp("scripts")
    write_mclip_backbone(root / "backbone")
    return write_xtd(root)


def said(ground, command, *arguments, code=0):
    common = ("--artifacts", ground / "artifacts", "--data-dir", ground)
    if command in ("train-delta", "translate"):
        common += ("--backbone", ground / "backbone", "--dataset", "xtd")
    run = run_xclipt(command, *arguments, *common)
    assert run.code == code, run.err
    return run


def test_a_released_command(ground):
    arguments = ("--lang", "fr", "--recipe", "paper-scripts", "--routine", "1")
    trained = said(ground, "train-delta", *arguments, *FEW, "--learning-rate", "1e-3", "--json")
    (delta,) = trained.json()["deltas"]
    assert delta["steps"] == 2 and delta["validation"]["pictures"] == 4
    (stored,) = said(ground, "status", "--json").json()["deltas"]
    assert stored["languages"] == ["fr"] and stored["trainable_parameters"] == 2 * (
        4 * 32 + 4 * 16
    ) + (16 * 8 + 8)
    measured = said(
        ground, "eval", "--lang", "fr", "--dataset", "xtd", "--split", "paper", "--shots", "4"
    )
    assert "16" in measured.out and "lora-4shot-xtd-seed1" in measured.out
    other = ("--split-seed", "7", "--json", "--name", "other")
    drawn = said(ground, "train-delta", *arguments, *FEW, *other).json()
    assert drawn["deltas"][0]["validation"]["pictures"] == 4


def test_one_delta_for_several_languages(ground):
    arguments = ("--lang", "de,fr,it", "--joint", "--routine", "none", "--split", "paper")
    (delta,) = said(ground, "train-delta", *arguments, *FEW, "--json").json()["deltas"]
    assert (delta["language"], delta["languages"]) == ("mul", ["de", "fr", "it"])
    name = f"mul/{delta['name']}"
    document = said(ground, "eval", "--lang", "de,it", "--dataset", "xtd", "--json").json()
    assert {row["delta"] for row in document["rows"]} == {None, name}
    assert f"it: {name} is current" in said(ground, "use", "it", name).out
    (export,) = said(ground, "export-delta", "--lang", "de", "--json").json()["exports"]
    assert export["language"] == "mul" and export["delta"] == delta["name"]
    assert "no problems" in said(ground, "verify").out
    assert "--lang de,fr" in said(ground, "train-delta", "--lang", "de", "--joint", code=2).err
    refused = said(ground, "use", "pl", name, code=2).err
    assert f"no delta '{name}' for 'pl'" in refused
