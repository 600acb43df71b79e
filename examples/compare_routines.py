"""Compare the routines and losses on photographs that are at hand, and write one table.

    python examples/compare_routines.py examples/routines_multi30k.yaml --data-dir DATA

Where the file names several weights or learning rates, each loss's are chosen on Multi30K's
validation photographs first. Then every method is trained with every seed and measured on
photographs that no delta was trained or chosen on. Stop it at any time and run it again: what is
trained is not trained again.
``OUT/table.md`` and ``OUT/results.json`` hold what is known so far. ``--only 1`` runs one method
with one seed as a trial.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from xclipt.alignment.routines import ROUTINES
from xclipt.artifacts.atomic import write_text
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.folder import FolderDataset
from xclipt.data.multi30k import Multi30kDataset, find_folder, find_photographs
from xclipt.data.pairs import picture_order
from xclipt.errors import XcliptError
from xclipt.evaluation.evaluate import evaluate
from xclipt.evaluation.evaluation import Evaluation
from xclipt.report.interchange import gain_text
from xclipt.training.recipe import Recipe, recipe_with
from xclipt.training.train import TrainingRequest, train_delta
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


class UnseenPhotographs(Dataset):
    """Multi30K's captions of photographs that are here and that the heads were not trained on.

    ``train`` and ``test`` are parts of Multi30K's own train split, ``val`` is its own.
    """

    name = "multi30k"
    splits = ("train", "val", "test")

    def __init__(self, data_dir: Path, study: Study) -> None:
        super().__init__()
        folder = find_folder(data_dir)
        if folder is None:
            raise XcliptError(f"--data-dir {data_dir}: has no multi30k")
        self._captions = Multi30kDataset(folder, find_photographs(folder))
        self.languages = self._captions.languages
        flickr8k = FolderDataset(data_dir / "flickr8k")
        unseen = {p.image for split in study.unseen_splits for p in flickr8k.captions("en", split)}
        listed = [p for p in self._captions.captions("en", "train") if p.image in unseen]
        ordered = [p.image for p in picture_order(self._here(listed), seed=0)]
        self._parts = {"train": set(ordered[: study.pool]), "test": set(ordered[study.pool :])}

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        if split == "val":
            return self._here(self._captions.captions(language, "val"))
        part = self._parts[split or "train"]
        return [p for p in self._captions.captions(language, "train") if p.image in part]

    def picture_path(self, image: str) -> Path:
        return self._captions.picture_path(image)

    def _here(self, pictures: list[CaptionedPicture]) -> list[CaptionedPicture]:
        return [p for p in pictures if self.picture_path(p.image).is_file()]


def methods(study: Study) -> list[Method]:
    """The baselines, and each routine with each loss."""
    baselines = [Method("none", None, None), Method("none", "to-en", None)]
    return baselines + [Method(r, None, loss) for r in ("1", "2", "3") for loss in study.search]


def choose(workspace: Workspace, data: Dataset, study: Study, method: Method) -> Recipe:
    """The best recipe of a method's loss by mean validation MRR over the languages."""
    probe = method if method.loss is None else Method("1", None, method.loss)
    weights = study.search[method.loss] if method.loss else [0.0]
    recipes = [
        recipe_with(
            align_loss=method.loss, align_weight=weight, learning_rate=rate, **study.changes
        )
        for weight in weights
        for rate in study.learning_rates
    ]
    if len(recipes) == 1:
        return recipes[0]
    scores = {}
    for recipe in recipes:
        deltas = [
            trained(workspace, data, study, probe, recipe, language, study.seeds[0])
            for language in study.languages
        ]
        scores[recipe] = mean(delta.manifest.validation["MRR"] for delta in deltas)
    return max(scores, key=lambda recipe: scores[recipe])


def trained(
    workspace: Workspace,
    data: Dataset,
    study: Study,
    method: Method,
    recipe: Recipe,
    language: str,
    seed: int,
) -> StoredDelta:
    """One cell: from the directory if it was made so, else trained."""
    kind = method.name.replace(" ", "").replace(",", "-")
    request = TrainingRequest(
        language=language,
        shots=study.shots,
        routine=ROUTINES[method.routine],
        text=method.text,
        seed=seed,
        recipe=recipe,
        validation_pictures=study.validate_on,
        name=f"{kind}-weight{recipe.align_weight:g}-lr{recipe.learning_rate:g}-seed{seed}",
    )
    directory, name = workspace.directory, request.delta_name()
    if (directory.delta_folder(language, name) / "manifest.yaml").is_file():
        stored = directory.delta(language, name)
        if stored.manifest.recipe == asdict(recipe):
            return stored
    workspace.progress.note(f"{language}: {name}")
    return train_delta(workspace, data, request)


