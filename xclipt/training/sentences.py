"""Sentence pairs without pictures, as a training takes them: from disk, a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from xclipt.artifacts.feature_rows import FeatureRows
from xclipt.artifacts.manifest import SentenceData
from xclipt.deltas.kind import DeltaSpec
from xclipt.devices import dtype_name
from xclipt.errors import UsageError
from xclipt.parallel.sources import ParallelRequest
from xclipt.parallel.store import store_pairs
from xclipt.parallel.stored import StoredPairs
from xclipt.training.loop import ValidationSet
from xclipt.training.pairs import PairBatch
from xclipt.training.request import Parallel, TrainingRequest
from xclipt.workspace import Workspace

_HELD_OUT_SHARE = 10
_MOST_HELD_OUT = 500
_ENOUGH_OF_FEW = 100
"""More are not held out beside fewer: ten pairs are trained on in a second."""
_FEWEST_HELD_OUT = 20
_LOOKED_AT = 10_000
"""So many pairs are searched for texts that are too long: a second, not minutes."""


@dataclass(frozen=True)
class SentencePairs:
    """Pairs of one language.

    Attributes:
        stored: All pairs of their source, in the order that the seed gives them.
        count: The first so many are trained on.
        spec: The delta's, which may put a text before every sentence.
        workspace: Whose tokenizer reads them.
        features: What the frozen tower makes of the English sentences.
        frozen: Whether that is what they are pulled to.
    """

    stored: StoredPairs
    count: int
    spec: DeltaSpec
    workspace: Workspace
    features: FeatureRows
    frozen: bool

    def __len__(self) -> int:
        return self.count

    def batch(self, rows: Sequence[int]) -> PairBatch:
        """The pairs of these numbers."""
        pairs = [self.stored[row] for row in rows]
        tokens, prompted = self.workspace.backbone.tokenizer, self.spec.prompted
        return PairBatch(
            tokens=tokens([prompted(pair.text) for pair in pairs], self.stored.language),
            partner_tokens=tokens([prompted(pair.english) for pair in pairs], "en"),
            partner_features=self.features[rows] if self.frozen else None,
        )

    def validation(self, held_out: int) -> ValidationSet | None:
        """The last pairs of the source, to find the English sentence by, and the reverse."""
        rows = range(len(self.stored) - held_out, len(self.stored))
        pairs = [self.stored[row] for row in rows]
        if not pairs:
            return None
        # A sentence with two translations is one that either may find.
        english = dict(zip((pair.english for pair in pairs), rows, strict=True))
        number = {sentence: i for i, sentence in enumerate(english)}
        tokens, texts = self.workspace.backbone.tokenizer, [pair.text for pair in pairs]
        return ValidationSet(
            images=self.features[[*english.values()]],
            tokens=tokens([*map(self.spec.prompted, texts)], self.stored.language),
            picture_index=torch.tensor([number[pair.english] for pair in pairs]),
            unprompted=tokens(texts, self.stored.language) if self.spec.hard_prompt else None,
            of_sentences=True,
        )


@dataclass(frozen=True)
class PreparedSentences:
    """What is trained on, an entry a language, what is held out, and what a manifest says of it."""

    pairs: tuple[SentencePairs, ...]
    validation: tuple[ValidationSet, ...]
    data: SentenceData


def store_sentences(workspace: Workspace, request: TrainingRequest) -> list[StoredPairs]:
    """Read, screen and keep the pairs of each language; none where the request has no sources.

    Raises:
        XcliptError: A source cannot be read, or holds no pairs of a language.
    """
    parallel = request.parallel
    if parallel is None:
        return []
    stored: dict[str, StoredPairs] = {}
    for language in request.languages:
        asked = ParallelRequest(parallel.sources, language, request.seed, parallel.reading)
        pairs = store_pairs(workspace.directory, asked, workspace.progress)
        if pairs.sha256 in stored:
            first = stored[pairs.sha256].language
            raise UsageError(
                f"{pairs.source} is read as '{first}' and as '{language}': say which it is, as "
                f"{first}={parallel.sources[0]}",
                field="sources",
                value=" ".join(parallel.sources),
            )
        stored[pairs.sha256] = pairs
    return [*stored.values()]


def prepare_sentences(
    workspace: Workspace,
    sources: Sequence[StoredPairs],
    parallel: Parallel,
    *,
    spec: DeltaSpec,
    frozen: bool,
    hold_out: bool,
) -> PreparedSentences:
    """Choose which pairs are trained on, and hold some out.

    Args:
        workspace: Where features are kept.
        sources: All pairs of each language, as :func:`store_sentences` gives them.
        parallel: How many of them.
        spec: The delta's.
        frozen: The teacher is: the English sentences' features are kept.
        hold_out: Hold some out to validate on.

    Raises:
        XcliptError: A source holds fewer pairs than are asked for.
    """
    trained, held = [], []
    for stored in sources:
        workspace.note_language(stored.language)
        count, rest = _divide(stored, parallel, hold_out)
        first = stored[: min(count, _LOOKED_AT)]
        both = [text for pair in first for text in (pair.text, pair.english)]
        workspace.note_cut(f"{stored.source}, first {len(first):,} pairs", [(both, spec)])
        features = _features(workspace, stored)
        trained.append(SentencePairs(stored, count, spec, workspace, features, frozen))
        held.append(trained[-1].validation(rest))
    return PreparedSentences(
        pairs=tuple(trained),
        validation=tuple(part for part in held if part),
        data=SentenceData(
            source=", ".join(dict.fromkeys(stored.source for stored in sources)),
            asked=parallel.pairs,
            pairs={part.stored.language: len(part) for part in trained},
            sha256={part.stored.language: part.stored.sha256 for part in trained},
            left_out={part.stored.language: dict(part.stored.left_out) for part in trained},
            held_out=sum(len(part.tokens) for part in held if part),
        ),
    )


def _divide(stored: StoredPairs, parallel: Parallel, hold_out: bool) -> tuple[int, int]:
    """How many pairs are trained on, the first ones, and how many held out, the last ones."""
    there = len(stored)
    rest = 0
    if hold_out:
        most = min(_MOST_HELD_OUT, max(_ENOUGH_OF_FEW, parallel.pairs or there))
        usual = min(there // _HELD_OUT_SHARE, most)
        rest = parallel.held_out if parallel.held_out is not None else usual
        if parallel.held_out is None and usual < _FEWEST_HELD_OUT:
            rest = 0
    wanted = there - rest if parallel.pairs is None else parallel.pairs
    if parallel.held_out is None:
        rest = max(0, min(rest, there - wanted))
    if wanted > there - rest or wanted < 2:
        beside = f" beside {rest:,} that are held out" if rest else ""
        raise UsageError(
            f"{stored.source} has {there:,} usable pairs in '{stored.language}'{beside}; give at "
            "most what there is, or all",
            field="shots",
            value="all" if parallel.pairs is None else parallel.pairs,
        )
    return wanted, rest


def _features(workspace: Workspace, stored: StoredPairs) -> FeatureRows:
    backbone = workspace.backbone

    def compute(rows: range) -> torch.Tensor:
        english = [stored[row].english for row in rows]
        return backbone.encode_texts(english, language="en")

    return FeatureRows(
        workspace.directory.partners(stored.sha256, dtype_name(backbone.dtype)),
        len(stored),
        backbone.dim,
        compute,
        workspace.progress,
    )
