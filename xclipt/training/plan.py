"""What a training would make, from shapes alone: a dry run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.registry import blueprint
from xclipt.deltas.adapted import AdaptedTower
from xclipt.training.request import TrainingRequest
from xclipt.training.warm_start import WarmStarts


@dataclass(frozen=True)
class DeltaPlan:
    """One language's delta as it would come out.

    Attributes:
        setting: What the delta is made of.
        trainable_parameters: Numbers in the delta.
        backbone_parameters: Weights of the text tower with its head.
        bytes: Size of the safetensors file, its header included but for the manifest's facts, some
            kilobytes that are known when the training is done.
        tensor_bytes: Size of the tensors in it.
        steps: Optimiser steps at the most; ``None`` where the data decides.
    """

    language: str
    name: str
    kind: str
    setting: Mapping[str, Any]
    trainable_parameters: int
    backbone_parameters: int
    bytes: int
    tensor_bytes: int
    steps: int | None

    @property
    def percent(self) -> float:
        """The delta's parameters in per cent of the text tower's."""
        return 100 * self.trainable_parameters / self.backbone_parameters


def plan(
    backbone: str,
    requests: Sequence[TrainingRequest],
    dataset: str | None,
    directory: ArtifactDirectory | None = None,
) -> list[DeltaPlan]:
    """The plan of each request on a backbone, from its shapes alone.

    Args:
        backbone: Its name.
        requests: What would be trained.
        dataset: Name of the data set that it would be trained on; ``None`` for sentence pairs.
        directory: Where a start may be taken from.

    Raises:
        XcliptError: There is no such backbone, or a delta's settings do not suit it.
    """
    outline = blueprint(backbone)
    starts = WarmStarts(directory, outline.warm_start)
    plans = []
    for request in requests:
        spec = request.delta_spec(starts)
        delta = AdaptedTower(outline.text_tower, spec)
        shapes = {name: tuple(p.shape) for name, p in delta.named_parameters().items()}
        pairs = request.parallel.pairs if request.parallel else request.alignment.shots
        plans.append(
            DeltaPlan(
                language=request.language,
                name=request.delta_name(dataset),
                kind=spec.kind,
                setting=asdict(spec),
                trainable_parameters=delta.trainable_parameters,
                backbone_parameters=outline.text_parameters,
                bytes=safetensors_bytes(shapes),
                tensor_bytes=4 * delta.trainable_parameters,
                steps=request.recipe.steps(pairs) if pairs else None,
            )
        )
    return plans


def safetensors_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Size of a safetensors file of float32 tensors without metadata.

    A length of 8 bytes, a JSON header padded to a multiple of 8 in which the tensors stand by
    name, and the tensors.
    """
    header = {}
    end = 0
    for name in sorted(shapes):
        start, count = end, 1
        for size in shapes[name]:
            count *= size
        end += 4 * count
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    return 8 + -(-len(text.encode()) // 8) * 8 + end
