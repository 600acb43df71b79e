"""A delta's manifest: everything that is known of how it came to be, as a person reads it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save
from torch import Tensor

from xclipt.errors import XcliptError
from xclipt.files import content_hash

FORMAT = 1
MANIFEST = "manifest.yaml"
"""The file, beside the weights and in every export."""


@dataclass(frozen=True)
class WeightsFile:
    """The delta's tensors: a safetensors file beside the manifest, named by its content."""

    file: str
    sha256: str
    bytes: int
    parameters: int


def pack(tensors: Mapping[str, Tensor]) -> tuple[WeightsFile, bytes]:
    """A delta's tensors as the bytes of their file, and what a manifest says of it."""
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = content_hash(data)
    weights = WeightsFile(
        file=f"delta-{digest[:12]}.safetensors",
        sha256=digest,
        bytes=len(data),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
    )
    return weights, data


@dataclass(frozen=True)
class TrainingData:
    """What the delta was trained on and chosen by.

    Attributes:
        dataset: Name of the data set.
        split: Its split, ``None`` where it has none.
        shots: Pictures used; ``None`` is all of them.
        pairs: Image-caption pairs.
        sha256: Over the pairs, texts and picture contents, in order.
        pictures: Leading 16 hexadecimal digits of the SHA-256 of each picture that was trained or
            validated on, or the delta that it started from; ``eval`` leaves them out.
        alignment_sha256: Hash of the alignment set, as ``xclipt align`` records it.
        floor: Least cosine that a pair's texts had to have in the frozen tower.
        left_out: How many pairs were passed over, by reason.
    """

    dataset: str
    split: str | None
    shots: int | None
    pairs: int
    sha256: str
    validation_split: str | None
    validation_pictures: int
    pictures: tuple[str, ...] = field(repr=False)
    alignment_sha256: str = ""
    floor: float | None = None
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DeltaManifest:
    """One trained delta.

    Attributes:
        text: What is embedded at inference: the text as it is (``target``) or its English
            translation (``to-en``).
        translator: Engine, model, revision and setting of the translations that it was trained on;
            ``None`` where human captions were all. For ``to-en`` text at inference must come from
            the same.
        start: Name and SHA-256 of the weights that training started from; ``None`` is the kind's
            own beginning.
    """

    language: str
    name: str
    kind: str
    setting: dict[str, Any]
    weights: WeightsFile
    backbone: dict[str, str]
    backbone_parameters: int
    routine: int | None
    text: str
    recipe: dict[str, Any]
    seed: int
    data: TrainingData
    steps: int
    seconds: float
    validation: dict[str, Any]
    versions: dict[str, str]
    created: str
    translator: dict[str, str] | None = None
    start: dict[str, str] | None = None
    format: int = FORMAT

    @property
    def percent(self) -> float:
        """The delta's parameters in per cent of the text tower's."""
        return 100 * self.weights.parameters / self.backbone_parameters

    def to_yaml(self) -> str:
        """The manifest as the text of its file."""
        plain = asdict(self)
        plain["data"]["pictures"] = " ".join(self.data.pictures)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def read(cls, path: Path) -> "DeltaManifest":
        """Parse a manifest file.

        Raises:
            XcliptError: The file is missing, is not a manifest, or is of a newer format.
        """
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise XcliptError(f"{path}: cannot read the manifest ({_first_line(error)})") from None
        if not isinstance(plain, dict) or "format" not in plain:
            raise XcliptError(f"{path}: not a delta manifest")
        if plain["format"] != FORMAT:
            raise XcliptError(
                f"{path}: manifest format {plain['format']}; this xclipt reads format {FORMAT}: "
                "upgrade xclipt"
            )
        unknown = plain.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise XcliptError(f"{path}: unknown entries {', '.join(sorted(unknown))}")
        try:
            plain["weights"] = WeightsFile(**plain["weights"])
            plain["data"]["pictures"] = tuple(plain["data"]["pictures"].split())
            plain["data"] = TrainingData(**plain["data"])
            manifest = cls(**plain)
        except (TypeError, KeyError, AttributeError) as error:
            raise XcliptError(f"{path}: not a complete delta manifest ({error})") from None
        if Path(manifest.weights.file).name != manifest.weights.file:
            raise XcliptError(f"{path}: weights file '{manifest.weights.file}' is not a plain name")
        return manifest


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
