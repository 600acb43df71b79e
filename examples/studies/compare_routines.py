"""Compare the routines and losses on photographs that are at hand, in one table; an hour.

    python examples/studies/compare_routines.py STUDY --data-dir DATA

where STUDY is ``examples/studies/routines_multi30k.yaml``. Where that names several weights or
learning rates, each loss's are chosen on Multi30K's validation photographs first. Then every method
is trained with every seed and measured on photographs that no delta was trained or chosen on. Stop
it at any time and run it again: what is trained is not trained again. ``OUT/routines.jsonl.gz`` and
``OUT/table.md`` hold what is known so far; ``--raw`` makes the table of such figures anew. ``--only
1`` runs one method with one seed as a trial.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from photographs import Parts, at_hand, unseen_parts
from study import (
    Plain,
    outcome,
    read_figures,
    read_study,
    study_parser,
    table,
    trained,
    with_interval,
    write_figures,
)
from xclipt.alignment.build import AlignmentRequest
from xclipt.alignment.routines import ROUTINES, TO_EN
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.registry import open_dataset
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.queries import EvaluationRequest
from xclipt.files import write_text
from xclipt.training.recipe import Recipe, recipe_with
from xclipt.training.request import TrainingRequest
from xclipt.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class Study:
    """The YAML file."""

    languages: list[str]
    shots: int
    seeds: list[int]
    unseen_splits: list[str]
    pool: int
    validate_on: int
    dtype: str
    changes: dict[str, Any]
    search: dict[str, list[float]]
    learning_rates: list[float]
    out: str

    def photographs(self, data_dir: Path) -> Parts:
        """Those of Multi30K that are here and that heads and start were not trained on."""
        whole = open_dataset("multi30k", data_dir)
        val = [p.image for p in at_hand(whole, whole.captions("en", "val"))]
        parts = unseen_parts(whole, data_dir, self.unseen_splits, self.pool)
        return Parts(whole, parts | {"val": val})


@dataclass(frozen=True)
class Method:
    """A row of the table. ``loss`` is ``None`` for the baselines."""

    routine: str
    text: str | None
    loss: str | None

    @property
    def name(self) -> str:
        """As the table calls it."""
        if self.loss is None:
            return "baseline 2" if self.text else "baseline 1"
        return f"routine {self.routine}, {self.loss}"


def methods(study: Study) -> list[Method]:
    """The baselines, and each routine with each loss."""
    baselines = [Method("none", None, None), Method("none", TO_EN, None)]
    return baselines + [Method(r, None, loss) for r in ("1", "2", "3") for loss in study.search]


@dataclass(frozen=True)
class Trainer:
    """Trains a method's deltas, or takes them from the directory."""

    workspace: Workspace
    data: Parts
    study: Study

    def measured(self, method: Method, seeds: Sequence[int]) -> Plain:
        """A method with every language and seed on the test photographs, as the results hold it."""
        recipe = self._choose(method)
        languages = self.study.languages
        deltas = {code: [self._delta(method, recipe, code, s) for s in seeds] for code in languages}
        request = EvaluationRequest(
            languages, split="test", deltas=deltas, over_seeds=len(seeds) > 1, text=TO_EN
        )
        result = evaluate(self.workspace, self.data, request)
        return {"method": method.name, "recipe": asdict(recipe), **result.as_json()}

    def _choose(self, method: Method) -> Recipe:
        # The best by mean validation MRR over the languages.
        study = self.study
        probe = method if method.loss is None else Method("1", None, method.loss)
        recipes = [
            recipe_with(
                align_loss=method.loss, align_weight=weight, learning_rate=rate, **study.changes
            )
            for weight in (study.search[method.loss] if method.loss else [0.0])
            for rate in study.learning_rates
        ]

        def score(recipe: Recipe) -> float:
            deltas = [self._delta(probe, recipe, code, study.seeds[0]) for code in study.languages]
            return mean(float(delta.manifest.validation["MRR"]) for delta in deltas)

        return recipes[0] if len(recipes) == 1 else max(recipes, key=score)

    def _delta(self, method: Method, recipe: Recipe, language: str, seed: int) -> StoredDelta:
        study = self.study
        kind = method.name.replace(" ", "").replace(",", "-")
        pairs = AlignmentRequest(
            language, study.shots, ROUTINES[method.routine], text=method.text, seed=seed
        )
        request = TrainingRequest(
            pairs,
            recipe=recipe,
            name=f"{kind}-weight{recipe.align_weight:g}-lr{recipe.learning_rate:g}-seed{seed}",
            validation_pictures=study.validate_on,
        )
        return trained(self.workspace, self.data, request)


