"""What the user sees: tables on stdout, progress and remarks on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as RichTask
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from xclipt.cli.listing import Listing
from xclipt.cli.wording import worded
from xclipt.printable import visible, visible_lines
from xclipt.progress import Forecast, Lines, Silent, Task, rate

if TYPE_CHECKING:
    from xclipt.artifacts.manifest import DeltaManifest


class _Console(Console):
    """Whatever is drawn on it, what steers a terminal is spelt out."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(visible_lines(text), style)


class Terminal:
    """Progress bars and remarks on stderr; where it is no terminal, a line now and then for bars.

    Used as a context manager, so that bars are taken off the screen however the command ends.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = _Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            _Count(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def start(self, description: str, total: int | None) -> Task:
        """A new bar, one that swings where nobody knows how long; none for what is done already."""
        if total == 0:
            return Silent().start(description, total)
        if not self._quiet and not self._console.is_terminal:
            return Lines(self.note).start(description, total)
        bar = self._bars.add_task(description, total=total, detail="")
        return _Bar(self._bars, bar, Forecast(self.note, description, total) if total else None)

    def note(self, message: str) -> None:
        """One line on stderr."""
        if not self._quiet:
            self._console.print(visible(worded(message)), markup=False)


class _Count(MofNCompleteColumn):
    """Steps that are done, where it is known of how many."""

    def render(self, task: RichTask) -> Text:
        return super().render(task) if task.total else Text("")


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: RichTask) -> Text:
        return Text(rate(task.finished_speed or task.speed))


class _Bar:
    def __init__(self, bars: Bars, task: TaskID, forecast: Forecast | None) -> None:
        self._bars = bars
        self._task = task
        self._forecast = forecast
        self._done = 0

    def advance(self, steps: int = 1, detail: str = "") -> None:
        self._bars.advance(self._task, steps)
        self._done += steps
        if self._forecast:
            self._forecast.reached(self._done)
        if detail:
            self._bars.update(self._task, detail=detail)

    def finish(self) -> None:
        if self._task in self._bars.task_ids:  # told twice where an error ends it
            self._bars.remove_task(self._task)


@contextmanager
def loading_libraries(quiet: bool) -> Iterator[None]:
    """Shows in a terminal that something goes on while what commands need is imported.

    torch and its like take seconds, before anything else can be shown.
    """
    with Terminal(quiet) as terminal:
        terminal.start("Loading libraries", None)
        yield


def print_json(document: Mapping[str, Any]) -> None:
    """The command's one JSON document, on stdout."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    # A name that is no UTF-8 can't be written; JSON has an escape for it.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    sys.stdout.write(f"{text}\n")


def print_table(table: Table | Listing) -> None:
    """A table on stdout, as wide as the terminal, or as it needs when there is none."""
    console = _Console(highlight=False)
    if isinstance(table, Listing):
        for line in table.lines(console.width if console.is_terminal else None):
            print_line(line)
        return
    if not console.is_terminal:
        room = console.options.update(max_width=10_000)
        console.width = max(200, console.measure(table, options=room).maximum)
    console.print(table)


def print_widest(*tables: Table, last: Listing) -> None:
    """Of tables that say the same, the first that the terminal is wide enough for, or the last."""
    console = _Console(highlight=False)
    room = console.options.update(max_width=10_000)
    for table in tables:
        if not console.is_terminal or console.measure(table, options=room).maximum <= console.width:
            print_table(table)
            return
    print_table(last)
    print_line("")


def delta_table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Listing:
    """A table of deltas: its columns of text, the first two of which name it, and of figures."""
    return Listing(title, texts[:2], texts[2:], numbers)


def print_line(line: str, red: str = "") -> None:
    """One line on stdout; the terminal breaks it, so that what is copied from it is whole.

    Args:
        line: The text.
        red: What stands before it, in red where there are colours.
    """
    if red:
        _Console(highlight=False).print(Text(red, "red"), end="")
    sys.stdout.write(f"{visible(line)}\n")


def print_link(before: str, text: str, link: str, after: str = "") -> None:
    """One line on stdout, in which ``text`` opens ``link`` on a click, in terminals that can."""
    line = Text(before).append(visible(text), style=f"link {link}").append(after)
    _Console(highlight=False).print(line, soft_wrap=True)


def size(count: int) -> str:
    """Bytes as a person reads them: ``664 kB``."""
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB"


def size_cells(parameters: int, percent: float, count: int) -> tuple[str, str, str]:
    """Parameters, their share of the text tower's, and the file's size from its bytes."""
    share = f"{percent:.3f} %" if percent >= 0.001 else f"{percent:.2g} %"
    return f"{parameters:,}", share, size(count)


def kept_cell(manifest: "DeltaManifest") -> str:
    """Which step's weights were kept: ``12 of 40``, ``start``, or ``all 40``."""
    if manifest.kept_start:
        return "start"
    step = manifest.validation.get("step")
    return f"{step} of {manifest.steps}" if step is not None else f"all {manifest.steps}"


def validation_cells(validation: Mapping[str, Any]) -> tuple[str, str]:
    """Mean R@1 of the base and of the delta on the validation pictures, ``-`` without any."""
    if "mean_R@1" not in validation:
        return "-", "-"
    return f"{validation['base_mean_R@1']:.1f}", f"{validation['mean_R@1']:.1f}"
