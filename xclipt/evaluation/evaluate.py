"""``eval``: the frozen base and the deltas of an artifact directory, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import BackboneIdentity
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pictures import require_pictures, split_present
from xclipt.errors import XcliptError
from xclipt.evaluation.disparity import Disparity, disparity
from xclipt.evaluation.metrics import (
    Ranks,
    Retrieval,
    bootstrap_mean_r1,
    interval95,
    mean_r1,
    retrieval_ranks,
    summarise,
)
from xclipt.workspace import Pictures, Workspace

MODES = ("auto", "image", "text")


@dataclass(frozen=True)
class Gain:
    """A delta's mean R@1 less the base's on the same pictures, with a paired 95 % interval."""

    mean_r1: float
    ci95: tuple[float, float]

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


@dataclass(frozen=True)
class RecallRow:
    """One language with one delta, or with none.

    Attributes:
        delta: The delta's name; ``None`` is the frozen base.
        n: Pictures, or in text mode English captions, that are ranked.
        captions: Captions in the language.
        left_out: Pictures that the language's delta was trained or validated on.
        t2i: From caption to picture (in text mode, to the English caption).
        i2t: From picture (English caption) to caption.
        mean_r1: Mean of both directions' R@1, per cent.
        ci95: Bootstrap interval of ``mean_r1`` over pictures.
        gain: Against the base, where there is a delta.
    """

    language: str
    delta: str | None
    n: int
    captions: int
    left_out: int
    t2i: Retrieval
    i2t: Retrieval
    mean_r1: float
    ci95: tuple[float, float]
    gain: Gain | None

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        plain: dict[str, Any] = {
            "language": self.language,
            "delta": self.delta,
            "n": self.n,
            "t2i": self.t2i.as_json(),
            "i2t": self.i2t.as_json(),
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
            "captions": self.captions,
            "left_out": self.left_out,
        }
        if self.gain:
            plain["gain"] = {"mean_R@1": self.gain.mean_r1, "ci95": list(self.gain.ci95)}
        return plain


@dataclass(frozen=True)
class MeanGain:
    """The mean over languages of :class:`Gain`, with its interval."""

    languages: tuple[str, ...]
    mean_r1: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """The result of one ``eval``. ``deltas`` is ``None`` where no language has a delta."""

    dataset: str
    split: str | None
    mode: str
    backbone: BackboneIdentity
    rows: tuple[RecallRow, ...]
    base: Disparity
    deltas: Disparity | None
    mean_gain: MeanGain | None

    def as_json(self) -> dict[str, Any]:
        """The document of the design's contract."""
        plain: dict[str, Any] = {
            "command": "eval",
            "dataset": self.dataset,
            "split": self.split,
            "mode": self.mode,
            "backbone": {"id": self.backbone.id, "fingerprint": self.backbone.fingerprint},
            "rows": [row.as_json() for row in self.rows],
            "disparity": {
                "base": self.base.as_json(),
                "delta": self.deltas.as_json() if self.deltas else None,
            },
        }
        if self.mean_gain:
            plain["mean_gain"] = {
                "languages": list(self.mean_gain.languages),
                "mean_R@1": self.mean_gain.mean_r1,
                "ci95": list(self.mean_gain.ci95),
            }
        return plain


@dataclass(frozen=True)
class _Queries:
    """A language's captions, what they are ranked against, and the owner of each caption."""

    targets: torch.Tensor
    captions: list[str]
    owner: torch.Tensor
    left_out: int


def evaluate(
    workspace: Workspace,
    dataset: Dataset,
    languages: Sequence[str],
    *,
    split: str | None = None,
    mode: str = "auto",
    deltas: Mapping[str, StoredDelta] | None = None,
    allow_missing: bool = False,
    limit: int | None = None,
) -> Evaluation:
    """Measure retrieval in every language, with the frozen base and with its delta.

    A delta is never measured on pictures that it was trained or validated on, whichever data set
    they come by: they are left out of both of the language's rows and counted.

    Args:
        split: ``None`` takes ``test``, else ``val``, else all pictures.
        mode: ``image`` ranks pictures; ``text`` ranks the English captions of the same pictures;
            ``auto`` is ``image`` where the pictures are there.
        deltas: The delta of each language that has one; ``None`` takes the current ones.
        allow_missing: Go on with the pictures that are there.
        limit: At most so many pictures.

    Raises:
        XcliptError: The data does not hold what is asked.
    """
    if mode not in MODES:
        raise XcliptError(f"--mode {mode}: choose {', '.join(MODES)}")
    if limit is not None and limit < 2:
        raise XcliptError(f"--limit {limit}: retrieval needs at least 2 pictures")
    split = _choose_split(dataset, split)
    if deltas is None:
        current = {language: workspace.directory.current(language) for language in languages}
        deltas = {language: delta for language, delta in current.items() if delta}
    by_language = {}
    for language in languages:
        by_language[language] = dataset.captions(language, split)[:limit]
        if len(by_language[language]) < 2:
            raise XcliptError(
                f"--dataset {dataset.name}: {len(by_language[language])} captioned pictures in "
                f"'{language}', retrieval needs at least 2"
            )
    everything = list({p.image: p for part in by_language.values() for p in part}.values())
    mode = _choose_mode(workspace, dataset, everything, mode, allow_missing)

    pictures: Pictures | None = None
    row: dict[str, int] = {}
    if mode == "image":
        present = require_pictures(dataset, everything, allow_missing)
        pictures = workspace.encode_pictures([dataset.picture_path(p.image) for p in present])
        row = {picture.image: i for i, picture in enumerate(present)}
        by_language = {
            language: [picture for picture in part if picture.image in row]
            for language, part in by_language.items()
        }

    rows: list[RecallRow] = []
    gains: dict[str, tuple[Ranks, Ranks]] = {}
    for language in languages:
        delta = deltas.get(language)
        if pictures is not None:
            queries = _against_pictures(by_language[language], pictures, row, delta)
        else:
            queries = _against_english(workspace, dataset, by_language[language], split)
        if len(queries.targets) < 2:
            raise XcliptError(
                f"--dataset {dataset.name}: the delta '{delta.manifest.name if delta else ''}' of "
                f"'{language}' was trained on all but {len(queries.targets)} of its pictures; "
                "evaluate on another split or data set"
            )
        base = _ranks(workspace, queries, None)
        rows.append(_recall_row(language, None, queries, base, None))
        if delta:
            trained = _ranks(workspace, queries, delta)
            gains[language] = (base, trained)
            rows.append(_recall_row(language, delta.manifest.name, queries, trained, base))
    base_figures = {row.language: row.mean_r1 for row in rows if row.delta is None}
    delta_figures = base_figures | {row.language: row.mean_r1 for row in rows if row.delta}
    return Evaluation(
        dataset=dataset.name,
        split=split,
        mode=mode,
        backbone=workspace.backbone.identity,
        rows=tuple(rows),
        base=disparity(base_figures),
        deltas=disparity(delta_figures) if gains else None,
        mean_gain=_mean_gain(gains) if gains else None,
    )


