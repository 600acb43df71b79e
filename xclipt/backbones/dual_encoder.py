"""Every dual encoder of transformers that xclipt knows, a row each, and one loader for all.

``AutoModel`` makes the model. In transformers 5 ``get_text_features`` and ``get_image_features`` of
each return an output whose ``pooler_output`` is the feature in the joint space; what else differs
stands in the rows. ``BACKBONES.md`` tells the traps.
"""

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.family import Family, ImageSide
from xclipt.backbones.model_files import (
    TOKENIZER,
    TOKENIZER_BESIDE,
    WEIGHTS,
    first_line,
    from_pretrained,
    load_tokenizer,
    read_config,
    weights_files,
)
from xclipt.backbones.pixels import PIXEL_FILES, load_pixels
from xclipt.backbones.text_tower import (
    Pooling,
    PublishedFormat,
    Similarity,
    TextTower,
    names_of_modules,
    positions_of,
)
from xclipt.errors import XcliptError

_PUBLISHED = PublishedFormat(
    encoder_prefix="text_model.",
    head_prefix="text_projection.",
    encoder_class="AutoModel",
    load_encoder="AutoModel.from_pretrained(TEXT_TOWER).text_model",
    usage="""
```python
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

import xclipt

model = AutoModel.from_pretrained("{name}")
tokens = AutoTokenizer.from_pretrained("{name}")(["..."], padding=True, return_tensors="pt")
with torch.inference_mode():
    features = model.get_text_features(**tokens).pooler_output
{pictures}
{cosines}
```

Run it beside this folder. It is the whole model; the image side is unchanged.
""",
)
_CLIP = replace(
    _PUBLISHED,
    encoder_class="CLIPTextModel",
    load_encoder="CLIPTextModel.from_pretrained(TEXT_TOWER)\n"
    'encoder = getattr(encoder, "text_model", encoder)  # transformers 4 has it one level deeper',
    usage="""
```python
from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPModel

import xclipt

model = CLIPModel.from_pretrained("{name}")
tokens = AutoTokenizer.from_pretrained("{name}")(["..."], padding=True, return_tensors="pt")
with torch.inference_mode():
    features = model.get_text_features(**tokens)
features = getattr(features, "pooler_output", features)  # transformers 4 returns them alone
{pictures}
{cosines}
```

Run it beside this folder. It is the whole CLIP; the image side is unchanged.
""",
)
_SIGLIP = replace(
    _PUBLISHED,
    head_prefix="text_model.head.",
    head_within=True,
    input_notes="\nPut texts in lower case, pad their ids on the right to all positions of the "
    "tower, and\ngive it no attention mask.",
    usage="""
```python
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

import xclipt

model = AutoModel.from_pretrained("{name}")
tokens = AutoTokenizer.from_pretrained("{name}")(
    ["...".lower()], padding="max_length", padding_side="right", truncation=True,
    max_length={max_tokens}, return_tensors="pt",
)
with torch.inference_mode():
    features = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
{pictures}
{cosines}
```

Run it beside this folder. It is the whole model; the image side is unchanged. Texts are in lower
case, and no attention mask goes in.
""",
)


@dataclass(frozen=True)
class _Type:
    """What a ``model_type`` of transformers has of its own.

    Attributes:
        head: Name of the module that takes a text's state to the joint space.
        pooling: How that state is made.
        fixed: Texts are padded to the model's length, on the right, and there is no mask.
        begins: Positions at the beginning of a text that are not its own.
        published: The format of its checkpoints.
    """

    head: str = "text_projection"
    pooling: Pooling = Pooling.OWN
    fixed: bool = False
    begins: int = 1
    published: PublishedFormat = _PUBLISHED


_TYPES: Mapping[str, _Type] = {
    "clip": _Type(published=_CLIP),
    "siglip": _Type(head="text_model.head", fixed=True, begins=0, published=_SIGLIP),
    "metaclip_2": _Type(),
    "altclip": _Type(
        published=replace(
            _PUBLISHED,
            older_names={"encoder.layers.": "encoder.layer."},
            checked="Checked with PEFT 0.18 and 0.21 on transformers 5.24 (in 4 its modules "
            "have other names)",
        )
    ),
    "chinese_clip": _Type(pooling=Pooling.FIRST),
    "vision-text-dual-encoder": _Type(),
}
_UNREADABLE = {
    "siglip2": "is of the NaFlex kind, whose pictures keep their shapes, and xclipt's are square; "
    "choose a SigLIP 2 of fixed resolution, such as google/siglip2-base-patch16-224, "
    "google/siglip2-large-patch16-256 or google/siglip2-so400m-patch14-384"
}
"""Model types that are recognised and not read, and why not."""

TYPES = tuple(_TYPES)
"""The ``model_type`` of every dual encoder that is read."""

_TEXT_SIDE = ("text_model", "text_projection", "logit_scale", "logit_bias")
_IMAGE_SIDE = ("vision_model", "visual_projection")


class ImageTower(nn.Module):
    """The image side of a dual encoder.

    Args:
        model: A model of transformers with ``get_image_features``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels ``(batch, 3, height, width)`` -> features ``(batch, dim)``, not normalised."""
        features: Tensor = self.model.get_image_features(pixel_values=pixels).pooler_output
        return features


def load_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """The text tower and its tokenizer.

    Raises:
        XcliptError: Files are missing, damaged, or do not belong together.
    """
    config = _config(folder)
    weights_files(folder)
    tower = _tower(_load(folder, config, _IMAGE_SIDE), folder)
    tokenizer = load_tokenizer(folder, config.text_config.vocab_size, folder / "config.json")
    length = tower.max_length or 0
    if _TYPES[config.model_type].fixed:
        return tower, CaptionTokenizer(
            tokenizer, "", length, padded=True, clean=_siglip_cleaning(tokenizer)
        )
    return tower, CaptionTokenizer(tokenizer, "", min(length, tokenizer.model_max_length))


