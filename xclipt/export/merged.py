"""A full text tower with the delta folded in, in the format that the backbone is published in."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from xclipt.artifacts.atomic import staged
from xclipt.backbones.builtin import NAME as BUILTIN
from xclipt.backbones.clip import weights_file
from xclipt.backbones.mclip import is_mclip, read_config, read_weights
from xclipt.backbones.registry import text_folder
from xclipt.deltas.injection import HEAD
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields
from xclipt.export.folding import UNFOLDABLE, folded
from xclipt.export.job import ExportJob
from xclipt.export.read import MANIFEST
from xclipt.export.sentence_transformers import write_modules

_BESIDE = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("preprocessor_config.json", "vocab.json", "merges.txt"),
)
_USE = {
    "mclip": """
```python
from multilingual_clip import pt_multilingual_clip
from transformers import AutoTokenizer

model = pt_multilingual_clip.MultilingualCLIP.from_pretrained("{name}")
features = model.forward(["..."], AutoTokenizer.from_pretrained("{name}"))
```

It is the published text tower but for the delta, in Multilingual-CLIP's format; the image tower is
the backbone's own, unchanged. Normalise features before comparing them.
""",
    "clip": """
```python
from transformers import AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("{name}")
features = model.get_text_features(**AutoTokenizer.from_pretrained("{name}")(["..."]))
```

It is the whole CLIP; the image side is unchanged. Normalise features before comparing them.
""",
    "sentence-transformers": """
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
features = model.encode(["..."], normalize_embeddings=True)
```

The modules are a transformers checkpoint, the masked mean and the text head; `AutoModel` loads the
first. sentence-transformers puts the prompt before every text by itself.
""",
}
_CARD = """\
# {name}: {backbone} in {language}

{what}, trained with xclipt {version} on {pairs} captioned pictures of `{dataset}`, folded into the
text tower of {backbone} (fingerprint `{fingerprint}`).
{prompt}{translated}
"""


def write_merged(job: ExportJob) -> list[Path]:
    """Write the checkpoint of the backbone with the weights that the delta changes in their place.

    Multilingual-CLIP's format for a backbone in it, transformers' for a CLIP (both sides), and for
    the builtin one a sentence-transformers folder. Weights are safetensors in float32.

    Raises:
        XcliptError: The kind cannot be folded, a file of the backbone is missing, or the delta is
            damaged.
    """
    manifest, spec = job.manifest, job.spec
    if manifest.kind in UNFOLDABLE:
        raise job.refused("merged", UNFOLDABLE[manifest.kind], "onnx or native")
    backbone = job.backbone()
    source = text_folder(backbone.identity.id)
    config = read_config(source)
    path = weights_file(source)
    weights = read_weights(path)
    if backbone.identity.id == BUILTIN:
        encoder, head, use = "", None, "sentence-transformers"
    elif is_mclip(config):
        encoder, head, use = "transformer.", "LinearTransformation.", "mclip"
    else:
        encoder, head, use = "text_model.", "text_projection.", "clip"

    def published(name: str) -> str:
        if head is not None and name.startswith(HEAD):
            return head + name.removeprefix(HEAD)
        return encoder + name

    def frozen(name: str) -> Tensor:
        try:
            return weights[published(name)]
        except KeyError:
            raise XcliptError(f"{path}: has no {published(name)}; not as published") from None

    changed = folded(spec, job.delta.tensors(), frozen)
    own_head = backbone.text_tower.head.state_dict()
    own_head |= {n.removeprefix(HEAD): t for n, t in changed.items() if n.startswith(HEAD)}
    for name, tensor in changed.items():
        if head is not None or not name.startswith(HEAD):
            frozen(name)
            weights[published(name)] = tensor
    with staged(job.folder) as aside:
        save_file(
            {name: _full_precision(tensor) for name, tensor in weights.items()},
            aside / "model.safetensors",
            metadata={"format": "pt"},
        )
        for name in _BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, aside / name)
        (aside / "config.json").write_text(json.dumps(_float32(config), indent=2), "utf-8")
        if head is None:
            prefix = backbone.tokenizer.prefix + spec.prompted("")
            write_modules(aside, own_head, prefix, backbone.tokenizer.max_length)
        fields = card_fields(job)
        if head is None:
            fields["prompt"] = ""  # sentence-transformers puts it there by itself
        card = (_CARD + _USE[use]).format(**fields)
        (aside / "README.md").write_text(card, "utf-8")
        (aside / MANIFEST).write_text(manifest.to_yaml(), "utf-8")
        names = sorted(p.relative_to(aside) for p in aside.rglob("*") if p.is_file())
    return [job.folder / name for name in names]


def _full_precision(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _float32(config: dict[str, Any]) -> dict[str, Any]:
    return config | {key: "float32" for key in ("dtype", "torch_dtype") if key in config}
