"""A delta's manifest: everything that is known of how it came to be, as a person reads it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors import SafetensorError

from xclipt.artifacts.arrays import read_metadata
from xclipt.documents import parse_json, read_yaml, record
from xclipt.errors import XcliptError
from xclipt.files import content_hash
from xclipt.languages import SEVERAL

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
_READ = (1, 2)
MANIFEST = "manifest.yaml"
"""The file, beside the weights and in every export."""

_FACTS = "facts"
_BRIEF = 60
_HUGE = 1e15  # no figure of a validation is as large


@dataclass(frozen=True)
class WeightsFile:
    """The delta's tensors: a safetensors file beside the manifest, named by its content."""

    file: str
    sha256: str
    bytes: int
    parameters: int


def pack(
    tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any] | None
) -> tuple[WeightsFile, bytes]:
    """A delta's tensors as the bytes of their file, and what a manifest says of it.

    Args:
        tensors: The delta's.
        facts: :meth:`DeltaManifest.facts`, repeated in the file; ``None`` in format 1.
    """
    from safetensors.torch import save

    plain: dict[str, Tensor] = {}
    kept: set[int] = set()
    for name, tensor in tensors.items():
        # What other programs saved may share memory, which safetensors does not take.
        where = tensor.untyped_storage().data_ptr()
        plain[name] = (tensor.clone() if where in kept else tensor).contiguous()
        kept.add(where)
    # One entry alone: safetensors writes several in an order of its own.
    metadata = None if facts is None else {_FACTS: _canonical(facts)}
    data = save(plain, metadata)
    digest = content_hash(data)
    weights = WeightsFile(
        file=f"delta-{digest[:12]}.safetensors",
        sha256=digest,
        bytes=len(data),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
    )
    return weights, data


def repeated_facts(path: Path) -> dict[str, Any] | None:
    """The facts that a weights file repeats; ``None`` where it has none or cannot be read."""
    try:
        facts = parse_json(read_metadata(path)[_FACTS])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


