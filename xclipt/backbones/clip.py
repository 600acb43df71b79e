"""CLIP as transformers has it: its image tower, its preprocessing, and its own text tower."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.backbones.backbone import CaptionTokenizer, TextTower
from xclipt.backbones.hub import fetch
from xclipt.data.pictures import load_picture
from xclipt.errors import XcliptError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names of a checkpoint's weights, in the order in which they are looked for."""

OPEN_CLIP = "open_clip:"
"""What an image tower's source starts with when open_clip has it: ``open_clip:MODEL/WEIGHTS``."""

_SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale"),
    *("rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)


@dataclass(frozen=True)
class ImageSide:
    """An image tower with the preprocessing that belongs to it.

    Attributes:
        tower: Pixels ``(batch, 3, height, width)`` -> features ``(batch, dim)``.
        read_pixels: One picture's file -> ``(3, height, width)``.
        preprocessing: What decides the pixels, as plain values.
        dim: Width of the features.
        revision: Of the repository, or ``local``.
        files: The files that all this came from.
    """

    tower: nn.Module
    read_pixels: Callable[[Path], Tensor]
    preprocessing: Mapping[str, object]
    dim: int
    revision: str
    files: tuple[Path, ...]


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
        raise XcliptError(f"{described}: cannot read ({_first_line(error)})") from None
    files = [weights, folder / "config.json", *([described] if described.is_file() else [])]
    return ImageSide(
        tower=_Embeddings(model),
        read_pixels=lambda path: read_pixels(processor, path),
        preprocessing=_plain(processor),
        dim=model.config.projection_dim,
        revision=revision,
        files=tuple(files),
    )


def _from_open_clip(name: str, weights: str) -> ImageSide:
    try:
        import open_clip
    except ImportError:
        raise XcliptError(
            f"the image tower {name} needs open_clip: pip install 'xclipt[open-clip]'"
        ) from None
    except Exception as error:  # torchvision's, where its build is not that of torch
        raise XcliptError(
            f"the image tower {name} needs open_clip, which cannot be imported "
            f"({_first_line(error)}); install the torchvision that belongs to torch "
            f"{torch.__version__}"
        ) from None
    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=weights)
    except Exception as error:  # its errors are as many as its sources of weights
        raise XcliptError(
            f"open_clip {name}/{weights}: cannot load ({_first_line(error)}); fetch it once where "
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
        pools_itself=True,
        max_length=config.max_position_embeddings,
    )
    tokenizer = load_tokenizer(folder, config.vocab_size, folder / "config.json")
    return tower, CaptionTokenizer(
        tokenizer, "", min(config.max_position_embeddings, tokenizer.model_max_length)
    )


def empty_clip_text(folder: Path) -> TextTower:
    """CLIP's text tower on the meta device, from ``config.json`` alone."""
    from transformers import CLIPConfig, CLIPTextModel

    try:
        config: Any = CLIPConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise XcliptError(f"{folder}: not a CLIP folder ({_first_line(error)})") from None
    with torch.device("meta"):
        encoder = CLIPTextModel(config.text_config)
        head = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
    return TextTower(encoder, head, pools_itself=True)


def load_tokenizer(folder: Path, rows: int, config: Path) -> Any:
    """The fast tokenizer in ``folder``, refused if it is not the one of an embedding matrix.

    Args:
        rows: Rows of the tower's word embeddings.
        config: The file that says so, for the message.

    Raises:
        XcliptError: There is no ``tokenizer.json``, or its vocabulary does not fit the matrix.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise XcliptError(f"{path}: not there; put the backbone's tokenizer beside its weights")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise XcliptError(f"{path}: cannot read the tokenizer ({_first_line(error)})") from None
    words = len(tokenizer)
    # Matrices are padded, to a multiple of 64 at the most; more than that is another vocabulary.
    if not rows - 64 < words <= rows:
        raise XcliptError(
            f"{path}: {words:,} tokens do not fit the {rows:,} word embeddings that {config} "
            "describes; this is another model's tokenizer"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def weights_file(folder: Path) -> Path:
    """The file of weights in a checkpoint's folder.

    Raises:
        XcliptError: There is none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise XcliptError(f"{folder}: no weights ({' or '.join(WEIGHTS)}); put them there")


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
        raise XcliptError(f"{folder}: cannot load CLIP ({_first_line(error)})") from None
    odd = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
    if odd:
        raise XcliptError(
            f"{folder}: {len(odd)} of CLIP's weights are missing or misshapen, first {odd[0]}"
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
