"""The text tower with its delta as one ONNX graph, checked in onnxruntime."""

from pathlib import Path

import torch

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.text_tower import TextTower
from xclipt.export.card import card_fields, search_fields
from xclipt.export.exchange import ExportJob
from xclipt.export.onnx import graph
from xclipt.export.onnx.texts import CHECKED, TRACED, TextSide

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
session = onnxruntime.InferenceSession("{name}/{file}")
{tokens}
{pictures}
{cosines}
```

Run it beside this folder, with `pip install onnxruntime`. {lengths} Put `{prefix}` before every
caption (nothing, if that is empty); it and the limit are in the model's metadata too. Features are
`(batch, {dim})`, pooled, projected and not normalised.{translated}{checked}
"""
_CLOSE = " At export they were within\n{worst:.1e} of PyTorch's."
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
    graph.require_packages("onnx")
    tensors = job.delta.tensors()
    side = TextSide.of(job)
    worst = write_graph(job, side, side.with_delta(tensors), job.folder / graph.GRAPH, "onnx")
    return write_beside(job, side, graph.GRAPH, _CLOSE.format(worst=worst))


def write_graph(job: ExportJob, side: TextSide, tower: TextTower, path: Path, format: str) -> float:
    """Write the tower's graph, and return how far it is from PyTorch.

    Raises:
        FailedError: It cannot be exported, or is not equal to PyTorch.
    """
    module = side.as_module(tower)
    program = graph.exported(format, module, side.tokens(TRACED), side.inputs, side.shapes)
    program.model.metadata_props.update(
        {
            "prefix": side.prefix,
            "max_tokens": str(side.limit),
            "language": job.manifest.language,
            "delta": job.manifest.name,
            "backbone_fingerprint": side.backbone.identity.fingerprint,
        }
    )
    graph.save(program, path, module)
    session = graph.open_session(path)
    differences = []
    for captions in CHECKED:
        tokens = side.tokens(captions)
        with torch.no_grad():
            ours = module(*tokens)
        differences.append(graph.difference(graph.run(session, side.feed(tokens)), ours))
    return graph.require_close(differences, format)


def write_beside(job: ExportJob, side: TextSide, file: str, checked: str) -> list[Path]:
    """Write tokenizer, card and manifest beside the graph ``file``; all files of the folder.

    Args:
        checked: What the card says of how far the features are from PyTorch's.
    """
    backbone, aside = side.backbone, job.folder
    backbone.tokenizer.told(job.manifest.language).save_pretrained(aside)
    own: dict[str, object] = {"prefix": side.prefix, "max_tokens": side.limit}
    fields = card_fields(job) | own | {"dim": backbone.dim, "file": file, "checked": checked}
    fields |= search_fields(job.manifest.backbone["id"])
    fields["tokens"] = (_FIXED_TOKENS if side.fixed else _TOKENS).format(**own)
    lengths = (_FIXED_LENGTHS if side.fixed else _LENGTHS).format(**own)
    fields["lengths"] = lengths + backbone.text_tower.published.input_notes
    (aside / "README.md").write_text(_CARD.format(**fields), "utf-8")
    (aside / MANIFEST).write_text(job.manifest.to_yaml(), "utf-8")
    return sorted(path for path in aside.iterdir())
