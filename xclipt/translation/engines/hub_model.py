"""Sequence-to-sequence models of the hub: their files, their revision, and how they name languages.

Marian (opus-mt), M2M-100 and NLLB-200 are known.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.backbones.model_files import fetch
from xclipt.errors import XcliptError
from xclipt.languages import flores_code
from xclipt.languages import name as language_name

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TAKEN_ALONG = (
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("tokenizer.json", "source.spm", "target.spm", "vocab.json", "target_vocab.json"),
    "sentencepiece.bpe.model",
)
LONGEST_TEXT = 400
"""Tokens of a text that a model is given."""
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
        raise _refused(
            name, "no such folder and no hub id; a hub id is such as Helsinki-NLP/opus-mt-fr-en"
        )
    folder = fetch(name, ("config.json", _WEIGHTS), _TAKEN_ALONG, field="model")
    return HubModel(name, folder.name, folder)


class ModelTokenizer:
    """Text to tokens and back, in the languages that a model was asked for.

    Args:
        model: The model whose tokenizer it is.
        source: ISO 639-1 code of the texts.
        target: ISO 639-1 code of the translations.

    Attributes:
        languages: How the model is told of them.
        cut: How many texts were too long and lost their end.
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
        # M2M-100 keeps its language tokens apart.
        vocabulary = {*self.pieces.get_vocab(), *getattr(self.pieces, "lang_token_to_id", ())}
        self.languages: LanguageTokens = language_tokens(
            model.name, kind, vocabulary, source, target
        )
        if self.languages.source is not None:
            self.pieces.src_lang = self.languages.source
        self.cut = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with what tells the model of the languages."""
        prefixed = [self.languages.prefix + text for text in texts]
        encoded = self.pieces(prefixed, truncation=True, max_length=LONGEST_TEXT)["input_ids"]
        full = [
            text for text, ids in zip(prefixed, encoded, strict=True) if len(ids) == LONGEST_TEXT
        ]
        if full:
            whole = self.pieces(full, verbose=False)["input_ids"]
            self.cut += sum(len(ids) > LONGEST_TEXT for ids in whole)
        return [list(ids) for ids in encoded]

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


def _refused(model: str, why: str) -> XcliptError:
    return XcliptError(why, field="model", value=model)


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


_MARIAN_LANGUAGE = {"zh": ("cmn_Hans", "cmn", "zho_Hans", "zho"), "no": ("nob",), "ar": ("ara",)}


@dataclass(frozen=True)
class LanguageTokens:
    """What a model has to be told.

    Attributes:
        source: The tokenizer's name of the language to read; ``None`` where it knows only one.
        forced: The token that the translation must begin with, if any.
        prefix: What is put before every text.
    """

    source: str | None = None
    forced: str | None = None
    prefix: str = ""


def language_tokens(
    model: str, kind: str, vocabulary: Collection[str], source: str, target: str
) -> LanguageTokens:
    """What a model has to be told to translate from ``source`` to ``target``.

    Marian models of several target languages read ``>>fra<<`` before the text. NLLB reads
    ``fra_Latn`` and M2M-100 ``__fr__`` before the text, and both begin the translation with the
    like of the other language.

    Args:
        model: Its name, for messages.
        kind: ``model_type`` of its configuration.
        vocabulary: Its tokenizer's tokens.
        source: ISO 639-1 code.
        target: ISO 639-1 code.

    Raises:
        XcliptError: It is of another kind, or does not have one of the languages.
    """
    if kind == "marian":
        return LanguageTokens(prefix=_marian_prefix(model, vocabulary, target))
    if "eng_Latn" in vocabulary:
        reads, writes = flores_code(source), flores_code(target)
        _require(model, vocabulary, {source: reads, target: writes})
        return LanguageTokens(source=reads, forced=writes)
    if "__en__" in vocabulary:
        reads, writes = f"__{source}__", f"__{target}__"
        _require(model, vocabulary, {source: reads, target: writes})
        return LanguageTokens(source=source, forced=writes)
    raise _refused(model, f"is of type {kind}; opus-mt (Marian), NLLB-200 and M2M-100 are known")


def _marian_prefix(model: str, vocabulary: Collection[str], target: str) -> str:
    from langcodes import Language

    tags = sorted(token for token in vocabulary if token.startswith(">>") and token.endswith("<<"))
    if not tags:
        return ""
    letters = Language.get(target).to_alpha3()
    names = (*_MARIAN_LANGUAGE.get(target, ()), letters, target, flores_code(target))
    for name in names:
        if f">>{name}<<" in vocabulary:
            return f">>{name}<< "
    raise _refused(
        model,
        f"does not write {language_name(target)} ({target}); it has "
        f"{', '.join(tag.strip('<>') for tag in tags[:12])}{', ...' if len(tags) > 12 else ''}",
    )


def _require(model: str, vocabulary: Collection[str], tokens: dict[str, str]) -> None:
    for language, token in tokens.items():
        if token not in vocabulary:
            raise _refused(
                model, f"does not know {language_name(language)} ({language}, as {token})"
            )
