"""The translations that a grid's routines need, found before anything is trained."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grid import STRATEGIES, Grid
from xclipt import ArtifactDirectory, XcliptError
from xclipt.data.dataset import Dataset
from xclipt.data.splits import PAPER
from xclipt.progress import Progress
from xclipt.translation.engines.choose import open_engine
from xclipt.translation.engines.engine import EngineRequest
from xclipt.translation.lookup import look_up
from xclipt.translation.translate import KEEP, Captions, captions_to_translate, translate


@dataclass(frozen=True)
class Lacking:
    """Captions of one language that one direction lacks translations of.

    Attributes:
        captions: All that the grid needs.
        count: How many of their texts are lacking.
    """

    captions: Captions
    count: int

    def __str__(self) -> str:
        way = self.captions.direction
        return f"{way.language} {way.name}: {self.count:,} of {len(self.captions.texts()):,} texts"


def lacking(grid: Grid, dataset: Dataset, directory: ArtifactDirectory | None) -> Iterator[Lacking]:
    """What is not translated yet, by language and direction.

    What is needed is what ``xclipt translate`` takes: of the paper's split its captions, otherwise
    those of the whole data set.

    Raises:
        XcliptError: The data set does not hold what is asked, or of what is translated nothing may
            be used.
    """
    ways = {
        direction: None
        for cell in dict.fromkeys(cell.training for cell in grid.cells())
        if (direction := STRATEGIES[cell.strategy].direction(cell.language))
    }
    for way in ways:
        captions = captions_to_translate(
            dataset, way.language, way.name, PAPER if grid.split == PAPER else None, grid.shots
        )
        texts = captions.texts()
        count = len(texts)
        if directory is not None:
            found = look_up(directory, texts, way, grid.translator)
            # What the guards dropped is there, and left out, unless it shall be kept.
            count = found.missing if grid.on_bad == KEEP else len(found.absent)
            if not count and found.missing == len(texts):
                raise XcliptError(
                    f"the guards dropped all {len(texts):,} translations of '{way.language}' "
                    f"{way.name}; keep uses them, or name another engine or model",
                    field="on_bad",
                    value=grid.on_bad,
                )
        if count:
            yield Lacking(captions, count)


def command(grid: Grid, lacks: Lacking, data_dir: Path | None, artifacts: Path) -> str:
    """The command that makes them, as it is typed."""
    way = lacks.captions.direction
    options: dict[str, object] = {
        "--lang": way.language,
        "--direction": way.name,
        "--dataset": grid.dataset,
    }
    if grid.split == PAPER:
        options |= {"--split": PAPER, "--shots": grid.shots}
    options |= {"--engine": grid.engine, "--on-bad": grid.on_bad}
    if grid.model:
        options["--model"] = grid.model
    if data_dir:
        options["--data-dir"] = data_dir
    options["--artifacts"] = artifacts
    if not ArtifactDirectory.is_at(artifacts):
        options["--backbone"] = grid.backbone  # it will be made; one that is there knows its own
    words = [str(word) for option in options.items() for word in option]
    return shlex.join(["xclipt", "translate", *words])


def make(
    grid: Grid,
    lacks: Lacking,
    dataset: Dataset,
    directory: ArtifactDirectory,
    device: str,
    progress: Progress,
) -> None:
    """Translate what is lacking, here and now.

    Raises:
        XcliptError: Nothing here translates, or it failed.
    """
    captions = lacks.captions
    request = EngineRequest(grid.engine, grid.model, device=device)
    engine = open_engine(request, dataset, captions.rows, captions.source, captions.target)
    progress.note(f"{captions.source} to {captions.target} by {engine.about}")
    translate(directory, engine, captions, progress, on_bad=grid.on_bad)
