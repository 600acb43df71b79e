"""What a hard prompt becomes of a caption's tokens."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories.deltas import store_noise
from tests.factories.models import write_xlm_roberta_tokenizer
from tests.factories.tiny import workspace_in
from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.deltas.lora import LoraSpec
from xclipt.evaluation.queries import tidy
from xclipt.workspace import with_prompt

CAPTIONS = ["un chat noir dort", "  Schiff, 3 Boote", "黒い猫が寝ている", "кошка"]


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory) -> CaptionTokenizer:
    folder: Path = tmp_path_factory.mktemp("xlm-roberta")
    return CaptionTokenizer(write_xlm_roberta_tokenizer(folder), "", 512)


def test_the_prompts_tokens_are_those_that_it_has_alone(xlm_roberta):
    (prompt,) = xlm_roberta([tidy("Language: ")])
    assert len(prompt) == 4, "<s>, two pieces, </s>"
    for alone, joined in zip(
        xlm_roberta(CAPTIONS),
        xlm_roberta([with_prompt(tidy("Language: "), caption) for caption in CAPTIONS]),
        strict=True,
    ):
        assert joined == [*prompt[:-1], *alone[1:]]


def test_the_builtin_tower_keeps_its_own_prefix_before_it(backbone):
    bare = replace(backbone.tokenizer, prefix="")
    (joined,) = backbone.tokenizer([with_prompt("Language:", "un chat noir")])
    parts = [row[1:-1] for row in bare(["query:", "Language:", "un chat noir"])]
    assert joined[1:-1] == [token for part in parts for token in part]


def test_a_prompt_that_is_given_does_as_one_that_was_trained(tmp_path):
    workspace = workspace_in(tmp_path)
    own = store_noise(workspace, "fr", "own", 0.1, spec=LoraSpec(hard_prompt="grand"))
    bare = store_noise(workspace, "fr", "bare", 0.1)
    captions = ["un chat", "chien noir"]
    trained = workspace.encode_texts(captions, own)
    assert workspace.encode_texts(captions, bare, prompt="grand").equal(trained)
    # Its own is replaced, and an empty one leaves the caption alone.
    replaced = workspace.encode_texts(captions, own, prompt="petit")
    assert workspace.encode_texts(captions, bare, prompt="petit").equal(replaced)
    alone = workspace.encode_texts(captions, own, prompt="")
    assert workspace.encode_texts(captions, bare).equal(alone) and not alone.equal(trained)
    base = workspace.backbone.encode_texts(["grand un chat", "grand chien noir"])
    assert workspace.encode_texts(captions, prompt="grand").equal(base)
