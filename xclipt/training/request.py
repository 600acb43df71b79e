"""What a user asks of a training, for one language."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from xclipt.alignment.build import AlignmentRequest
from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.directory import check_name
from xclipt.data.dataset import Dataset
from xclipt.data.formats.known import SUFFIXES
from xclipt.data.formats.reading import Reading
from xclipt.data.sets.emoji import EMOJI
from xclipt.deltas.kind import DeltaSpec
from xclipt.deltas.kinds import PartialSpec
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import SEVERAL
from xclipt.training.losses import ALIGNMENTS
from xclipt.training.recipe import DEFAULT, Recipe
from xclipt.training.warm_start import WarmStarts

_LONGEST_SLUG = 40
_MOST_IN_NAME = 5


@dataclass(frozen=True)
class Parallel:
    """Which sentence pairs to train on.

    Attributes:
        sources: Files, or ids of data sets, as :mod:`xclipt.parallel.sources` takes them.
        pairs: So many of every language, drawn by the seed; ``None`` is all.
        held_out: So many more to validate on, where there are no pictures for that; ``None`` is a
            tenth of them, but 500 at most, 100 beside fewer, and none of fewer than 200.
        reading: How files are read.

    Raises:
        XcliptError: A number is out of range.
    """

    sources: tuple[str, ...]
    pairs: int | None = None
    held_out: int | None = None
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if self.pairs is not None and self.pairs < 2:
            raise XcliptError("must be at least 2, or all", field="shots", value=self.pairs)


@dataclass(frozen=True)
class TrainingRequest:
    """One delta to train.

    >>> import xclipt
    >>> xclipt.TrainingRequest(xclipt.AlignmentRequest("fr", shots=10)).delta_name("flickr8k")
    'lora-10shot-flickr8k-seed1'

    Attributes:
        alignment: The pairs to train on; its ``seed`` is that of initial values and batches too.
            With ``parallel``, ``shots`` of 0 takes pictures to validate on alone.
        parallel: Sentence pairs to train on, beside captions or without any.
        joint: Languages that are taught together, in the place of the alignment's own.
        delta: Kind and settings: a whole specification, or only what is named of one, whose other
            settings are then those of what the training begins from.
        recipe: The optimisation; :data:`~xclipt.training.recipe.SENTENCES` is made for sentence
            pairs.
        name: The delta's; ``None`` makes one from kind, shots, data set and seed.
        validation_pictures: At most so many of the split ``val``; of a data set without splits,
            so many are held out. ``None`` is 300, or 0 without splits.
        even_if_worse: Make the delta current even where validation puts it below the base.
        force: Replace a delta of the same name, whatever it was trained on; train the same again.

    Raises:
        XcliptError: The name cannot be one.
    """

    alignment: AlignmentRequest
    delta: DeltaSpec | PartialSpec = field(default_factory=PartialSpec)
    recipe: Recipe = DEFAULT
    name: str | None = None
    validation_pictures: int | None = None
    even_if_worse: bool = False
    force: bool = False
    joint: tuple[str, ...] = ()
    parallel: Parallel | None = None

    def __post_init__(self) -> None:
        if self.parallel and self.alignment.routine != 1:
            raise UsageError(
                "sentence pairs are what people wrote in both languages: routine 1",
                field="routine",
                value=self.alignment.routine or "none",
            )
        if self.parallel and ALIGNMENTS[self.recipe.align_loss].moves_partner_alone:
            raise UsageError(
                f"`align_loss={self.recipe.align_loss}` is of pictures, which sentence pairs lack",
                field="align_loss",
                value=self.recipe.align_loss,
            )
        if self.parallel and not self.recipe.align_weight:
            raise UsageError(
                "without alignment nothing is learnt of sentence pairs",
                field="align_weight",
                value=0,
            )
        if self.alignment.shots == 0 and not self.parallel:
            raise XcliptError("must be at least 1, or all", field="shots", value=0)
        if self.joint and self.alignment.inference == TO_EN:
            raise UsageError(
                "texts that are translated into English are of one language", field="joint"
            )
        if self.name is not None:
            try:
                check_name(self.name)
            except XcliptError as error:
                raise XcliptError(str(error), field="name", value=self.name) from None

    @property
    def language(self) -> str:
        """ISO 639-1 code; ``mul`` where several are taught together."""
        return SEVERAL if self.joint else self.alignment.language

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are taught."""
        return self.joint or (self.alignment.language,)

    @property
    def seed(self) -> int:
        """Decides the choice of pictures, the initial values and the order of batches."""
        return self.alignment.seed

    def delta_name(self, dataset: str | None) -> str:
        """``lora-10shot-flickr8k-seed1`` and the like, unless a name was given.

        The embedded emoji go without saying.

        Args:
            dataset: Name of the data set; ``None`` for sentence pairs alone.
        """
        if self.name:
            return self.name
        pairs = self.alignment
        taught = "-".join(["", *self.joint])
        if len(self.joint) > _MOST_IN_NAME:
            taught = f"-{len(self.joint)}languages"
        parts = [f"{self.delta.kind}{taught}"]
        if dataset is not None:
            amount = "full" if pairs.shots is None else f"{pairs.shots}shot"
            routine = {1: "", None: "-unaligned"}.get(pairs.routine, f"-routine{pairs.routine}")
            if pairs.routine is None and pairs.inference == TO_EN:
                routine += "-to-en"
            parts.append(f"{amount}{routine}")
            parts += [_slug(dataset)] if dataset != EMOJI.name else []
        if self.parallel:
            parts.append(f"{self.parallel.pairs or 'all'}pairs")
            parts.append(_slug("-".join(dict.fromkeys(map(_stem, self.parallel.sources)))))
        return "-".join([*filter(None, parts), f"seed{pairs.seed}"])

    def source(self, dataset: Dataset | None) -> str:
        """What a manifest says that it was trained on: the data set, or the sentences' files."""
        if dataset is not None:
            return dataset.name
        assert self.parallel
        return ", ".join(Path(source).name for source in self.parallel.sources)

    def delta_spec(self, starts: WarmStarts) -> DeltaSpec:
        """What the delta is: :attr:`delta`, completed by what the training begins from.

        Raises:
            XcliptError: A setting is unknown or out of range, or what it begins from is not there.
        """
        if isinstance(self.delta, DeltaSpec):
            return self.delta
        return self.delta.completed(starts.setting(self.recipe.start, self.alignment.routine))


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", _stem(name)).strip("-._")[:_LONGEST_SLUG]


def _stem(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name