def measured(
    workspace: Workspace, data: Dataset, study: Study, method: Method, seeds: list[int]
) -> tuple[Recipe, Evaluation]:
    """A method with every language and seed on the test photographs."""
    recipe = choose(workspace, data, study, method)
    deltas = {
        language: [
            trained(workspace, data, study, method, recipe, language, seed) for seed in seeds
        ]
        for language in study.languages
    }
    result = evaluate(
        workspace,
        data,
        study.languages,
        split="test",
        deltas=deltas,
        over_seeds=len(seeds) > 1,
        text="to-en",
    )
    return recipe, result


def as_markdown(
    study: Study, results: Mapping[Method, tuple[Recipe, Evaluation]], command: str
) -> str:
    """Mean R@1 of each language, their mean with its spread over seeds, and the gain."""
    first = next(iter(results.values()))[1]
    lines = [
        f"{study.shots} shots, seeds {', '.join(map(str, study.seeds))}, "
        f"{first.rows[0].n:,} test photographs, backbone `{first.backbone.id}` in {study.dtype}: "
        "mean of t2i and i2t R@1 in per cent, mean over seeds (standard deviation over seeds). The "
        "gain is over the base on the text as it is, mean over languages, with a paired 95 % "
        "bootstrap interval over photographs.",
        "",
        f"    {command}",
        "",
        "| method | weight | learning rate | "
        + " | ".join(study.languages)
        + " | mean | gain [95 %] |",
        "|---|--:|--:|" + "--:|" * (len(study.languages) + 2),
    ]
    for system in ("base", "base to-en"):
        rows = [row for row in first.rows if row.system == system]
        cells = [f"{row.mean_r1:.1f}" for row in rows]
        gain = f"{mean(row.gain.mean_r1 for row in rows if row.gain):+.1f}" if rows[0].gain else ""
        average = f"{mean(row.mean_r1 for row in rows):.1f}"
        lines.append(f"| {system} | | | {' | '.join([*cells, average, gain])} |")
    for method, (recipe, result) in results.items():
        by_language = [[r.mean_r1 for r in result.delta_rows(code)] for code in study.languages]
        over_languages = [mean(values) for values in zip(*by_language, strict=True)]
        cells = [_spread(values) for values in [*by_language, over_languages]]
        weight = f"{recipe.align_weight:g}" if method.loss else "-"
        cells.append(gain_text(result.mean_gain.gain) if result.mean_gain else "")
        lines.append(
            f"| {method.name} | {weight} | {recipe.learning_rate:g} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ({stdev(values):.1f})" if len(values) > 1 else "")


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="examples/routines_multi30k.yaml")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder to write to; out of the file without")
    parser.add_argument("--only", type=int, help="so many methods, with the first seed alone")
    given = parser.parse_args(arguments)
    try:
        try:
            study = Study(**yaml.safe_load(given.study.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, TypeError) as error:
            raise XcliptError(f"{given.study}: {str(error).splitlines()[0]}") from None
        out = given.out or Path(study.out)
        command = f"python examples/compare_routines.py {given.study} --data-dir DATA"
        results: dict[Method, tuple[Recipe, Evaluation]] = {}
        with Terminal(quiet=False) as terminal:
            data = UnseenPhotographs(given.data_dir, study)
            workspace = open_workspace(out / "artifacts", terminal, dtype=study.dtype, create=True)
            seeds = study.seeds[:1] if given.only else study.seeds
            for method in methods(study)[: given.only]:
                results[method] = measured(workspace, data, study, method, seeds)
                write_text(out / "table.md", as_markdown(study, results, command))
                documents = [
                    {"method": m.name, "recipe": asdict(recipe), **result.as_json()}
                    for m, (recipe, result) in results.items()
                ]
                write_text(out / "results.json", json.dumps(documents, indent=1) + "\n")
    except XcliptError as error:
        sys.stderr.write(f"compare_routines: {error}\n")
        return 1
    sys.stdout.write(as_markdown(study, results, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
