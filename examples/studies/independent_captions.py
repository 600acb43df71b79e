"""What sentence pairs teach for captions that are no translations; some minutes.

    python examples/studies/independent_captions.py examples/studies/text_alone.yaml --data-dir DATA

xFlickrCO's German captions were written for the photographs, and the photographs are in Multi30K's
training split too, whose German captions are translations. The German deltas that text_alone.py
trained and measured, those in ``OUT``, find the same photographs by captions of both kinds: all of
them, and of these the ones that the study kept aside. ``OUT/independent_captions.jsonl.gz`` and
``OUT/independent.md`` hold what was found; ``--raw`` makes the tables of such figures anew.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from photographs import first_captions
from study import (
    Cells,
    Plain,
    figures,
    outcome,
    read_study,
    require_rows,
    study_parser,
)
from text_alone import BASE, ENGLISH, Measured, Study, as_markdown, cells_of, hits, kept_aside
from xclipt.artifacts.directory import StoredDelta
from xclipt.cli.terminal import Terminal
from xclipt.data.registry import open_dataset
from xclipt.errors import XcliptError
from xclipt.files import write_text
from xclipt.workspace import Workspace, open_workspace

LANGUAGE = "de"
"""The only one with captions of both kinds and with sentence pairs."""

Captions = Mapping[str, Mapping[str, str]]
"""Of a language, of a photograph: a caption."""


@dataclass(frozen=True)
class Found:
    """What a delta, or the base, found.

    Attributes:
        photographs: Which, and by which captions; among all of them, whichever they are.
        measured: The figures.
    """

    photographs: str
    measured: Measured

    @classmethod
    def parse(cls, plain: Plain) -> "Found":
        """A line of raw figures."""
        return cls(plain["photographs"], Measured(**plain["measured"]))


def run(options: Namespace, study: Study) -> list[Found]:
    """Measure the frozen base and those of the study's German deltas that it has measured."""
    translated = open_dataset(study.dataset, options.data_dir)
    written = open_dataset("xflickrco", options.data_dir)
    kinds: dict[str, Captions] = {
        kind: {code: first_captions(dataset, code, split) for code in ("en", LANGUAGE)}
        for kind, dataset, split in (
            ("written for them", written, None),
            ("translated from English", translated, "train"),
        )
    }
    shared = sorted(set.intersection(*(set(c) for kind in kinds.values() for c in kind.values())))
    pictures = {image: written.picture_path(image) for image in shared}
    aside = frozenset(kept_aside(translated, study.aside))
    cells: Cells[Measured] = Cells(options.out / "cells", lambda plain: Measured(**plain))
    known = [
        cell
        for cell in cells_of(study, options.rows or [*study.rows], [LANGUAGE])
        if cells.has(cell.name)
    ]
    if not known:
        raise XcliptError(f"{options.out}: no German delta was measured; run text_alone.py first")
    with Terminal(quiet=False) as terminal:
        workspace = open_workspace(options.out / "artifacts", terminal)
        found = [
            *_found(workspace, pictures, kinds, aside, Measured(ENGLISH, "en", 0, 0, 0, 0.0, [])),
            *_found(workspace, pictures, kinds, aside, Measured(BASE, LANGUAGE, 0, 0, 0, 0.0, [])),
        ]
        for cell, measured in zip(known, cells.read([c.name for c in known]), strict=True):
            terminal.note(cell.name)
            delta = workspace.directory.delta(LANGUAGE, cell.name)
            found += _found(workspace, pictures, kinds, aside, measured, delta)
    return found


def _found(
    workspace: Workspace,
    pictures: Mapping[str, Path],
    kinds: Mapping[str, Captions],
    aside: frozenset[str],
    measured: Measured,
    delta: StoredDelta | None = None,
) -> Iterator[Found]:
    for kind, captions in kinds.items():
        texts = [captions[measured.language][image] for image in pictures]
        every = hits(workspace, [*pictures.values()], texts, measured.language, delta)
        few = [hit for hit, image in zip(every, pictures, strict=True) if image in aside]
        yield Found(f"photographs, by captions {kind}", replace(measured, hits=every))
        yield Found(f"photographs kept aside, by captions {kind}", replace(measured, hits=few))


def as_tables(found: list[Found]) -> str:
    """A table for each kind of photographs and captions."""
    return "\n".join(
        as_markdown([one.measured for one in found if one.photographs == photographs], photographs)
        for photographs in dict.fromkeys(one.photographs for one in found)
    )


def main() -> int:
    """Run the study, or make its tables from raw figures."""
    parser = study_parser(__doc__, "text_alone.yaml", "text-alone")
    parser.add_argument("--rows", type=lambda text: text.split(","), help="only these rows")
    options = parser.parse_args()

    def tables() -> str:
        study = read_study(options.study, Study.parse)
        require_rows(options.study, options.rows, study.rows)
        kept = options.out / "independent_captions.jsonl.gz"
        found = figures(options.raw, Found.parse, lambda: run(options, study), kept)
        markdown = as_tables(found)
        write_text(options.out / "independent.md", markdown)
        return markdown

    return outcome("independent_captions.py", tables)


if __name__ == "__main__":
    sys.exit(main())
