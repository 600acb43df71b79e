"""CLIP in sentence-transformers' format: a text tower that was taught to land in CLIP's space.

Reimers & Gurevych, *Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation* (EMNLP 2020). ``modules.json`` names the parts: a Transformer beside it, the mean over
its states, and a Dense layer. The image tower is CLIP's, and published by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones import dual_encoder
from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.clip import load_image_side
from xclipt.backbones.family import Family, ImageSide, NamedBackbone
from xclipt.backbones.model_files import (
    TOKENIZER,
    TOKENIZER_BESIDE,
    WEIGHTS,
    from_pretrained,
    load_tokenizer,
    read_any_json,
    read_config,
    read_json,
    read_weights,
    weights_file,
    weights_files,
)
from xclipt.backbones.pixels import PIXEL_FILES
from xclipt.backbones.text_tower import (
    DISTILBERT_MODULES,
    PublishedFormat,
    TextTower,
    names_of_modules,
    positions_of,
)
from xclipt.errors import XcliptError

MODULES = "modules.json"
IDENTITY = "torch.nn.modules.linear.Identity"
"""What a Dense layer's description calls no activation."""

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    IDENTITY: nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
}
_SETTINGS = ("sentence_bert_config.json", "config_sentence_transformers.json")
_COPY_AGAIN = "; copy the model's folder again"
_IMAGE_FOLDER, _CLIP_FOLDER = "image", "0_CLIPModel"
_PARTS = ("Transformer", "Pooling", "Dense")

PUBLISHED = PublishedFormat(
    encoder_prefix="",
    head_prefix=None,
    encoder_class="AutoModel",
    load_encoder="AutoModel.from_pretrained(TEXT_TOWER)",
    usage="""
```python
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

import xclipt

model = SentenceTransformer("{name}")
features = model.encode(["..."], convert_to_tensor=True).cpu()
{pictures}
{cosines}
```

Run it beside this folder, with `pip install sentence-transformers`, which remarks that the default
prompt is `caption`: that is meant, it goes before every text by itself. The modules are a
transformers checkpoint, which `AutoModel` loads, the masked mean and the text head; the image tower
is the backbone's own, unchanged.
""",
)


class Dense(nn.Linear):
    """sentence-transformers' Dense: a linear layer and what comes after it.

    Args:
        width: Of its input.
        dim: Of its output.
        bias: Whether it has one.
        activation: By the name of its class.
    """

    def __init__(self, width: int, dim: int, *, bias: bool, activation: str) -> None:
        super().__init__(width, dim, bias=bias)
        self.activation_name = activation
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, input: Tensor) -> Tensor:
        """``(batch, width)`` -> ``(batch, dim)``."""
        features: Tensor = self.activation(super().forward(input))
        return features


def load_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """The text tower and its tokenizer.

    Raises:
        XcliptError: A file is missing or damaged, or the modules are not those that are known.
    """
    from transformers import AutoModel

    described = _described(folder)
    weights_files(folder)
    encoder = from_pretrained(AutoModel, folder, "the Transformer", unread="pooler.")
    state = read_weights(weights_file(described.dense))
    try:
        head = described.head()
        head.load_state_dict({n.removeprefix("linear."): t.float() for n, t in state.items()})
    except RuntimeError:
        raise XcliptError(
            f"{described.dense}: its weights are not those that its config.json describes"
        ) from None
    tower = _tower(encoder, head, folder)
    rows = encoder.get_input_embeddings().weight.shape[0]
    tokenizer = load_tokenizer(folder, rows, folder / "config.json")
    most = described.settings.get("max_seq_length") or tokenizer.model_max_length
    lower = described.settings.get("do_lower_case")
    return tower, CaptionTokenizer(
        tokenizer,
        described.prompt,
        min(most, tower.max_length or most),
        clean=str.lower if lower else str,
    )


def load_images(folder: Path) -> ImageSide:
    """The image tower in the folder ``image`` within ``folder``.

    Raises:
        XcliptError: There is none, or it cannot be loaded.
    """
    beside = folder / _IMAGE_FOLDER
    if not beside.is_dir():
        raise XcliptError(
            f"{folder}: sentence-transformers publishes the text tower by itself; name the CLIP "
            "whose space it shares, `image_tower=NAME_OR_FOLDER` (for "
            "clip-ViT-B-32-multilingual-v1 that is openai/clip-vit-base-patch32), or put it into "
            f"{beside}"
        )
    return load_with(folder, beside)


def load_with(folder: Path, source: str | Path) -> ImageSide:
    """The image tower of another folder or of a hub id, beside the text tower in ``folder``.

    Raises:
        XcliptError: It cannot be loaded.
    """
    side = load_image_side(source)
    return replace(side, files=(*side.files, *weights_files(_described(folder).dense)))


