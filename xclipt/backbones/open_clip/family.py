"""The family of open_clip's models: text towers, their tokenizers, image towers."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.clip import import_open_clip
from xclipt.backbones.family import Family, ImageSide
from xclipt.backbones.model_files import first_line, weights_file
from xclipt.backbones.open_clip.description import CONFIG, WEIGHTS, Description, describe
from xclipt.backbones.open_clip.encoders import ENCODER, load_encoder, outline_encoder
from xclipt.backbones.open_clip.own import load_own, outline_own, sizes_of
from xclipt.backbones.text_tower import Pooling, TextTower
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt"),
    *("vocab.json", "merges.txt"),
)
_LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
"""FLORES-200's codes, by which NLLB's vocabulary has languages."""

_CLEANINGS = ("whitespace", "lower", "canonicalize")
"""What open_clip does to texts first, by its names."""

_VISUAL = "visual."
_NO_TEXT = {"vocab_size": 1, "width": 1, "heads": 1, "layers": 1, "context_length": 1}
_CLIPS_WORDS = (
    r"""<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
)


def load_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """Text tower and tokenizer; everything but open_clip's own code is in the folder.

    Raises:
        XcliptError: A file is missing or damaged, they do not belong together, the model is not
            known, or open_clip is not installed.
    """
    described = describe(folder)
    import_open_clip(str(folder))
    padded = not described.encoder and sizes_of(described).fixed_length
    tokenizer, clean = _tokenizer(described, padded)
    if described.encoder:
        tower = load_encoder(described)
    else:
        tower = load_own(described, _begins(tokenizer))
    embeddings: Any = tower.encoder.get_input_embeddings()  # type: ignore[operator]
    rows, words = len(embeddings.weight), 1 + max(tokenizer.get_vocab().values())
    # Matrices are padded, some by more than a thousand rows.
    if not 0.9 * rows < words <= rows:
        raise XcliptError(
            f"{folder}: the tokenizer's {words:,} tokens do not fit the {rows:,} word embeddings; "
            "it is another model's"
        )
    return tower, CaptionTokenizer(
        tokenizer,
        "",
        min(described.context_length, tower.max_length or described.context_length),
        padded=padded,
        clean=clean,
        languages=_languages(tokenizer) if tower.pooling is Pooling.FIRST else {},
    )


def outline(folder: Path) -> TextTower:
    """The text tower on the meta device.

    The sizes of open_clip's own transformer, and of the encoders of its published models, are
    known from the configuration; those of another encoder are in the weights' header.
    """
    described = describe(folder)
    if described.encoder is None:
        return outline_own(described)
    return outline_encoder(described, described.shapes(ENCODER))


def load_images(folder: Path) -> ImageSide:
    """open_clip's image tower, and its preprocessing.

    Raises:
        XcliptError: As :func:`load_text`.
    """
    described = describe(folder)
    open_clip = import_open_clip(str(folder))
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    try:
        whole = open_clip.CustomTextCLIP(
            embed_dim=described.dim,
            vision_cfg=described.model["vision_cfg"] | {"timm_model_pretrained": False},
            text_cfg=_NO_TEXT,
            quick_gelu=bool(described.model.get("quick_gelu")),
        )
    except Exception as error:  # timm's are as many as its models
        why = f"open_clip cannot make the image tower ({first_line(error)})"
        raise described.refused(why) from None
    visual = whole.visual
    described.fill(visual, _VISUAL, described.weights(_VISUAL))
    pixels = merge_preprocess_dict(asdict(PreprocessCfg()), dict(described.pixels))
    pixels["size"] = visual.image_size
    transform = image_transform_v2(PreprocessCfg(**pixels), is_train=False)
    return ImageSide(
        tower=visual,
        read_pixels=lambda path: transform(load_picture(path)),
        preprocessing=pixels,
        dim=described.dim,
        revision="local",
        files=(weights_file(folder, WEIGHTS), folder / CONFIG),
    )


def _tokenizer(described: Description, padded: bool) -> tuple[Any, Callable[[str], str]]:
    from open_clip.tokenizer import get_clean_fn
    from transformers import AutoTokenizer

    settings, hub_id = described.tokenizer_settings, described.text.get("hf_tokenizer_name")
    known = ("clean", "strip_sep_token") if hub_id else ("clean",)
    for name in [n for n in settings if n not in known]:
        raise described.refused(f"tokenizer_kwargs has {name}, which is not known here")
    if mode := described.text.get("tokenizer_mode"):
        raise described.refused(f"tokenizer_mode {mode!r} is not known here")
    if described.cleaning not in _CLEANINGS:
        there = ", ".join(_CLEANINGS)
        raise described.refused(f"clean {described.cleaning!r} is not known; {there} are")
    clean = get_clean_fn(described.cleaning)
    if not hub_id:
        return _clips_own(padded), clean
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            described.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise XcliptError(
            f"{described.folder}: cannot read the tokenizer ({first_line(error)}); put the files "
            f"of {hub_id}'s there"
        ) from None
    if tokenizer.pad_token_id is None:
        raise XcliptError(f"{described.folder}: the tokenizer has no token to pad with")
    if settings.get("strip_sep_token"):
        _pad_for_separator(tokenizer)
    return tokenizer, clean


def _clips_own(padded: bool) -> Any:
    """The tokenizer that open_clip takes where the configuration names none: CLIP's.

    The vocabulary is open_clip's; whatever tokenizer is in the folder, open_clip does not read it.
    """
    from open_clip import SimpleTokenizer
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast

    own = SimpleTokenizer()
    start, end = "<start_of_text>", "<end_of_text>"
    backend = Tokenizer(
        models.BPE(vocab=own.encoder, merges=[*own.bpe_ranks], end_of_word_suffix="</w>")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIPS_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(t, own.encoder[t]) for t in (start, end)]
    )
    tokenizer = make(tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=end)
    if padded:
        # open_clip pads with 0, an exclamation mark. Given at once it would be no word any more.
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _pad_for_separator(tokenizer: Any) -> None:
    """Let a BERT tokenizer end texts as open_clip has it: by the first token of the vocabulary."""
    from tokenizers.processors import TemplateProcessing

    start, end = tokenizer.cls_token, tokenizer.convert_ids_to_tokens(0)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, tokenizer.cls_token_id), (end, 0)]
    )


def _begins(tokenizer: Any) -> int:
    """How many tokens the tokenizer puts before a text."""
    first, *_ = tokenizer("a")["input_ids"]
    return int(first in tokenizer.all_special_ids)


def _languages(tokenizer: Any) -> Mapping[str, int]:
    return {word: i for word, i in tokenizer.get_vocab().items() if _LANGUAGE.fullmatch(word)}


OPEN_CLIP = Family(
    name="open_clip",
    marks=f"{CONFIG}: model_cfg",
    recognises=lambda config: "model_cfg" in config,
    files=(CONFIG, WEIGHTS),
    optional_files=_TOKENIZER_FILES,
    load_text=load_text,
    load_images=load_images,
    outline=outline,
    config_file=CONFIG,
    weights=WEIGHTS,
)
