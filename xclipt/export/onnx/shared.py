"""One ONNX graph for all deltas of a kind, which takes a delta's tensors as inputs.

The towers are written once, into ``towers/`` beside the languages; a delta is a file of its tensors
by the names of the graph's inputs, and a JSON that says how its texts are written.
"""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.model_files import first_line
from xclipt.deltas.adapted import AdaptedTower
from xclipt.deltas.full_finetune import FullSpec
from xclipt.deltas.kind import HEAD
from xclipt.errors import XcliptError
from xclipt.export.card import card_fields
from xclipt.export.exchange import ExportJob
from xclipt.export.onnx import graph
from xclipt.export.onnx.images import write_images
from xclipt.export.onnx.texts import CHECKED, TRACED, TextSide
from xclipt.files import SUMS, staged, write_sums

NAME = "onnx-shared"
DESCRIPTION = "delta.json"
"""How texts are written for a delta, and where its towers are; the sign of the format."""

TOWERS = "towers"
_TENSORS = "delta.npz"
_TOKENIZER = "tokenizer.json"
_BASE_FOLDER = "base"
_UNTIDY = "A Cat,  a DOG!"
_GRAPHS = 1
"""Part of the towers' names: another graph of the same weights is another folder."""

_CARD = """\
# {name}: {language} for the ONNX graph of {backbone}

{origin}, as
inputs of a graph that all such deltas share: one session, and {size} kB a language.

```python
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

folder = Path("{name}")
delta = json.loads((folder / "delta.json").read_text("utf-8"))
towers = {{side: folder / delta[side] for side in ("texts", "images")}}
sessions = {{s: onnxruntime.InferenceSession(t / "model.onnx") for s, t in towers.items()}}
tensors = dict(np.load(folder / "delta.npz"))  # swap them: the session stays as it is
tokenizer = Tokenizer.from_file(str(folder / delta["tokenizer"]))
tokenizer.enable_truncation(delta["max_tokens"])
tokenizer.enable_padding(pad_id=delta["pad_id"], length=delta["fixed_length"])
dropped = str.maketrans("", "", delta["dropped"])
texts = [(delta["prefix"] + text).translate(dropped) for text in ["..."]]
rows = tokenizer.encode_batch([text.lower() if delta["lower_case"] else text for text in texts])
tokens = {{"input_ids": np.array([row.ids for row in rows])}}
if not delta["fixed_length"]:
    tokens["attention_mask"] = np.array([row.attention_mask for row in rows])
(texts,) = sessions["texts"].run(["features"], tokens | tensors)

how = json.loads((towers["images"] / "preprocessor_config.json").read_text("utf-8"))


def pixels(path):
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    size, (high, wide) = how["size"], (how["crop_size"][side] for side in ("height", "width"))
    edge, short = size.get("shortest_edge"), min(picture.size)
    shape = [int(edge * side / short) for side in picture.size] if edge else (wide, high)
    pixels = np.asarray(picture.resize(shape, how["resample"]), np.float32)
    top, left = (shape[1] - high) // 2, (shape[0] - wide) // 2
    pixels = pixels[top : top + high, left : left + wide] * how["rescale_factor"]
    pixels = (pixels - how["image_mean"]) / how["image_std"]
    return pixels.transpose(2, 0, 1).astype(np.float32)


photos = np.stack([pixels(path) for path in Path("photos").glob("*.jpg")])
(pictures,) = sessions["images"].run(["features"], {{"pixels": photos}})
texts, pictures = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (texts, pictures))
print(texts @ pictures.T)  # cosines: a row for each text, a column for each picture
```

Run it beside this folder, with `pip install onnxruntime pillow tokenizers`; the towers are in
`{texts}` and `{images}`, for every language.{translated}
Inputs are the tokens and every array of `delta.npz` by its name; features are `(batch, {dim})` and
not normalised. `delta.json` says what is put before a text and how many tokens are kept.{base}
At export features were within {worst:.1e} of PyTorch's, of the backbone with the fingerprint
`{fingerprint}`.
"""
_BASE = " The frozen backbone,\nfor English or a language without a delta, is `{base}`."


