"""What the modules that deltas touch are called in each family of text towers: a row a family."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TowerNames:
    """Ends of module names within the encoder, as ``named_modules`` gives them."""

    query: str
    value: str
    attention_output: str
    ffn_output: str
    layer_norms: tuple[str, ...]


FAMILIES = {
    # BERT, RoBERTa and XLM-R. The embeddings' own LayerNorm is not an output.LayerNorm.
    "bert": TowerNames(
        query="attention.self.query",
        value="attention.self.value",
        attention_output="attention.output.dense",
        ffn_output="output.dense",
        layer_norms=("output.LayerNorm",),
    ),
    # CLIP's text tower, and SigLIP's. Norms come before the blocks; both of a layer are trained.
    "clip": TowerNames(
        query="self_attn.q_proj",
        value="self_attn.v_proj",
        attention_output="self_attn.out_proj",
        ffn_output="mlp.fc2",
        layer_norms=("layer_norm1", "layer_norm2"),
    ),
}


def family_of(names: Iterable[str]) -> str:
    """The family of the tower that a delta's tensors are of, from their names.

    A soft prompt alone has no layer's name; then it is ``bert``.
    """
    return "clip" if any(".layers." in name for name in names) else "bert"
