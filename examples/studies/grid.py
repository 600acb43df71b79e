"""What a grid's YAML file asks for: its cells, and the trainings that they come down to."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study import plain_name, read_study
from xclipt import AlignmentRequest, PartialSpec, Recipe, TrainingRequest, XcliptError, recipe_with
from xclipt.alignment.routines import (
    ROUTINES,
    TARGET,
    TO_EN,
    inference_text,
    translated_direction,
)
from xclipt.data.splits import PAPER
from xclipt.languages import resolve
from xclipt.training.losses import ALIGNMENTS
from xclipt.training.recipe import RECIPES, Preset
from xclipt.translation.store import Direction


@dataclass(frozen=True)
class Strategy:
    """A routine, and the text that it is searched with."""

    routine: int | None
    text: str

    def direction(self, language: str) -> Direction | None:
        """What it needs translated; ``None`` where human captions are all."""
        return translated_direction(self.routine, self.text, language)


BASELINES = {TARGET: "none", TO_EN: "none to-en"}
"""The strategies that align nothing, by their text: the paper's baselines 1 and 2."""

STRATEGIES = {
    **{name: Strategy(None, text) for text, name in BASELINES.items()},
    **{name: Strategy(r, inference_text(r)) for name, r in ROUTINES.items() if r is not None},
}
"""Strategies by the name that a grid's ``routines`` calls them."""


def preset(name: str) -> Preset:
    """xclipt's recipe of that name, with the settings of the delta that go with it.

    Raises:
        XcliptError: There is none.
    """
    if name not in RECIPES:
        raise XcliptError(f"choose {', '.join(RECIPES)}", field="recipe", value=name)
    return RECIPES[name]


@dataclass(frozen=True)
class Label:
    """A row of the table. Without rate, loss and weight it is the best of those that there are."""

    kind: str
    strategy: str
    learning_rate: float | None = None
    align_loss: str | None = None
    align_weight: float | None = None

    @property
    def baseline(self) -> "Label":
        """The row that it is compared with: the same text, aligned with nothing."""
        text = STRATEGIES[self.strategy].text
        return Label(self.kind, BASELINES[text], self.learning_rate)


@dataclass(frozen=True)
class Cell:
    """One point of a grid, in one language and with one seed: a command of the paper's scripts."""

    kind: str
    strategy: str
    language: str
    learning_rate: float
    align_loss: str | None
    align_weight: float | None
    seed: int

    @property
    def training(self) -> "Cell":
        """What is trained for it: cells that differ only in what has no effect have the same.

        Baselines ignore loss and weight. English has no other English to be aligned with or
        translated into: it is trained as baseline 1.
        """
        strategy = BASELINES[TARGET] if self.language == "en" else self.strategy
        if STRATEGIES[strategy].routine is not None:
            return self
        return replace(self, strategy=strategy, align_loss=None, align_weight=None)

    @property
    def point(self) -> Label:
        """What its trainings of all seeds have in common."""
        return Label(
            self.kind, self.strategy, self.learning_rate, self.align_loss, self.align_weight
        )

    @property
    def name(self) -> str:
        """The delta's."""
        routine = self.strategy
        aligned = ""
        if STRATEGIES[routine].routine is not None:
            routine, aligned = f"routine{routine}", f"-{self.align_loss}{self.align_weight:g}"
        parts = (self.kind, plain_name(routine), f"lr{self.learning_rate:g}{aligned}")
        return "-".join((*parts, f"seed{self.seed}"))


_AXES: Mapping[str, Callable[[Any], Any]] = {
    "languages": lambda code: resolve(str(code)),
    "routines": str,
    "learning_rates": float,
    "lambdas": float,
    "align_losses": str,
    "seeds": int,
}


