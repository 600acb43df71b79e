"""Small random text towers as sentence-transformers writes them."""

import shutil
import warnings
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertModel

from tests.factories.models import VOCABULARY, write_clip_vision, write_tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its modules have moved
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer


def write_pair(folder: Path, *, activation: torch.nn.Module | None = None) -> SentenceTransformer:
    """As the library writes it, the image tower beside it."""
    torch.manual_seed(0)
    base = folder / "base"
    settings = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
    DistilBertModel(
        DistilBertConfig(
            **settings, vocab_size=VOCABULARY, max_position_embeddings=32, pad_token_id=1
        )
    ).save_pretrained(base)
    write_tokenizer(base)
    model = SentenceTransformer(
        modules=[
            Transformer(str(base), max_seq_length=24),
            Pooling(16, pooling_mode="mean"),
            Dense(16, 8, bias=False, activation_function=activation or torch.nn.Identity()),
        ]
    )
    shutil.rmtree(base)
    model.save_pretrained(str(folder))
    write_clip_vision(folder / "image")
    return model
