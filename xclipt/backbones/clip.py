"""CLIP as transformers has it: its image tower, its preprocessing, and its own text tower."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer
from xclipt.backbones.family import Family, ImageSide
from xclipt.backbones.model_files import (
    WEIGHTS,
    fetch,
    first_line,
    load_tokenizer,
    weights_file,
)
from xclipt.backbones.text_tower import ModuleNames, PublishedFormat, TextTower
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError

OPEN_CLIP = "open_clip:"
"""What an image tower's source starts with when open_clip has it: ``open_clip:MODEL/WEIGHTS``."""

_SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale"),
    *("rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)


MODULES = ModuleNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.out_proj",
    ffn_input="mlp.fc1",
    ffn_output="mlp.fc2",
    # They come before the blocks; both of a layer are trained.
    layer_norms=("layer_norm1", "layer_norm2"),
)
PUBLISHED = PublishedFormat(
    encoder_prefix="text_model.",
    head_prefix="text_projection.",
    encoder_class="CLIPTextModel",
    load_encoder="CLIPTextModel.from_pretrained(TEXT_TOWER)\n"
    'encoder = getattr(encoder, "text_model", encoder)  # transformers 4 has it one level deeper',
    usage="""
```python
from transformers import AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("{name}")
features = model.get_text_features(**AutoTokenizer.from_pretrained("{name}")(["..."]))
```

It is the whole CLIP; the image side is unchanged. Normalise features before comparing them.
""",
)


class _Embeddings(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model(pixel_values=pixels).image_embeds
        return features


def load_image_side(source: str | Path) -> ImageSide:
    """An image tower from a folder, a hub id, or open_clip.

    Raises:
        XcliptError: Its weights cannot be had, are damaged, or are not an image tower's.
    """
    if isinstance(source, str) and source.startswith(OPEN_CLIP):
        return _from_open_clip(*source.removeprefix(OPEN_CLIP).split("/"))
    if isinstance(source, Path):
        return _from_folder(source, "local")
    folder = fetch(source, ["config.json", WEIGHTS], ["preprocessor_config.json"])
    return _from_folder(folder, folder.name)


def _from_folder(folder: Path, revision: str) -> ImageSide:
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    weights = weights_file(folder)
    model = _load(CLIPVisionModelWithProjection, folder)
    size = model.config.image_size
    described = folder / "preprocessor_config.json"
    try:
        settings = json.loads(described.read_text()) if described.is_file() else {}
        # The variant for Pillow whatever else is installed: others round pixels differently.
        processor = CLIPImageProcessorPil(
            **{"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
            | {name: settings[name] for name in _SETTINGS if name in settings}
        )
    except (OSError, ValueError, TypeError) as error:
        raise XcliptError(f"{described}: cannot read ({first_line(error)})") from None
    files = [weights, folder / "config.json", *([described] if described.is_file() else [])]
    return ImageSide(
        tower=_Embeddings(model),
        read_pixels=lambda path: read_pixels(processor, path),
        preprocessing=_plain(processor),
        dim=model.config.projection_dim,
        revision=revision,
        files=tuple(files),
    )


def import_open_clip(what: str) -> Any:
    """The ``open_clip`` module.

    Args:
        what: What needs it, for the message.

    Raises:
        XcliptError: It is not installed, or cannot be imported.
    """
    try:
        import open_clip
    except ImportError:
        raise XcliptError(f"{what} needs open_clip: pip install 'xclipt[open-clip]'") from None
    except Exception as error:  # torchvision's, where its build is not that of torch
        raise XcliptError(
            f"{what} needs open_clip, which cannot be imported ({first_line(error)}); install the "
            f"torchvision that belongs to torch {torch.__version__}"
        ) from None
    return open_clip


def _from_open_clip(name: str, weights: str) -> ImageSide:
    open_clip = import_open_clip(f"the image tower {name}")
    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=weights)
    except Exception as error:  # its errors are as many as its sources of weights
        raise XcliptError(
            f"open_clip {name}/{weights}: cannot load ({first_line(error)}); fetch it once where "
            "there is a network and copy the hub's cache"
        ) from None
    return ImageSide(
        tower=model.visual,
        read_pixels=lambda path: transform(load_picture(path)),
        preprocessing=model.visual.preprocess_cfg,
        dim=model.visual.output_dim,
        revision=weights,
        files=(),
    )


def read_pixels(processor: Any, path: Path) -> Tensor:
    """One picture as CLIP wants it ``(3, height, width)``: resized, cropped, normalised.

    Raises:
        XcliptError: The file is not a picture.
    """
    pixels: Tensor = processor(images=load_picture(path), return_tensors="pt")["pixel_values"][0]
    return pixels


def load_clip_text(folder: Path) -> tuple[TextTower, CaptionTokenizer]:
    """CLIP's own text tower and tokenizer from a transformers folder.

    The encoder pools at the end of the text; the head is CLIP's projection.

    Raises:
        XcliptError: Files are missing, damaged, or do not belong together.
    """
    from transformers import CLIPTextModelWithProjection

    weights_file(folder)
    model = _load(CLIPTextModelWithProjection, folder)
    config = model.config
    tower = TextTower(
        model.text_model,
        model.text_projection,
        MODULES,
        PUBLISHED,
        pools_itself=True,
        max_length=config.max_position_embeddings,
    )
    tokenizer = load_tokenizer(folder, config.vocab_size, folder / "config.json")
    return tower, CaptionTokenizer(
        tokenizer, "", min(config.max_position_embeddings, tokenizer.model_max_length)
    )


def outline(folder: Path) -> TextTower:
    """CLIP's text tower on the meta device, from ``config.json`` alone."""
    from transformers import CLIPConfig, CLIPTextModel

    try:
        config: Any = CLIPConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise XcliptError(f"{folder}: not a CLIP folder ({first_line(error)})") from None
    with torch.device("meta"):
        encoder = CLIPTextModel(config.text_config)
        head = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
    return TextTower(encoder, head, MODULES, PUBLISHED, pools_itself=True)


def _load(kind: Any, folder: Path) -> Any:
    from transformers import AutoConfig, CLIPConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        if isinstance(config, CLIPConfig):
            # The whole model's width of the joint space counts; a side's own entry may be stale.
            dim = config.projection_dim
            config = getattr(config, kind.config_class.base_config_key)
            config.projection_dim = dim
        model, report = kind.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
        )
    except Exception as error:
        raise XcliptError(f"{folder}: cannot load CLIP ({first_line(error)})") from None
    mismatched = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
    if mismatched:
        raise XcliptError(
            f"{folder}: {len(mismatched)} of CLIP's weights are missing or misshapen, first "
            f"{mismatched[0]}"
        )
    return model


def _plain(processor: Any) -> dict[str, object]:
    settings = {name: getattr(processor, name) for name in _SETTINGS}
    for name in ("size", "crop_size"):
        settings[name] = {k: v for k, v in dict(settings[name]).items() if v is not None}
    settings["resample"] = int(settings["resample"])
    for name in ("image_mean", "image_std"):
        settings[name] = list(settings[name])
    return settings


CLIP = Family(
    name="CLIP",
    marks="model_type clip",
    recognises=lambda config: config.get("model_type") == "clip",
    files=("config.json", "tokenizer.json", WEIGHTS),
    optional_files=("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json"),
    load_text=load_clip_text,
    load_images=load_image_side,
    outline=outline,
)
