"""The text tower with its delta as one ONNX graph, checked in onnxruntime."""

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import FailedError, XcliptError
from xclipt.export.card import card_fields
from xclipt.export.exchange import ExportJob
from xclipt.files import staged

TOLERANCE = 1e-4
"""The most that a feature may differ from PyTorch's, relative to the largest one."""

_GRAPH = "model.onnx"
_LARGEST_FILE = 1_900_000_000
"""Bytes of weights in the graph's own file; protobuf ends at 2 GiB."""

_TRACED = ["a", "two dogs run over the grass"]
_CHECKED = (
    ["a dog"],
    ["a", "deux enfants jouent dans la neige près d'une maison", "犬が走っている"],
    ["a cat " * 200, "", "кошка", "قطة"],
)
_CARD = """\
# {name}: {backbone} in {language}, as ONNX

{origin}, in the text
tower of {backbone} (fingerprint `{fingerprint}`).

```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
session = onnxruntime.InferenceSession("{name}/model.onnx")
tokens = tokenizer(["{prefix}..."], padding=True, truncation=True, max_length={max_tokens},
                   return_tensors="np", return_token_type_ids=False)
(features,) = session.run(["features"], dict(tokens))
```

Any batch, any length up to {max_tokens}. Put `{prefix}` before every caption (nothing, if that is
empty); it and the limit are in the model's metadata too. Features are `(batch, {dim})`, pooled,
projected and not normalised.{translated} At export they were within {worst:.1e} of PyTorch's.
"""


def write_onnx(job: ExportJob) -> list[Path]:
    """Write ``model.onnx``, the tokenizer, a card and the manifest.

    Inputs ``input_ids`` and ``attention_mask`` ``(batch, length)`` int64, output ``features``
    ``(batch, dim)`` float32, not normalised; batch and length are dynamic. A LoRA is folded in,
    other kinds are part of the graph.

    Raises:
        XcliptError: The packages are missing, the tower cannot be exported, the graph is not equal
            to PyTorch, or the delta is damaged.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise XcliptError(
            f"{error.name} is not installed: pip install 'xclipt[onnx]'",
            field="format",
            value="onnx",
        ) from None
    tensors = job.delta.tensors()
    backbone, spec = job.backbone(), job.spec
    prefix = backbone.tokenizer.prefix + spec.prompted("")
    limit = backbone.tokenizer.max_length
    if isinstance(spec, SoftPromptSpec) and backbone.text_tower.max_length:
        limit = min(limit, backbone.text_tower.max_length - spec.positions)
    tower = _with_delta(job, backbone, tensors)
    with staged(job.folder) as aside:
        program = _exported(tower, _tokens(backbone, _TRACED, limit), limit)
        program.model.metadata_props.update(
            {
                "prefix": prefix,
                "max_tokens": str(limit),
                "language": job.manifest.language,
                "delta": job.manifest.name,
                "backbone_fingerprint": backbone.identity.fingerprint,
            }
        )
        large = 4 * sum(p.numel() for p in tower.parameters()) > _LARGEST_FILE
        program.save(aside / _GRAPH, external_data=large)
        session = onnxruntime.InferenceSession(aside / _GRAPH, providers=["CPUExecutionProvider"])
        worst = max(
            _difference(session, tower, _tokens(backbone, captions, limit)) for captions in _CHECKED
        )
        if not worst <= TOLERANCE:
            raise FailedError(
                f"onnxruntime's features differ from PyTorch's by {worst:.1e}, more than "
                f"{TOLERANCE:.0e}; nothing was written",
                field="format",
                value="onnx",
            )
        backbone.tokenizer.tokenizer.save_pretrained(aside)
        fields = card_fields(job) | {
            "prefix": prefix,
            "max_tokens": limit,
            "dim": backbone.dim,
            "worst": worst,
        }
        (aside / "README.md").write_text(_CARD.format(**fields), "utf-8")
        (aside / MANIFEST).write_text(job.manifest.to_yaml(), "utf-8")
        names = sorted(path.name for path in aside.iterdir())
    return [job.folder / name for name in names]


def _with_delta(job: ExportJob, backbone: Backbone, tensors: Mapping[str, Tensor]) -> TextTower:
    """A copy of the tower on the CPU with the delta in it."""
    tower = copy.deepcopy(backbone.text_tower).cpu().eval()
    spec = job.spec
    if spec.not_foldable:
        adapted = AdaptedTower(tower, spec, tokenizer=backbone.tokenizer)
        adapted.load(tensors)
        return adapted.tower.requires_grad_(False)
    weights = {n.removeprefix("encoder."): t for n, t in tower.state_dict().items()}
    changed = spec.folded(tensors, weights.__getitem__)
    with torch.no_grad():
        for name, tensor in changed.items():
            weights[name].copy_(tensor)
    return tower


def _tokens(backbone: Backbone, captions: list[str], limit: int) -> tuple[torch.Tensor, ...]:
    rows = backbone.tokenizer(captions)
    rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
    return backbone.tokenizer.pad(rows, torch.device("cpu"))


def _exported(tower: TextTower, example: tuple[torch.Tensor, ...], limit: int) -> Any:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=limit)}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                tower,
                example,
                input_names=["input_ids", "attention_mask"],
                output_names=["features"],
                dynamic_shapes={"input_ids": axes, "attention_mask": axes},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's are as many as its passes
        reason = str(error).strip().split("\n", 1)[0]
        raise FailedError(
            f"torch.onnx cannot export the tower ({reason})", field="format", value="onnx"
        ) from error
    finally:
        logger.setLevel(level)


def _difference(session: Any, tower: TextTower, tokens: tuple[torch.Tensor, ...]) -> float:
    names = ("input_ids", "attention_mask")
    given = {name: tensor.numpy() for name, tensor in zip(names, tokens, strict=True)}
    theirs = torch.from_numpy(session.run(["features"], given)[0])
    with torch.no_grad():
        ours = tower(*tokens)
    return float((theirs - ours).abs().max() / ours.abs().max())
