"""Pictures searched with onnxruntime, Pillow and tokenizers alone, without torch: some seconds.

xclipt export-delta --lang fr,de --format onnx-shared --out served
python examples/onnx_search.py photos served/fr/* "un chien qui court" served/de/* "ein Hund"

Every query stands after the folder of its language's delta. The towers are loaded once; from one
language to the next nothing changes but the arrays that a session is given.
"""

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tokenizers import Tokenizer

Features = NDArray[np.float32]
_BATCH = 32


@cache
def session(graph: Path) -> Any:
    """A tower, loaded when it is first asked for."""
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


@cache
def words(file: Path) -> Tokenizer:
    """A tokenizer, likewise."""
    return Tokenizer.from_file(str(file))


def described(folder: Path, name: str) -> dict[str, Any]:
    """A description beside a delta or a tower."""
    read: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return read


def normalised(features: Features) -> Features:
    """Vectors ``(n, dim)`` of length one."""
    lengths: Features = np.linalg.norm(features, axis=1, keepdims=True)
    return features / lengths


def encode_texts(texts: list[str], delta: Path) -> Features:
    """Features ``(n, dim)`` of texts, with the delta in a folder of the export."""
    how = described(delta, "delta.json")
    tokenizer = words((delta / how["tokenizer"]).resolve())
    tokenizer.enable_truncation(how["max_tokens"])
    tokenizer.enable_padding(pad_id=how["pad_id"], length=how["fixed_length"])
    dropped = str.maketrans("", "", how["dropped"])
    texts = [(how["prefix"] + text).translate(dropped) for text in texts]
    rows = tokenizer.encode_batch([t.lower() if how["lower_case"] else t for t in texts])
    given = {"input_ids": np.array([row.ids for row in rows])}
    if not how["fixed_length"]:
        given["attention_mask"] = np.array([row.attention_mask for row in rows])
    tower = session((delta / how["texts"] / "model.onnx").resolve())
    (features,) = tower.run(["features"], given | dict(np.load(delta / "delta.npz")))
    return normalised(features)


def read_pixels(path: Path, how: dict[str, Any]) -> Features:
    """A picture ``(3, height, width)``: upright, transparency on white, resized and cropped."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    high, wide = how["crop_size"]["height"], how["crop_size"]["width"]
    edge, short = how["size"].get("shortest_edge"), min(picture.size)
    width, height = (int(edge * side / short) for side in picture.size) if edge else (wide, high)
    pixels = np.asarray(picture.resize((width, height), how["resample"]), np.float32)
    top, left = (height - high) // 2, (width - wide) // 2
    pixels = pixels[top : top + high, left : left + wide] * how["rescale_factor"]
    pixels = (pixels - how["image_mean"]) / how["image_std"]
    read: Features = pixels.transpose(2, 0, 1).astype(np.float32)
    return read


def encode_pictures(paths: list[Path], delta: Path) -> Features:
    """Features ``(n, dim)`` of picture files, by the image tower that belongs to a delta."""
    folder = (delta / described(delta, "delta.json")["images"]).resolve()
    how, tower = described(folder, "preprocessor_config.json"), session(folder / "model.onnx")
    parts = []
    for start in range(0, len(paths), _BATCH):
        pixels = np.stack([read_pixels(path, how) for path in paths[start : start + _BATCH]])
        parts += tower.run(["features"], {"pixels": pixels})
    return normalised(np.concatenate(parts))


def main(photos: str, asked: list[str], top: int = 3) -> None:
    queries = [(Path(folder), query) for folder, query in zip(asked[::2], asked[1::2], strict=True)]
    files = sorted(path for path in Path(photos).iterdir() if path.suffix in (".jpg", ".png"))
    pictures = encode_pictures(files, queries[0][0])
    for folder, query in queries:
        (cosines,) = encode_texts([query], folder) @ pictures.T
        best = np.argsort(-cosines)[:top]
        print(f"{query}:", ", ".join(f"{files[i].name} ({cosines[i]:.2f})" for i in best))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", help="folder of .jpg and .png files")
    parser.add_argument("asked", nargs="+", help="folder of a delta and a query, in turns")
    parser.add_argument("--top", type=int, default=3, help="pictures to show")
    main(**vars(parser.parse_args()))