def _choose_split(dataset: Dataset, split: str | None) -> str | None:
    if split is not None or not dataset.splits:
        return split
    for choice in ("test", "val"):
        if choice in dataset.splits:
            return choice
    raise XcliptError(
        f"--dataset {dataset.name}: name a split with --split ({', '.join(dataset.splits)})"
    )


def _choose_mode(
    workspace: Workspace,
    dataset: Dataset,
    pictures: list[CaptionedPicture],
    mode: str,
    allow_missing: bool,
) -> str:
    if mode != "auto":
        return mode
    present, missing = split_present(dataset, pictures)
    if present:
        # Some are there: whether to go on without the others is the user's choice to make.
        return "image"
    workspace.progress.note(
        f"TEXT MODE: none of the {len(missing)} pictures of {dataset.name} are here, so each "
        "caption is ranked against the English captions instead; these figures are no image "
        "retrieval"
    )
    return "text"


def _against_pictures(
    captioned: list[CaptionedPicture],
    pictures: Pictures,
    row: dict[str, int],
    delta: StoredDelta | None,
) -> _Queries:
    seen = set(delta.manifest.data.pictures) if delta else set()
    kept = [p for p in captioned if pictures.keys[row[p.image]].hex()[:16] not in seen]
    return _Queries(
        targets=pictures.features[[row[p.image] for p in kept]],
        captions=[caption for p in kept for caption in p.captions],
        owner=torch.tensor([i for i, p in enumerate(kept) for _ in p.captions]),
        left_out=len(captioned) - len(kept),
    )


def _against_english(
    workspace: Workspace, dataset: Dataset, captioned: list[CaptionedPicture], split: str | None
) -> _Queries:
    if "en" not in dataset.languages:
        raise XcliptError(f"--mode text: {dataset.name} has no English captions to rank")
    english = {p.image: p.captions[0] for p in dataset.captions("en", split) if p.captions}
    kept = [p for p in captioned if p.image in english]
    return _Queries(
        targets=workspace.encode_texts([english[p.image] for p in kept]),
        captions=[caption for p in kept for caption in p.captions],
        owner=torch.tensor([i for i, p in enumerate(kept) for _ in p.captions]),
        left_out=0,
    )


def _ranks(workspace: Workspace, queries: _Queries, delta: StoredDelta | None) -> Ranks:
    captions = workspace.encode_texts(queries.captions, delta)
    return retrieval_ranks(queries.targets, captions, queries.owner)


def _recall_row(
    language: str, delta: str | None, queries: _Queries, ranks: Ranks, base: Ranks | None
) -> RecallRow:
    draws = bootstrap_mean_r1(ranks)
    gain = None
    if base is not None:
        difference = draws - bootstrap_mean_r1(base)
        gain = Gain(mean_r1(ranks) - mean_r1(base), interval95(difference))
    return RecallRow(
        language=language,
        delta=delta,
        n=len(queries.targets),
        captions=len(queries.captions),
        left_out=queries.left_out,
        t2i=summarise(ranks.t2i),
        i2t=summarise(ranks.i2t),
        mean_r1=mean_r1(ranks),
        ci95=interval95(draws),
        gain=gain,
    )


def _mean_gain(gains: Mapping[str, tuple[Ranks, Ranks]]) -> MeanGain:
    # The languages' pictures overlap in ways that differ from set to set; drawing each language's
    # samples on its own treats them as independent.
    draws, means = [], []
    for seed, (base, trained) in enumerate(gains.values(), start=1):
        draws.append(bootstrap_mean_r1(trained, seed=seed) - bootstrap_mean_r1(base, seed=seed))
        means.append(mean_r1(trained) - mean_r1(base))
    mean_draws = sum(draws[1:], draws[0]) / len(draws)
    return MeanGain(tuple(gains), sum(means) / len(means), interval95(mean_draws))
