"""Translation models of a few thousand weights, written in the hub's own format."""

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
)

SENTENCES = (
    *("un chat noir dort sur le lit", "le chien court dans un grand parc vert"),
    *("deux enfants jouent au ballon rouge", "une femme lit un livre près de la fenêtre"),
    *("a black cat sleeps on the bed", "the dog runs in a big green park"),
    *("two children play with a red ball", "a woman reads a book by the window"),
)
STEPS = 120
_SHAPE = {
    **{"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}


def train_pieces(folder: Path, size: int = 120) -> Path:
    """A sentencepiece model of the sentences; the file ends in ``.model``."""
    (folder / "text").write_text("\n".join(SENTENCES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "pieces"),
        vocab_size=size,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "text").unlink()
    return folder / "pieces.model"


def pieces_of(model: Path) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def write_marian(folder: Path, *, tags: tuple[str, ...] = (), pickled: bool = False) -> Path:
    """An opus-mt model; ``tags`` are the target languages of a multilingual one."""
    folder.mkdir(parents=True)
    pieces = train_pieces(folder)
    known = [piece for piece in pieces_of(pieces) if piece not in ("<unk>", "<s>", "</s>")]
    tagged = [f">>{tag}<<" for tag in tags]
    vocabulary = ["</s>", "<unk>", *tagged, *known, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(pieces.read_bytes())
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json")
    )
    tokenizer.save_pretrained(folder)
    pad = len(vocabulary) - 1
    config = MarianConfig(
        **_SHAPE,
        vocab_size=len(vocabulary),
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        activation_function="swish",
        normalize_embedding=False,
        scale_embedding=True,
        static_position_embeddings=True,
        max_position_embeddings=512,
    )
    torch.manual_seed(3)
    model = MarianMTModel(config)
    _teach(model, tokenizer)
    model.generation_config.bad_words_ids = [[pad]]
    _save(model, folder, pickled=pickled)
    return folder


def write_m2m100(folder: Path, *, nllb: bool = False) -> Path:
    """An M2M-100 model, or an NLLB one."""
    folder.mkdir(parents=True)
    pieces = train_pieces(folder)
    known = [piece for piece in pieces_of(pieces) if piece not in ("<unk>", "<s>", "</s>")]
    if nllb:
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *known]
        merges = _merges(known)
        tokenizer = NllbTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges)
    else:
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *known]
        (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
        tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(pieces))
    tokenizer.save_pretrained(folder)
    made_up = 8  # rows that the published models have and nobody uses
    size = len(tokenizer) if nllb else len(vocabulary) + len(tokenizer.lang_token_to_id) + made_up
    config = M2M100Config(
        **_SHAPE,
        vocab_size=size,
        max_position_embeddings=512,
        forced_eos_token_id=None,
        activation_function="relu",
    )
    torch.manual_seed(3)
    model = M2M100ForConditionalGeneration(config)
    if not nllb:
        tokenizer = _as_published(folder, tokenizer)
    tokenizer.src_lang, tokenizer.tgt_lang = ("fra_Latn", "eng_Latn") if nllb else ("fr", "en")
    _teach(model, tokenizer)
    _save(model, folder, pickled=False)
    return folder


def _as_published(folder: Path, tokenizer: M2M100Tokenizer) -> M2M100Tokenizer:
    # What transformers 5 saves leaves out which tokens are special; the published files do not.
    special = {
        **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"},
        **{"pad_token": "<pad>", "additional_special_tokens": list(tokenizer.lang_token_to_id)},
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "M2M100Tokenizer", "language_codes": "m2m100"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return M2M100Tokenizer.from_pretrained(folder)


def _merges(known: list[str]) -> list[tuple[str, str]]:
    # Any way to build a piece of two others is a merge, the longest pieces last.
    there = set(known)
    return [
        (piece[:i], piece[i:])
        for piece in sorted(known, key=len)
        for i in range(1, len(piece))
        if piece[:i] in there and piece[i:] in there
    ]


def _teach(model: Any, tokenizer: Any) -> None:
    """Learn the sentences by heart, so that it matters what the model is given."""
    half = len(SENTENCES) // 2
    batch = tokenizer(
        list(SENTENCES[:half]),
        text_target=list(SENTENCES[half:]),
        padding=True,
        return_tensors="pt",
    )
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(STEPS):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():  # as in published models; CTranslate2 relies on it
            model.get_input_embeddings().weight[tokenizer.pad_token_id] = 0
    model.eval()


def _save(model: torch.nn.Module, folder: Path, *, pickled: bool) -> None:
    model.save_pretrained(folder)
    if pickled:  # as most opus-mt models are published
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
