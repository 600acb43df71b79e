"""Devices and number types by name, and which a training computes in."""

from dataclasses import replace

import pytest
import torch

from tests.factories.datasets import make_folder
from tests.factories.noting import Noting
from tests.factories.tiny import workspace_in
from xclipt.alignment.build import AlignmentRequest
from xclipt.deltas.lora import LoraSpec
from xclipt.devices import choose_dtype, computes_bfloat16_faster, to_device
from xclipt.errors import UsageError, XcliptError
from xclipt.training.recipe import PAPER, PAPER_SCRIPTS, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.training.train import train_delta

CPU = torch.device("cpu")


class Travelling(torch.Tensor):
    """A tensor that notes where it is sent, on machines without a GPU too."""

    @classmethod
    def __torch_function__(cls, called, types, given=(), named=None):
        if called is torch.Tensor.pin_memory:
            given[0].pinned = True
            return given[0]
        if called is torch.Tensor.to:
            given[0].sent = (given[1].type, named["non_blocking"])
            return given[0]
        return super().__torch_function__(called, types, given, named or {})


def test_what_goes_to_a_gpu_is_pinned_and_nothing_waits_for_it():
    travelling = torch.ones(2).as_subclass(Travelling)
    to_device(travelling, torch.device("cuda"))
    assert travelling.pinned and travelling.sent == ("cuda", True)
    staying = torch.ones(2).as_subclass(Travelling)
    to_device(staying, CPU)
    assert not hasattr(staying, "pinned") and staying.sent == ("cpu", False)


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16"])
def test_bfloat16_is_for_processors_that_multiply_in_it(monkeypatch, instructions):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    assert not computes_bfloat16_faster(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    assert computes_bfloat16_faster(CPU)
    assert not computes_bfloat16_faster(torch.device("mps"))


def test_auto_takes_bfloat16_where_it_is_faster_and_nobody_says_otherwise(monkeypatch):
    for faster, found in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda faster=faster: {"avx512_bf16": faster}
        )
        assert recipe_with().computed_in(CPU, torch.float32) == found
        assert recipe_with().computed_in(CPU, torch.float16) == torch.float16
        for told in (PAPER, PAPER_SCRIPTS, recipe_with(dtype="float32")):
            assert told.computed_in(CPU, torch.float32) == torch.float32
    assert choose_dtype("auto") == torch.float32
    with pytest.raises(XcliptError, match="choose auto, float32, bfloat16, float16"):
        recipe_with(dtype="int4")


def test_a_delta_says_in_what_it_was_trained_and_what_is_kept_stays_float32(
    tmp_path, monkeypatch, make_picture
):
    progress = Noting()
    workspace = workspace_in(tmp_path, progress=progress)
    words = {"en": "cat", "tr": "kedi"}
    cats = make_folder(
        tmp_path / "cats",
        {code: {f"{i}.jpg": (f"{word} {i}",) for i in range(6)} for code, word in words.items()},
    )
    for i in range(6):
        make_picture(cats.picture_path(f"{i}.jpg"), size=(8 + i, 8))
    asked = TrainingRequest(
        AlignmentRequest("tr", shots=4),
        delta=LoraSpec(rank=2),
        recipe=recipe_with(max_steps=2, start="none"),
        name="auto",
    )

    def trained(**changes):
        return train_delta(workspace, cats, replace(asked, **changes)).manifest

    monkeypatch.setattr("xclipt.training.recipe.computes_bfloat16_faster", lambda device: True)
    half = trained()
    assert half.dtype == "bfloat16"
    told = recipe_with(max_steps=2, start="none", dtype="float32")
    whole = trained(name="told", recipe=told)
    assert whole.dtype == "float32" and whole.weights.sha256 != half.weights.sha256
    kept = [path.name for path in (workspace.directory.root / "features").iterdir()]
    assert kept and not any("bfloat16" in name for name in kept)

    # The same command on a machine without finds the delta; one that names a type does not.
    monkeypatch.setattr("xclipt.training.recipe.computes_bfloat16_faster", lambda device: False)
    assert trained().weights == half.weights
    assert any("is there already" in note for note in progress.notes)
    with pytest.raises(UsageError, match="they differ in dtype"):
        trained(recipe=told)


def test_features_are_kept_apart_by_what_they_were_computed_in(tmp_path):
    workspace = workspace_in(tmp_path)
    half = replace(workspace, backbone=replace(workspace.backbone, dtype=torch.bfloat16))
    first = half.encode_texts(["a cat"])
    assert not workspace.encode_texts(["a cat"]).equal(first)
    assert half.encode_texts(["a cat"]).equal(first)
