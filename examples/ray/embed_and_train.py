"""Languages x seeds trained as Ray tasks, then captions and pictures embedded by Ray Data: minutes.

pip install 'ray[data]'
python examples/ray/embed_and_train.py --lang fr,de --seeds 1,2,3 --out embedded

Ray runs again what was killed with its worker; a delta is there as a whole or not at all.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import ray

import xclipt


def train(artifacts: str, data: str, language: str, seed: int, shots: int) -> str:
    """Train one delta unless it is there already, and return its name."""
    workspace = xclipt.open_workspace(artifacts, xclipt.Lines())
    pictures = xclipt.open_dataset(data)
    request = xclipt.TrainingRequest(xclipt.AlignmentRequest(language, shots=shots, seed=seed))
    name = request.delta_name(pictures.name)
    if name not in workspace.directory.names(language):
        xclipt.train_delta(workspace, pictures, request)
    return f"{language}/{name}"


class Encoder:
    """A model that a worker loads once; rows with texts or paths -> the same with features."""

    def __init__(self, artifacts: str) -> None:
        self.model = xclipt.load(artifacts, device="cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if "path" in batch:
            return batch | {"features": self.model.encode_image([*batch["path"]])}
        asked = [*batch["text"]], [*batch["language"]]
        return batch | {"features": self.model.encode_text(*asked, fallback="base")}


def embed(rows: list[dict[str, str]], artifacts: str, out: Path) -> None:
    """Write rows with their features as parquet; half a processor encodes, the other writes."""
    how = {"fn_constructor_args": (artifacts,), "concurrency": (1, 8), "batch_size": 64}
    ray.data.from_items(rows).map_batches(Encoder, num_cpus=0.5, **how).write_parquet(str(out))


def main(artifacts: str, data: str, lang: str, seeds: str, shots: int, out: str) -> None:
    xclipt.open_workspace(artifacts, xclipt.Lines(), create=True)  # one makes it, all use it
    languages, task = lang.split(","), ray.remote(num_cpus=1, max_retries=5)(train)
    asked = product([artifacts], [data], languages, map(int, seeds.split(",")), [shots])
    running = [task.remote(*each) for each in asked]
    print("trained", *ray.get(running))
    pictures = xclipt.open_dataset(data)
    texts = [
        {"text": text, "language": code, "image": picture.image}
        for code in languages
        for picture in pictures.captions(code, None)
        for text in picture.captions
    ]
    paths = [{"path": str(pictures.picture_path(i))} for i in {row["image"]: 0 for row in texts}]
    embed(texts, artifacts, Path(out, "texts"))
    embed(paths, artifacts, Path(out, "pictures"))
    print(f"embedded {len(texts):,} captions and {len(paths):,} pictures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default, help in (
        ("artifacts", "xclipt-artifacts", "directory that all workers see"),
        ("data", "emoji", "a data set, or a folder of one's own"),
        ("lang", "fr,de", "codes with commas"),
        ("seeds", "1", "numbers with commas"),
        ("shots", 10, "captioned pictures a language"),
        ("out", "embedded", "folder for parquet"),
    ):
        parser.add_argument(f"--{name}", default=default, type=type(default), help=help)
    main(**vars(parser.parse_args()))