def load_images(folder: Path) -> ImageSide:
    """The image tower with the preprocessing beside it.

    Raises:
        XcliptError: Files are missing, damaged, or do not belong together.
    """
    config = _config(folder)
    weights = weights_files(folder)
    vision = config.vision_config
    if not getattr(vision, "vision_use_head", True):
        raise XcliptError(
            f"{folder / 'config.json'}: the image tower has no head, and so no feature of a picture"
        )
    model = _load(folder, config, _TEXT_SIDE)
    projection = getattr(model, "visual_projection", None)
    pixels = load_pixels(folder, vision.image_size, clip=config.model_type == "clip")
    return ImageSide(
        tower=ImageTower(model),
        read_pixels=pixels.read,
        preprocessing=pixels.plain,
        dim=vision.hidden_size if projection is None else projection.out_features,
        revision="local",
        files=(*weights, folder / "config.json", *pixels.files),
    )


def outline(folder: Path) -> TextTower:
    """The text tower on the meta device, from ``config.json`` alone."""
    config = _config(folder)
    with torch.device("meta"):
        return _tower(_one_side(config, _IMAGE_SIDE)(config), folder)


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    path = folder / "config.json"
    model_type = str(read_config(folder).get("model_type"))
    if model_type in _UNREADABLE:
        raise XcliptError(f"{path}: model_type {model_type} {_UNREADABLE[model_type]}")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers checks each field in its own way
        raise XcliptError(f"{path}: cannot read ({first_line(error)})") from None


def _one_side(config: Any, dropped: tuple[str, ...]) -> Any:
    """The model's class without the modules of one side: their weights are then never read."""
    from transformers import MODEL_MAPPING

    kind: Any = MODEL_MAPPING[type(config)]

    class Side(kind):  # type: ignore[misc]
        # transformers remarks on weights that nobody asked for.
        _keys_to_ignore_on_load_unexpected: ClassVar = [rf"^{name}\b" for name in dropped]

        def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(config, *arguments, **options)
            for name in dropped:
                if hasattr(self, name):
                    delattr(self, name)

        def _init_weights(self, module: nn.Module) -> None:
            # What is not in a checkpoint, such as numbers of positions; the model's own part of
            # it is about projections, one of which is not there.
            if module is not self:
                super()._init_weights(module)

    # By the class's name and place transformers knows what became of old names of weights.
    Side.__name__, Side.__module__ = kind.__name__, kind.__module__
    return Side


def _load(folder: Path, config: Any, dropped: tuple[str, ...]) -> Any:
    return from_pretrained(
        _one_side(config, dropped), folder, f"the {config.model_type}", config=config
    )


def _tower(model: Any, folder: Path) -> TextTower:
    """The text side of a model, with the head apart from the encoder."""
    row = _TYPES[model.config.model_type]
    encoder, head = model.text_model, model.get_submodule(row.head)
    where, _, name = row.head.rpartition(".")
    if where:  # the encoder would apply it by itself
        setattr(model.get_submodule(where), name, nn.Identity())
    modules = names_of_modules(encoder)
    if modules is None:
        raise XcliptError(
            f"{folder / 'config.json'}: nothing is known of how a text tower of type "
            f"{encoder.config.model_type} calls its modules, so no delta can be put into it"
        )
    # BERT's relatives have a pooler, which some are made without; a CLIP in its place needs none.
    if model.config.model_type == "vision-text-dual-encoder" and not (
        getattr(encoder, "pooler", None) or "final_layer_norm" in dict(encoder.named_children())
    ):
        raise XcliptError(
            f"{folder / 'config.json'}: a text tower of type {encoder.config.model_type} has no "
            "pooler, and so no feature of a text"
        )
    return TextTower(
        encoder,
        head,
        modules,
        row.published,
        pooling=row.pooling,
        max_length=positions_of(encoder),
        masked=not row.fixed,
        begins=row.begins,
        similarity=_similarity(model),
    )


def _similarity(model: Any) -> Similarity:
    if model.logit_scale.is_meta:
        return Similarity()

    def rounded(number: Tensor) -> float:
        return float(f"{number.detach().item():.4g}")  # 100 is stored as a rounded logarithm

    bias = getattr(model, "logit_bias", None)
    return Similarity(rounded(model.logit_scale.exp()), None if bias is None else rounded(bias))


def _siglip_cleaning(tokenizer: Any) -> Callable[[str], str]:
    """What SigLIP does to texts before they are cut into pieces.

    SigLIP 2, which is told by its Gemma tokenizer, lowers their case, and its tokenizers do not all
    do that; the first SigLIP drops punctuation too.
    """
    unknown = (None, tokenizer.unk_token_id)
    if tokenizer.convert_tokens_to_ids("<bos>") not in unknown:
        return str.lower
    lower = tokenizer.init_kwargs.get("do_lower_case", True)
    punctuation = str.maketrans("", "", string.punctuation)

    def cleaned(text: str) -> str:
        text = (text.lower() if lower else text).translate(punctuation)
        return re.sub(r"\s+", " ", text).strip()

    return cleaned


DUAL_ENCODER = Family(
    name="a dual encoder of transformers",
    marks=f"model_type {', '.join(_TYPES)}",
    recognises=lambda config: config.get("model_type") in (*_TYPES, *_UNREADABLE),
    files=("config.json", TOKENIZER, WEIGHTS),
    optional_files=(*TOKENIZER_BESIDE, *PIXEL_FILES),
    load_text=load_text,
    load_images=load_images,
    outline=outline,
)