@dataclass(frozen=True)
class SentenceData:
    """Sentence pairs that a delta was trained on, by language where it says nothing else.

    Attributes:
        source: Names of files or data sets.
        asked: So many of each language were asked for; ``None`` is all.
        pairs: How many there were to train on.
        sha256: Over the usable pairs of the source, in order.
        left_out: How many pairs were passed over, by reason.
        held_out: How many were kept to validate on, of all languages.
    """

    source: str
    asked: int | None
    pairs: dict[str, int]
    sha256: dict[str, str]
    left_out: dict[str, dict[str, int]]
    held_out: int


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
        split_seed: What the paper's split was drawn with; ``None`` where it is the paper's own.
        caption: The number of the caption that was taken of every picture; ``None`` where one was
            drawn, or all were taken.
        sentences: The pairs without pictures, if there were any.
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
    caption: int | None = None
    split_seed: int | None = None
    sentences: SentenceData | None = None

    @property
    def all_pairs(self) -> int:
        """Captions with pictures and sentence pairs."""
        return self.pairs + (sum(self.sentences.pairs.values()) if self.sentences else 0)

    @property
    def what(self) -> str:
        """``50 captioned pictures of `xtd` `` and the like, in Markdown."""
        said = [f"{self.pairs:,} captioned pictures of `{self.dataset}`"] if self.pairs else []
        if self.sentences:
            count = sum(self.sentences.pairs.values())
            said.append(f"{count:,} sentence pairs of `{self.sentences.source}`")
        return " and ".join(said)

    @property
    def validated_on(self) -> str:
        """Likewise ``300 validation pictures of `xtd` ``; empty without any."""
        if self.validation_pictures:
            return f"{self.validation_pictures} validation pictures of `{self.dataset}`"
        if self.sentences and self.sentences.held_out:
            return f"{self.sentences.held_out} held out pairs of `{self.sentences.source}`"
        return ""


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
        dtype: Compute precision of the training; ``None`` where it is not known.
        languages: Those that it was taught together; ``language`` is then ``mul``.
        format: 2 repeats :meth:`facts` in the weights file; 1, of earlier releases, does not.
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
    dtype: str | None = None
    languages: tuple[str, ...] = ()
    format: int = FORMAT

    @classmethod
    def of(
        cls,
        tensors: "Mapping[str, Tensor]",
        *,
        name: str,
        seconds: float,
        created: str,
        **facts: Any,
    ) -> tuple["DeltaManifest", bytes]:
        """The manifest of a new delta, and the bytes of its weights file.

        Args:
            tensors: The delta's.
            name, seconds, created: What the weights file does not repeat.
            facts: All other fields.
        """
        blank = WeightsFile(file="", sha256="", bytes=0, parameters=0)
        described = cls(name=name, seconds=seconds, created=created, weights=blank, **facts)
        return described.packed(tensors)

    def packed(self, tensors: "Mapping[str, Tensor]") -> tuple["DeltaManifest", bytes]:
        """The manifest with ``tensors`` for its weights, and the bytes of their file."""
        weights, data = pack(tensors, self.facts() if self.format > 1 else None)
        return replace(self, weights=weights), data

    def facts(self) -> dict[str, Any]:
        """What the weights file repeats, as plain JSON.

        That is everything but what may change without making it another delta: what it is called,
        where its backbone lies, and when it was trained and how long that took.
        """
        plain = asdict(self) | {"backbone": self.backbone["fingerprint"]}
        for own in ("name", "weights", "seconds", "created", "format"):
            del plain[own]
        if not self.languages:
            del plain["languages"]
        for since in (
            "caption",
            "split_seed",
            "sentences",
        ):  # what earlier releases wrote does not know of them
            if plain["data"][since] is None:
                del plain["data"][since]
        facts: dict[str, Any] = json.loads(_canonical(plain))
        return facts

    @property
    def taught(self) -> tuple[str, ...]:
        """The languages that it is for."""
        return self.languages or (self.language,)

    @property
    def reference(self) -> str:
        """What it is called from one of its languages: its name, or ``mul/NAME``."""
        return f"{SEVERAL}/{self.name}" if self.language == SEVERAL else self.name

    @property
    def kept_start(self) -> bool:
        """Whether it is what its training started from: no step was better on validation."""
        return self.start is not None and self.validation.get("step") == 0

    @property
    def percent(self) -> float:
        """The delta's parameters in per cent of the text tower's."""
        return 100 * self.weights.parameters / self.backbone_parameters

    def to_yaml(self) -> str:
        """The manifest as the text of its file."""
        plain = asdict(self)
        plain["data"]["pictures"] = " ".join(self.data.pictures)
        plain["languages"] = [*self.languages]
        if not self.languages:
            del plain["languages"]
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def read(cls, path: Path) -> "DeltaManifest":
        """Parse a manifest file.

        Raises:
            XcliptError: The file is missing, is not a manifest, or is of a newer format.
        """
        try:
            plain = read_yaml(path)
        except (OSError, ValueError) as error:
            raise XcliptError(f"{path}: cannot read the manifest ({_first_line(error)})") from None
        if not isinstance(plain, dict) or "format" not in plain:
            raise XcliptError(f"{path}: not a delta manifest")
        if plain["format"] not in _READ:
            raise XcliptError(
                f"{path}: manifest format {plain['format']}; this xclipt reads "
                f"{' and '.join(map(str, _READ))}: upgrade xclipt"
            )
        try:
            data = plain.get("data")
            if isinstance(data, dict) and isinstance(data.get("pictures"), str):
                data["pictures"] = data["pictures"].split()
            manifest = record(cls, plain)
            if lacking := {"id", "fingerprint"} - manifest.backbone.keys():
                raise ValueError(f"backbone lacks {', '.join(sorted(lacking))}")
            _check_validation(manifest.validation)
        except ValueError as error:
            raise XcliptError(f"{path}: not a complete delta manifest ({error})") from None
        if Path(manifest.weights.file).name != manifest.weights.file:
            raise XcliptError(f"{path}: weights file '{manifest.weights.file}' is not a plain name")
        return manifest


_FIGURES = ("step", "mean_R@1", "MRR", "base_mean_R@1", "base_MRR")


def _check_validation(figures: Mapping[str, Any]) -> None:
    plain = {name: value for name, value in figures.items() if name != "history"}
    if plain.keys() & {*_FIGURES} and (lacking := {*_FIGURES} - plain.keys()):
        raise ValueError(f"validation lacks {', '.join(sorted(lacking))}")
    history = figures.get("history", [])
    if not isinstance(history, list) or not all(isinstance(one, dict) for one in history):
        raise ValueError("validation.history is no list of evaluations")
    for where, one in (("validation", plain), *(("validation.history", one) for one in history)):
        for name in ("step", "mean_R@1", "MRR") if where.endswith("history") else ():
            if name not in one:
                raise ValueError(f"{where} lacks {name}")
        for name, value in one.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not -_HUGE < value < _HUGE:
                raise ValueError(f"{where}.{name} is {str(value)[:40]!r}, which is no figure")


def differences(one: Mapping[str, Any], another: Mapping[str, Any]) -> str:
    """Where facts differ, in words; empty where they do not.

    ``setting.alpha 44 and 4; seed 2 and 1``: three at most, and long values are not spelt out.
    """
    ours, theirs = _flat(one), _flat(another)
    short, long = [], []
    for key in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get(key, "missing"), theirs.get(key, "missing")
        if mine != other:
            shown = [value if value != "" else "''" for value in (mine, other)]
            if any(isinstance(value, list) or len(str(value)) > _BRIEF for value in shown):
                long.append(key)
            else:
                short.append(f"{key} {shown[0]} and {shown[1]}")
    found = [*short, *long]
    return "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _canonical(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, ensure_ascii=False)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