def _values(field: str, given: Any, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise XcliptError("must be a list of one at least", field=field, value=given)
    try:
        return tuple(map(kind, given))
    except (TypeError, ValueError):
        raise XcliptError("must be a list of numbers", field=field, value=given) from None


@dataclass(frozen=True)
class Grid:
    """A grid's YAML file. Each list is one axis.

    Attributes:
        deltas: Kinds with their settings.
        out: Folder for the tables.
        artifacts: The artifact directory, ``OUT/artifacts`` without. Grids that share one share
            deltas too: what another has trained is not trained again.
        split: To train on: ``paper``, one of the data set's own, or its ``train``.
        recipe: The name of one of xclipt's, with ``changes`` to fields of it.
        routines: Names in :data:`STRATEGIES`.
        lambdas: Weights of the alignment loss; they and ``align_losses`` matter to routines that
            align. Without ``align_losses`` it is the recipe's own.
        every_point: Measure every learning rate, loss and lambda in a row of its own, as the
            paper's scripts do. Without, each language's best on validation is taken.
        test_split: To measure on; without, what the paper's split leaves for that, else ``test``.
        test_limit: At most so many pictures of it.
        engine: What translates, and whose translations are used: as ``xclipt translate`` has it.
        model: The same of its model.
        on_bad: The same of translations that its guards find fault with.
    """

    backbone: str
    dataset: str
    languages: tuple[str, ...]
    deltas: list[dict[str, Any]]
    out: str
    artifacts: str | None = None
    split: str | None = None
    shots: int | None = 50
    validation_pictures: int | None = None
    allow_missing: bool = False
    recipe: str = "paper"
    changes: dict[str, Any] | None = None
    routines: tuple[str, ...] = ("none", "1")
    learning_rates: tuple[float, ...] = (1e-4,)
    lambdas: tuple[float, ...] = (0.03,)
    align_losses: tuple[str, ...] | None = None
    every_point: bool = False
    seeds: tuple[int, ...] = (1,)
    test_split: str | None = None
    test_limit: int | None = None
    engine: str = "auto"
    model: str | None = None
    on_bad: str = "drop"

    def __post_init__(self) -> None:
        # YAML takes 1 for a number and 5e-5 for a text.
        for field, kind in _AXES.items():
            given = getattr(self, field)
            if given is not None:
                object.__setattr__(self, field, _values(field, given, kind))
        for field, choices in (("routines", STRATEGIES), ("align_losses", ALIGNMENTS)):
            if wrong := [name for name in getattr(self, field) or () if name not in choices]:
                raise XcliptError(f"choose of {', '.join(choices)}", field=field, value=wrong[0])
        self.specs()

    @classmethod
    def read(cls, path: Path) -> "Grid":
        """Parse a file.

        Raises:
            XcliptError: It cannot be read, or an entry is unknown, missing or out of range.
        """
        return read_study(path, lambda plain: cls(**plain))

    @property
    def translator(self) -> str | None:
        """Whose translations are used; ``None`` is whoever made most of them."""
        return self.model or (None if self.engine == "auto" else self.engine)

    @property
    def measured_split(self) -> str | None:
        """The split to measure on."""
        return self.test_split or (PAPER if self.split == PAPER else None)

    def specs(self, beside: Preset | None = None) -> dict[str, PartialSpec]:
        """The delta kinds with their settings, by a name that tells them apart.

        Args:
            beside: Has settings that the file need not name.
        """
        named = {}
        for entry in self.deltas:
            own = {key: value for key, value in entry.items() if key != "kind"}
            parts = [f"{key[:1]}{value}" for key, value in own.items()]
            unnamed = beside.settings(entry["kind"]) if beside else {}
            spec = PartialSpec(entry["kind"], {**unnamed, **own})
            named["-".join([entry["kind"], *parts])] = spec
        return named

    def cells(self) -> list[Cell]:
        """All of them, by row, language and point."""
        return [
            Cell(*axes)
            for axes in itertools.product(
                self.specs(),
                self.routines,
                self.languages,
                self.learning_rates,
                self.align_losses or (preset(self.recipe).recipe.align_loss,),
                self.lambdas,
                self.seeds,
            )
        ]

    def rows(self) -> dict[Label, list[Cell]]:
        """The trainings behind each row of the table; languages' baselines may be in several."""
        rows: dict[Label, dict[Cell, None]] = defaultdict(dict)
        for cell in self.cells():
            label = Label(cell.kind, cell.strategy)
            if self.every_point:
                aligns = STRATEGIES[cell.strategy].routine is not None
                label = cell.point
                label = label if aligns else replace(label, align_loss=None, align_weight=None)
            rows[label][cell.training] = None
        return {label: list(cells) for label, cells in rows.items()}

    def trainings(self) -> dict[Cell, TrainingRequest]:
        """What is trained, each training once.

        Raises:
            XcliptError: There is no such recipe, or it does not go with what it is given.
        """
        chosen = preset(self.recipe)
        specs = self.specs(chosen)
        return {
            cell: self._request(cell, chosen.recipe, specs[cell.kind])
            for cell in dict.fromkeys(cell for cells in self.rows().values() for cell in cells)
        }

    def _request(self, cell: Cell, recipe: Recipe, spec: PartialSpec) -> TrainingRequest:
        strategy = STRATEGIES[cell.strategy]
        changes: dict[str, Any] = {
            "learning_rate": cell.learning_rate,
            "align_loss": cell.align_loss,
            "align_weight": cell.align_weight,
            **(self.changes or {}),
        }
        return TrainingRequest(
            AlignmentRequest(
                cell.language,
                self.shots,
                strategy.routine,
                text=strategy.text,
                seed=cell.seed,
                split=self.split,
                allow_missing=self.allow_missing,
                translator=self.translator if strategy.direction(cell.language) else None,
            ),
            spec,
            recipe_with(recipe, **changes),
            name=cell.name,
            validation_pictures=self.validation_pictures,
        )