def as_markdown(study: Study, results: Sequence[Plain], command: str) -> str:
    """Mean R@1 of each language, their mean with its spread over seeds, and the gain."""
    first = results[0]
    header = ["method", "weight", "learning rate", *study.languages, "mean", "gain [95 %]"]
    rows = [
        _base_row("base", [row for row in first["rows"] if row["delta"] is None]),
        _base_row("base to-en", first["base_to_en"]),
        *(_method_row(result, study.languages) for result in results),
    ]
    lines = [
        f"{study.shots} shots, seeds {', '.join(map(str, study.seeds))}, "
        f"{first['rows'][0]['n']:,} test photographs, backbone `{first['backbone']['id']}` in "
        f"{study.dtype}: mean of t2i and i2t R@1 in per cent, mean over seeds (standard deviation "
        "over seeds). The gain is over the base on the text as it is, mean over languages, with a "
        "paired 95 % bootstrap interval over photographs.",
        "",
        f"    {command}",
        "",
        *table(header, rows),
    ]
    return "\n".join(lines) + "\n"


def _base_row(name: str, rows: Sequence[Plain]) -> list[str]:
    figures = [row["mean_R@1"] for row in rows]
    gains = [row["gain"]["mean_R@1"] for row in rows if "gain" in row]
    cells = [f"{figure:.1f}" for figure in [*figures, mean(figures)]]
    return [name, "", "", *cells, f"{mean(gains):+.1f}" if gains else ""]


def _method_row(result: Plain, languages: Sequence[str]) -> list[str]:
    recipe, gain = result["recipe"], result["mean_gain"]
    by_language = [
        [row["mean_R@1"] for row in result["rows"] if row["language"] == code and row["delta"]]
        for code in languages
    ]
    over_languages = [mean(values) for values in zip(*by_language, strict=True)]
    return [
        result["method"],
        # The baselines align nothing.
        f"{recipe['align_weight']:g}" if recipe["align_weight"] else "-",
        f"{recipe['learning_rate']:g}",
        *(_spread(values) for values in [*by_language, over_languages]),
        with_interval(gain["mean_R@1"], gain["ci95"], "+z.1f"),
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ({stdev(values):.1f})" if len(values) > 1 else "")


def run(given: Namespace) -> str:
    """Measure method by method, and write results and table after each.

    Raises:
        XcliptError: The study or its data cannot be used.
    """
    study = read_study(given.study, lambda plain: Study(**plain))
    out = given.out or Path(study.out)
    command = f"python examples/studies/compare_routines.py {given.study} --data-dir DATA"
    if given.raw:
        text = as_markdown(study, read_figures(given.raw, dict), command)
        write_text(out / "table.md", text)
        return text
    results: list[Plain] = []
    with Terminal(quiet=False) as terminal:
        workspace = open_workspace(out / "artifacts", terminal, dtype=study.dtype, create=True)
        trainer = Trainer(workspace, study.photographs(given.data_dir), study)
        for method in methods(study)[: given.only]:
            results.append(trainer.measured(method, study.seeds[: 1 if given.only else None]))
            write_figures(out / "routines.jsonl.gz", results)
            text = as_markdown(study, results, command)
            write_text(out / "table.md", text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = study_parser(__doc__, "routines_multi30k.yaml", None)
    parser.add_argument("--only", type=int, help="so many methods, with the first seed alone")
    given = parser.parse_args(arguments)
    return outcome("compare_routines", lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