class _DeltaAsInput(nn.Module):
    """A tower that is given its delta's tensors with the tokens."""

    def __init__(self, adapted: AdaptedTower, side: TextSide) -> None:
        super().__init__()
        self.tower = side.as_module(adapted.tower.requires_grad_(False))
        self._prefix = "tower." if side.fixed else ""

    def forward(self, tokens: tuple[Tensor, ...], delta: dict[str, Tensor]) -> Tensor:
        weights = {self._within(name): tensor for name, tensor in delta.items()}
        features: Tensor = functional_call(self.tower, weights, tokens)
        return features

    def _within(self, name: str) -> str:
        return self._prefix + (name if name.startswith(HEAD) else f"encoder.{name}")


def write_shared(job: ExportJob) -> list[Path]:
    """Write ``delta.npz``, ``delta.json``, a card and the manifest, and the towers if need be.

    The text graph's inputs are the tokens, as with ``onnx``, and the delta's tensors by their
    names. It is in ``towers/texts-...`` beside the languages, one for each kind and its settings,
    with the tokenizer and, for kinds that can be the identity, the frozen backbone in a folder
    ``base`` of the same two files; the image tower is in ``towers/images-...``.

    Raises:
        XcliptError: The packages are missing, the delta is as large as the tower or damaged, texts
            or pictures are made ready in a way that the JSON cannot describe, a tower cannot be
            exported, or a graph is not equal to PyTorch.
    """
    graph.require_packages(NAME)
    if isinstance(job.spec, FullSpec):
        raise job.refused(NAME, "a fine-tuned tower is as large as the graph", "onnx or merged")
    tensors, side = job.delta.tensors(), TextSide.of(job)
    towers = job.out / TOWERS
    texts = towers / f"texts-{job.spec.kind}-{_key(side)}"
    images = towers / f"images-{side.backbone.identity.fingerprint[:8]}"
    if not (texts / SUMS).is_file() and not _is_described(side):
        raise job.refused(NAME, "its texts are made ready in a way of their own", "onnx")
    adapted = side.adapted()
    if not (images / SUMS).is_file():
        with staged(images) as aside:
            unknown = job.refused(NAME, "its pictures are read in a way of their own", "onnx")
            write_sums(aside, write_images(side.backbone, aside, NAME, unknown))
    if not (texts / SUMS).is_file():
        with staged(texts) as aside:
            write_sums(aside, _write_texts(side, adapted, aside))
    worst = _checked(texts / graph.GRAPH, side, adapted, tensors)
    told = bool(side.backbone.tokenizer.languages)  # of the language, by a token
    places = {
        "texts": f"../../{TOWERS}/{texts.name}",
        "images": f"../../{TOWERS}/{images.name}",
        "tokenizer": _TOKENIZER if told else f"../../{TOWERS}/{texts.name}/{_TOKENIZER}",
    }
    if told:
        side.backbone.tokenizer.told(job.manifest.language).save_pretrained(job.folder)
    named = {"language": job.manifest.language, "delta": job.manifest.name}
    _write_delta(job.folder, tensors, places | _how(side) | named)
    (job.folder / MANIFEST).write_text(job.manifest.to_yaml(), "utf-8")
    beside = {side: place.removeprefix("../") for side, place in places.items()}
    base = _BASE.format(base=f"{beside['texts']}/{_BASE_FOLDER}")
    fields = card_fields(job) | {
        **beside,
        "size": round((job.folder / _TENSORS).stat().st_size / 1000),
        "dim": side.backbone.dim,
        "base": base if (texts / _BASE_FOLDER).is_dir() else "",
        "worst": worst,
    }
    (job.folder / "README.md").write_text(_CARD.format(**fields), "utf-8")
    return [*sorted(job.folder.iterdir()), texts / graph.GRAPH, images / graph.GRAPH]


def _key(side: TextSide) -> str:
    """Tells graphs that differ from one another."""
    spec = side.spec.architecture
    plain = [_GRAPHS, side.backbone.identity.fingerprint, spec.kind, asdict(spec)]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]


