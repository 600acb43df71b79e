"""What a tower makes no numbers of is refused and named; what it cannot hold is counted."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.factories.deltas import store_noise
from tests.factories.models import load, write_clip
from tests.factories.noting import Noting
from tests.factories.tiny import tiny_backbone, word_tokenizer, workspace_in
from xclipt.backbones.backbone import CaptionTokenizer, NonFiniteError
from xclipt.deltas.lora import LoraSpec
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.model import Model
from xclipt.workspace import Workspace

WORD = 4 + 1  # the token of "chat"


def spoil_word(workspace: Workspace, number: float = torch.nan) -> None:
    """Make the frozen tower give no numbers for texts with "chat" in them."""
    embeddings = workspace.backbone.text_tower.encoder.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight[WORD] = number


@pytest.fixture
def workspace(tmp_path):
    return workspace_in(tmp_path, progress=Noting())


def cached(workspace: Workspace) -> list[Tensor]:
    shards = (workspace.directory.root / "features").rglob("*.safetensors")
    return [load_file(shard)["features"] for shard in shards]


TEXTS = ["un chien", "chat noir", "chat " * 12]


def test_the_text_and_the_backbone_are_named_and_nothing_is_kept(workspace):
    spoil_word(workspace)
    with pytest.raises(NonFiniteError) as caught:
        workspace.encode_texts(TEXTS)
    assert str(caught.value) == (
        "backbone tiny: its features of 'chat noir' are not finite; its weights are damaged, get "
        "them anew"
    )
    assert cached(workspace) == []
    assert workspace.encode_texts(TEXTS[:1]).isfinite().all()


def test_half_precision_has_another_way_out(workspace):
    spoil_word(workspace)
    half = replace(workspace, backbone=replace(workspace.backbone, dtype=torch.float16))
    with pytest.raises(NonFiniteError, match="anew, or use `dtype=float32`"):
        half.encode_texts(TEXTS)


def test_the_delta_is_blamed_unless_the_backbone_fails_alike(workspace):
    delta = store_noise(workspace, "fr", "huge", 1e30)
    with pytest.raises(NonFiniteError, match=r"^delta fr/huge: .* 'un chien' .* train it again"):
        workspace.encode_texts(TEXTS, delta)
    model = Model(workspace)
    with pytest.raises(NonFiniteError, match=r"^delta fr/huge: .* 'chat noir' "):
        model.encode_text(["a cat", TEXTS[1]], [None, "fr"])
    spoil_word(workspace)
    with pytest.raises(NonFiniteError, match=r"^backbone tiny: .* 'chat noir' "):
        workspace.encode_texts(TEXTS[1:2], delta)
    with pytest.raises(NonFiniteError, match=r"^backbone tiny: .* 'chat noir' "):
        model.encode_text(["a cat", TEXTS[1]], [None, "fr"])


def test_of_deltas_in_one_batch_the_right_one_is_named(workspace):
    store_noise(workspace, "fr", "good", 0.1)
    store_noise(workspace, "de", "huge", 1e30)
    with pytest.raises(NonFiniteError, match=r"^delta de/huge: .* 'un chien' "):
        Model(workspace).encode_text(["chat noir", "un chien"], ["fr", "de"])


def test_the_picture_is_named(workspace, tmp_path, make_picture):
    good, bad = make_picture(tmp_path / "good.png"), make_picture(tmp_path / "bad.png", "blue")
    read = workspace.backbone.read_pixels
    spoilt = replace(
        workspace.backbone,
        read_pixels=lambda path: read(path) * (torch.inf if path == bad else 1),
    )
    workspace = replace(workspace, backbone=spoilt)
    for encode in (workspace.encode_pictures, Model(workspace).encode_image):
        with pytest.raises(NonFiniteError, match=f"^backbone tiny: its features of {bad} are not"):
            encode([good, bad])
    assert cached(workspace) == []


def test_features_that_were_spoilt_on_disk_are_computed_again(workspace):
    before = workspace.encode_texts(TEXTS)
    (shard,) = (workspace.directory.root / "features").rglob("*.safetensors")
    tensors = load_file(shard)
    tensors["features"][1] = torch.nan
    save_file(tensors, shard)
    assert torch.equal(workspace.encode_texts(TEXTS), before)


@pytest.mark.parametrize(
    ("words", "cut"), [(14, False), (15, True), (16, True), (40, True), (200, True)]
)
def test_a_text_is_cut_from_the_first_token_that_is_lost(words, cut):
    tokenizer = CaptionTokenizer(word_tokenizer(), "", 16)  # 14 words, <s> and </s>
    texts = ["un", "chat " * words, "", "chien"]
    assert tokenizer.longer(texts, 16) == ([1] if cut else [])
    assert tokenizer.longer(texts, 12) == [1]
    assert [len(row) for row in tokenizer(texts)] == [3, min(words + 2, 16), 2, 3]


def test_letters_of_several_bytes_and_a_prefix_are_counted():
    tokenizer = CaptionTokenizer(word_tokenizer(), "un ", 8)
    texts = ["猫 " * 5, "猫 " * 6, "a " * 5, "a " * 6]
    assert tokenizer.longer(texts, 8) == [1, 3]


def test_different_texts_are_counted_once(workspace):
    texts = ["chat " * 15, "chat " * 15, "chien " * 20, "chat"]
    workspace.note_cut("here", [(texts, None), (texts[:1], LoraSpec()), (["un"], None)])
    workspace.note_cut("there", [(["un", "chat " * 14], None)])
    assert workspace.progress.notes == [
        "here: 2 of 4 texts do not fit the text tower's 16 tokens and are cut"
    ]


def test_what_a_delta_puts_before_the_text_counts(tmp_path):
    write_clip(tmp_path / "clip")  # 20 positions
    workspace = workspace_in(tmp_path, load(tmp_path / "clip"), Noting())
    text = "un " * 16
    for spec in (None, SoftPromptSpec(tokens=2), LoraSpec(hard_prompt="un chat")):
        workspace.note_cut("here", [([text], spec)])
    assert workspace.progress.notes == []
    for spec in (SoftPromptSpec(tokens=3), LoraSpec(hard_prompt="un grand chat")):
        workspace.note_cut("here", [([text], spec)])
    assert len(workspace.progress.notes) == 2


def test_the_tower_without_positions_of_its_own_cuts_where_its_tokenizer_does():
    assert tiny_backbone().text_tower.max_length is None
    assert tiny_backbone().cut(["chat " * 15, "chat " * 14], taken=5) == [0]
