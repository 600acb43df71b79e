"""The text tower with its delta as one ONNX graph, checked in onnxruntime."""

import copy
import logging
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.soft_prompt import SoftPromptSpec
from xclipt.errors import FailedError, XcliptError
from xclipt.export.card import card_fields, search_fields
from xclipt.export.exchange import ExportJob

TOLERANCE = 1e-4
"""The most that a feature may differ from PyTorch's, relative to the largest one."""

_GRAPH = "model.onnx"
_LARGEST_FILE = 1_900_000_000
"""Bytes of weights in the graph's own file; protobuf ends at 2 GiB."""

_INPUTS = ("input_ids", "attention_mask")
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
from pathlib import Path

import onnxruntime
import torch
from transformers import AutoTokenizer

import xclipt

tokenizer = AutoTokenizer.from_pretrained("{name}")
session = onnxruntime.InferenceSession("{name}/model.onnx")
{tokens}
{pictures}
{cosines}
```

Run it beside this folder, with `pip install onnxruntime`. {lengths} Put `{prefix}` before every
caption (nothing, if that is empty); it and the limit are in the model's metadata too. Features are
`(batch, {dim})`, pooled, projected and not normalised.{translated} At export they were within
{worst:.1e} of PyTorch's.
"""
_TOKENS = """\
tokens = tokenizer(["{prefix}..."], padding=True, truncation=True, max_length={max_tokens},
                   return_tensors="np", return_token_type_ids=False)
(features,) = session.run(["features"], dict(tokens))"""
_LENGTHS = "Any batch, any length up to {max_tokens}."
_FIXED_TOKENS = """\
tokens = tokenizer(["{prefix}...".lower()], padding="max_length", padding_side="right",
                   truncation=True, max_length={max_tokens}, return_tensors="np")
(features,) = session.run(["features"], {{"input_ids": tokens["input_ids"]}})"""
_FIXED_LENGTHS = (
    "Any batch, the length {max_tokens}: texts are in lower case and padded on the right, and "
    "there is\nno attention mask."
)


class _Unmasked(nn.Module):
    """A tower of texts of one length, where padding is not told apart."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, input_ids: Tensor) -> Tensor:
        features: Tensor = self.tower(input_ids, torch.ones_like(input_ids))
        return features


def write_onnx(job: ExportJob) -> list[Path]:
    """Write ``model.onnx``, the tokenizer, a card and the manifest.

    Inputs ``input_ids`` and ``attention_mask`` ``(batch, length)`` int64, output ``features``
    ``(batch, dim)`` float32, not normalised; batch and length are dynamic. A tower of texts of one
    length has no mask, and that length alone. A LoRA is folded in, other kinds are part of the
    graph.

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
    whole, fixed = _with_delta(job, backbone, tensors), backbone.tokenizer.padded
    tower = _Unmasked(whole) if fixed else whole
    aside = job.folder
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
    backbone.tokenizer.told(job.manifest.language).save_pretrained(aside)
    own = {"prefix": prefix, "max_tokens": limit}
    fields = card_fields(job) | own | {"dim": backbone.dim, "worst": worst}
    fields |= search_fields(job.manifest.backbone["id"])
    fields["tokens"] = (_FIXED_TOKENS if fixed else _TOKENS).format(**own)
    lengths = (_FIXED_LENGTHS if fixed else _LENGTHS).format(**own)
    fields["lengths"] = lengths + backbone.text_tower.published.input_notes
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
    ids, mask = replace(backbone.tokenizer, max_length=limit).pad(rows, torch.device("cpu"))
    return (ids,) if backbone.tokenizer.padded else (ids, mask)


def _exported(tower: nn.Module, example: tuple[torch.Tensor, ...], limit: int) -> Any:
    names = _INPUTS[: len(example)]
    axes = {0: torch.export.Dim("batch")}
    if len(example) > 1:
        axes[1] = torch.export.Dim("length", max=limit)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                tower,
                example,
                input_names=[*names],
                output_names=["features"],
                dynamic_shapes=dict.fromkeys(names, axes),
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


def _difference(session: Any, tower: nn.Module, tokens: tuple[torch.Tensor, ...]) -> float:
    given = {name: tensor.numpy() for name, tensor in zip(_INPUTS, tokens, strict=False)}
    theirs = torch.from_numpy(session.run(["features"], given)[0])
    with torch.no_grad():
        ours = tower(*tokens)
    return float((theirs - ours).abs().max() / ours.abs().max())
