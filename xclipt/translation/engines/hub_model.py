"""Sequence-to-sequence models of the hub: their files, their revision, and how they name languages.

Marian (opus-mt), M2M-100 and NLLB-200 are known.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.backbones.hub import fetch
from xclipt.errors import XcliptError
from xclipt.translation.engines.language_tokens import LanguageTokens, language_tokens

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TAKEN_ALONG = (
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("tokenizer.json", "source.spm", "target.spm", "vocab.json", "target_vocab.json"),
    "sentencepiece.bpe.model",
)
_LONGEST_TEXT = 400
_LONGEST_TRANSLATION = 256


@dataclass(frozen=True)
class HubModel:
    """A model's files on this disk.

    Attributes:
        name: The hub id, or the folder's name.
        revision: The hub's commit, or a hash of the folder's files.
        folder: Where the files are.
    """

    name: str
    revision: str
    folder: Path


def models_for(source: str, target: str) -> tuple[str, ...]:
    """Hub ids of models for two languages, those for this pair alone first."""
    return (
        f"Helsinki-NLP/opus-mt-{source}-{target}",
        "facebook/nllb-200-distilled-600M",
        "facebook/m2m100_418M",
    )


def find_model(name: str) -> HubModel | None:
    """A model that is on this disk: a folder, or in the hub's cache; ``None`` if it is not.

    Raises:
        XcliptError: The folder cannot be read.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return HubModel(folder.resolve().name, _content_hash(folder), folder)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in ("config.json", *_WEIGHTS)]
    except HFValidationError:
        return None
    config, *weights = [Path(path) if isinstance(path, str) else None for path in found]
    if config is None or not any(weights):
        return None
    return HubModel(name, config.parent.name, config.parent)


def fetch_model(name: str) -> HubModel:
    """A model from this disk, else from the hub.

    Raises:
        XcliptError: It cannot be had.
    """
    if found := find_model(name):
        return found
    if name.count("/") != 1 or Path(name).is_absolute():
        raise XcliptError(
            f"--model {name}: no such folder and no hub id; a hub id is such as "
            "Helsinki-NLP/opus-mt-fr-en"
        )
    folder = fetch(name, ("config.json", _WEIGHTS), _TAKEN_ALONG, option="--model")
    return HubModel(name, folder.name, folder)


class ModelTokenizer:
    """Text to tokens and back, in the languages that a model was asked for.

    Args:
        model: The model whose tokenizer it is.
        source: ISO 639-1 code of the texts.
        target: ISO 639-1 code of the translations.

    Attributes:
        languages: How the model is told of them.
        pieces: The tokenizer of transformers.

    Raises:
        XcliptError: The tokenizer is missing or damaged, or the model has not these languages.
    """

    def __init__(self, model: HubModel, source: str, target: str) -> None:
        from transformers import AutoConfig, AutoTokenizer

        try:
            kind = AutoConfig.from_pretrained(model.folder, local_files_only=True).model_type
            self.pieces: Any = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
        except Exception as error:  # files of others: anything can be wrong with them
            raise _unusable(model, error) from None
        self.languages: LanguageTokens = language_tokens(
            model.name, kind, self.pieces.get_vocab(), source, target
        )
        if self.languages.source is not None:
            self.pieces.src_lang = self.languages.source

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with what tells the model of the languages."""
        prefixed = [self.languages.prefix + text for text in texts]
        encoded = self.pieces(prefixed, truncation=True, max_length=_LONGEST_TEXT)
        return [list(ids) for ids in encoded["input_ids"]]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token ids, without special tokens."""
        decoded = [self.pieces.decode(list(row), skip_special_tokens=True) for row in ids]
        return [text.strip() for text in decoded]


def longest_translation(encoded: Sequence[Sequence[int]]) -> int:
    """How many tokens a batch may be translated to: a bound for decoding that goes astray."""
    return min(_LONGEST_TRANSLATION, 2 * max(map(len, encoded)) + 32)


def load_model(model: HubModel) -> Any:
    """The model of transformers, in float32 on the CPU.

    Raises:
        XcliptError: The weights are damaged or do not fit.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM

    try:
        return AutoModelForSeq2SeqLM.from_pretrained(
            model.folder,
            local_files_only=True,
            use_safetensors=(model.folder / _WEIGHTS[0]).exists(),
            weights_only=True,
            dtype=torch.float32,
        ).eval()
    except Exception as error:
        raise _unusable(model, error) from None


def _unusable(model: HubModel, error: Exception) -> XcliptError:
    line = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
    return XcliptError(f"{model.folder}: not a translation model that can be loaded ({line})")


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name in ("config.json", *_WEIGHTS, *_TAKEN_ALONG):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise XcliptError(f"{folder}: cannot read ({error.strerror})") from None
    return digest.hexdigest()[:12]
