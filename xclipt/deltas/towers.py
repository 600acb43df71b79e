"""What the modules that deltas touch are called in each family of text towers: a row a family."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xclipt.deltas.spec import ALL_LINEAR, QUERY_VALUE


@dataclass(frozen=True)
class TowerNames:
    """Ends of module names within the encoder, as ``named_modules`` gives them."""

    query: str
    key: str
    value: str
    attention_output: str
    ffn_input: str
    ffn_output: str
    layer_norms: tuple[str, ...]

    def lora_modules(self, modules: str) -> tuple[str, ...]:
        """What a LoRA updates; ``modules`` is :attr:`~xclipt.deltas.spec.LoraSpec.modules`."""
        if modules == QUERY_VALUE:
            return (self.query, self.value)
        attention = (self.query, self.key, self.value, self.attention_output)
        return (*attention, self.ffn_input, self.ffn_output)


FAMILIES = {
    # BERT, RoBERTa and XLM-R. The embeddings' own LayerNorm is not an output.LayerNorm.
    "bert": TowerNames(
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_output="attention.output.dense",
        ffn_input="intermediate.dense",
        ffn_output="output.dense",
        layer_norms=("output.LayerNorm",),
    ),
    # CLIP's text tower, and SigLIP's. Norms come before the blocks; both of a layer are trained.
    "clip": TowerNames(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_output="self_attn.out_proj",
        ffn_input="mlp.fc1",
        ffn_output="mlp.fc2",
        layer_norms=("layer_norm1", "layer_norm2"),
    ),
}


def family_of(names: Iterable[str]) -> str:
    """The family of the tower that a delta's tensors are of, from their names.

    A soft prompt alone has no layer's name; then it is ``bert``.
    """
    return "clip" if any(".layers." in name for name in names) else "bert"


def lora_modules_of(names: Collection[str]) -> str:
    """What a LoRA updates (:attr:`~xclipt.deltas.spec.LoraSpec.modules`), from its tensors' names.

    Only the feed-forward layers tell: a LoRA of other modules fits neither, and no tower takes it.
    """
    widened = FAMILIES[family_of(names)].ffn_input + ".lora."
    return ALL_LINEAR if any(widened in name for name in names) else QUERY_VALUE