def _write_texts(side: TextSide, adapted: AdaptedTower, folder: Path) -> list[Path]:
    """The graph, its tokenizer, and the frozen backbone as a delta where the kind can be it."""
    backbone, fresh = side.backbone, adapted.tensors()
    module = _DeltaAsInput(adapted, side)
    program = graph.exported(
        NAME,
        module,
        (side.tokens(TRACED), fresh),
        (*side.inputs, *fresh),
        {"tokens": tuple(side.shapes.values()), "delta": dict.fromkeys(fresh)},
    )
    program.model.metadata_props["backbone_fingerprint"] = backbone.identity.fingerprint
    graph.save(program, folder / graph.GRAPH, module)
    backbone.tokenizer.tokenizer.save_pretrained(folder)
    how = _how(_without_prompt(side))
    tokens = side.tokens(CHECKED[1])
    with torch.no_grad():
        given = [tensor.to(backbone.device) for tensor in tokens]
        frozen = side.as_module(backbone.text_tower)(*given).cpu()
        identity = module(tokens, fresh).numpy()
    if graph.difference(identity, frozen) <= graph.TOLERANCE:
        base = folder / _BASE_FOLDER
        base.mkdir()
        places = {
            "texts": "..",
            "images": f"../../images-{backbone.identity.fingerprint[:8]}",
            "tokenizer": f"../{_TOKENIZER}",
        }
        _write_delta(base, fresh, places | how | {"language": None, "delta": None})
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _how(side: TextSide) -> dict[str, Any]:
    """What is done to a text before the graph sees it."""
    tokenizer = side.backbone.tokenizer
    return {
        "prefix": side.prefix,
        "lower_case": tokenizer.clean("A") == "a",
        "dropped": "".join(c for c in string.punctuation if tokenizer.clean(f"a{c}b") == "ab"),
        "max_tokens": side.limit,
        "fixed_length": side.limit if side.fixed else None,
        "pad_id": tokenizer.tokenizer.pad_token_id,
        "backbone_fingerprint": side.backbone.identity.fingerprint,
    }


def _without_prompt(side: TextSide) -> TextSide:
    return replace(side, spec=replace(side.spec, hard_prompt=""))


def _is_described(side: TextSide) -> bool:
    """Whether the tokenizer's file, used as the description says, gives the tower's own tokens."""
    from tokenizers import Tokenizer

    how = _how(_without_prompt(side))
    with TemporaryDirectory() as aside:
        side.backbone.tokenizer.tokenizer.save_pretrained(aside)
        file = Path(aside) / _TOKENIZER
        if not file.is_file():  # the first SigLIP's is a model of sentencepiece
            return False
        words = Tokenizer.from_file(str(file))
    words.enable_truncation(how["max_tokens"])
    words.enable_padding(pad_id=how["pad_id"], length=how["fixed_length"])
    dropped = str.maketrans("", "", how["dropped"])
    for captions in (*CHECKED, (_UNTIDY,)):
        texts = [(how["prefix"] + caption).translate(dropped) for caption in captions]
        rows = words.encode_batch([t.lower() if how["lower_case"] else t for t in texts])
        theirs = [[row.ids for row in rows], [row.attention_mask for row in rows]]
        ours = [tensor.tolist() for tensor in side.tokens(captions, told=False)]
        if theirs[: len(ours)] != ours:
            return False
    return True


def _write_delta(folder: Path, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(folder / _TENSORS, **arrays)
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2), "utf-8")


def _checked(
    path: Path, side: TextSide, adapted: AdaptedTower, tensors: Mapping[str, Tensor]
) -> float:
    """How far the graph's features with the delta are from PyTorch's.

    Raises:
        XcliptError: Too far, or the graph is damaged.
    """
    try:
        session = graph.open_session(path)
    except Exception as error:  # onnxruntime's are as many as its parsers
        raise XcliptError(
            f"{path}: onnxruntime cannot load it ({first_line(error)}); remove {path.parent} and "
            "export again"
        ) from None
    adapted.load(tensors)
    tower, differences = side.as_module(adapted.tower), []
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for captions in CHECKED:
        tokens = side.tokens(captions)
        with torch.no_grad():
            ours = tower(*tokens)
        differences.append(graph.difference(graph.run(session, side.feed(tokens) | arrays), ours))
    return graph.require_close(differences, NAME)