def outline(folder: Path) -> TextTower:
    """The text tower on the meta device, from the descriptions of its modules alone."""
    from transformers import AutoConfig, AutoModel

    make: Any = AutoModel.from_config
    described = _described(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return _tower(make(config), described.head(), folder)


def _tower(encoder: Any, head: nn.Module, folder: Path) -> TextTower:
    modules = names_of_modules(encoder)
    if modules is None:
        raise XcliptError(
            f"{folder / 'config.json'}: nothing is known of how a text tower of type "
            f"{encoder.config.model_type} calls its modules, so no delta can be put into it"
        )
    return TextTower(encoder, head, modules, PUBLISHED, max_length=positions_of(encoder))


@dataclass(frozen=True)
class _Described:
    """What the descriptions of the modules say."""

    dense: Path
    shape: tuple[int, int]
    bias: bool
    activation: str
    prompt: str
    settings: Mapping[str, Any]

    def head(self) -> Dense:
        return Dense(*self.shape, bias=self.bias, activation=self.activation)


def _described(folder: Path) -> _Described:
    transformer, pooling, dense = (folder / part["path"] for part in _listed(folder)[:3])
    if transformer != folder:
        raise XcliptError(
            f"{folder / MODULES}: the Transformer lies in {transformer.name}; save the model again "
            "with a current sentence-transformers, which puts it beside this file"
        )
    read_config(folder)
    _require_mean(pooling / "config.json")
    path = dense / "config.json"
    config = read_json(path, _COPY_AGAIN)
    activation = config.get("activation_function", IDENTITY)
    if activation not in _ACTIVATIONS:
        known = ", ".join(name.rpartition(".")[2] for name in _ACTIVATIONS)
        raise XcliptError(f"{path}: activation_function {activation!r} is none of {known}")
    try:
        shape = int(config["in_features"]), int(config["out_features"])
    except (KeyError, TypeError, ValueError):
        raise XcliptError(f"{path}: has no in_features and out_features{_COPY_AGAIN}") from None
    settings, prompts = (
        read_json(folder / name, _COPY_AGAIN) if (folder / name).is_file() else {}
        for name in _SETTINGS
    )
    prompt = prompts.get("prompts", {}).get(prompts.get("default_prompt_name")) or ""
    return _Described(dense, shape, bool(config.get("bias", True)), activation, prompt, settings)


def _require_mean(path: Path) -> None:
    """Refuse any pooling but the mean: named in one entry today, by an entry a mode before."""
    config = read_json(path, _COPY_AGAIN)
    before = {
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, on in config.items()
        if name.startswith("pooling_mode_") and on
    }
    if (before or {str(config.get("pooling_mode"))}) != {"mean"}:
        raise XcliptError(f"{path}: xclipt takes the mean over a text's tokens, no other pooling")


def _listed(folder: Path) -> Sequence[Mapping[str, Any]]:
    modules: Sequence[Mapping[str, Any]] = read_any_json(folder / MODULES)
    return modules


def _kinds(config: Mapping[str, Any]) -> list[str]:
    listed = [part for part in config["modules"] if isinstance(part, dict) and "path" in part]
    return [str(part.get("type")).rpartition(".")[2] for part in listed]


def _is_pair(config: Mapping[str, Any]) -> bool:
    """Whether they are a text tower's; a Normalize at the end changes no cosine."""
    kinds = _kinds(config)
    return tuple(kinds[:3]) == _PARTS and kinds[3:] in ([], ["Normalize"])


def _distilbert() -> TextTower:
    from transformers import DistilBertConfig, DistilBertModel

    with torch.device("meta"):
        encoder = DistilBertModel(DistilBertConfig(vocab_size=119547))
        head = Dense(768, 512, bias=False, activation=IDENTITY)
    return TextTower(encoder, head, DISTILBERT_MODULES, PUBLISHED, max_length=512)


SENTENCE_TRANSFORMERS = Family(
    name="sentence-transformers",
    marks=f"{MODULES} of {', '.join(_PARTS)}",
    recognises=_is_pair,
    files=(
        *(MODULES, "config.json", TOKENIZER, "1_Pooling/config.json", "2_Dense/config.json"),
        ("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"),
        WEIGHTS,
    ),
    optional_files=(*_SETTINGS, *TOKENIZER_BESIDE),
    load_text=load_text,
    load_images=load_images,
    load_with=load_with,
    outline=outline,
    named={
        "clip-vit-b32-multilingual": NamedBackbone(
            "sentence-transformers/clip-ViT-B-32-multilingual-v1",
            "openai/clip-vit-base-patch32",
            _distilbert,
        )
    },
    config_file=MODULES,
)


def _within(*names: str) -> tuple[str, ...]:
    return tuple(f"{_CLIP_FOLDER}/{name}" for name in names)


SENTENCE_CLIP = Family(
    name="sentence-transformers' CLIP",
    marks=f"{MODULES} of a CLIPModel",
    recognises=lambda config: _kinds(config)[:1] == ["CLIPModel"],
    files=(MODULES, *_within("config.json"), _within(*TOKENIZER), _within(*WEIGHTS)),
    optional_files=_within(*TOKENIZER_BESIDE, *PIXEL_FILES),
    load_text=lambda folder: dual_encoder.load_text(folder / _CLIP_FOLDER),
    load_images=lambda folder: dual_encoder.load_images(folder / _CLIP_FOLDER),
    outline=lambda folder: dual_encoder.outline(folder / _CLIP_FOLDER),
    config_file=MODULES,
    weights=_within(*WEIGHTS),
    checkpoint=_CLIP_FOLDER,
)
"""Both towers, as transformers has them, in a folder of their own."""
