"""What the user is told of long work: about how long, how far, and nothing of what is short."""

import contextlib
import io
from typing import Any

import pytest

from xclipt import progress
from xclipt.cli.terminal import Terminal, loading_libraries
from xclipt.progress import Lines, Silent, Whole, duration


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def work(self, task: Any, steps: int, each: float, detail: str = "") -> None:
        for _ in range(steps):
            self.now += each
            task.advance(1, detail)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "5 s"), (42, "40 s"), (58, "1 min"), (330, "6 min"), (3600, "1 h"), (7900, "2 h 10 min")],
)
def test_durations_are_said_roughly(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_lines_say_about_how_long_as_soon_as_it_shows(clock: Clock) -> None:
    told: list[str] = []
    task = Lines(told.append).start("Training French", 100)
    clock.work(task, 1, 7.0)  # the first step warms up, and counts for nothing
    assert told == []
    clock.work(task, 2, 1.0)
    assert told == ["Training French: about 2 min"]
    clock.work(task, 20, 1.0, "val R@1 20.0 %")
    assert [line.split(",")[0] for line in told[1:]] == [
        "Training French: 13 of 100",
        "Training French: 23 of 100",
    ]
    assert told[1].endswith("val R@1 20.0 %, 0.7/s, 127 s left")


def test_short_work_is_not_told_of(clock: Clock) -> None:
    told: list[str] = []
    task = Lines(told.append).start("Encoding captions", 6)
    clock.work(task, 6, 1.5)
    assert told == []
    assert isinstance(Lines(told.append).start("Loading", None), type(Silent().start("", 1)))


def test_parts_are_one_piece_of_work(clock: Clock) -> None:
    """Also where a part was done before and tells nothing."""
    told: list[str] = []
    whole = Whole(Lines(told.append), "Encoding captions", 400)
    part = whole.start("Encoding captions", 100)
    clock.work(part, 3, 1.0)
    part.advance(97)
    part.finish()
    whole.end_part(100)
    assert told == ["Encoding captions: about 7 min"]
    whole.end_part(100)
    whole.start("Encoding captions", 50).advance(50)
    whole.end_part(100)
    clock.now += 10
    whole.start("Encoding captions", 100).advance(1)
    assert told[-1].startswith("Encoding captions: 301 of 400")
    whole.note("as it is")
    assert told[-1] == "as it is"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_parts_that_were_all_done_before_are_no_work(clock: Clock) -> None:
    started: list[str] = []

    class Listening(Silent):
        def start(self, description: str, total: int | None) -> Any:
            started.append(f"{description} {total}")
            return super().start(description, total)

    whole = Whole(Listening(), "Encoding captions", 200)
    whole.end_part(100)
    assert started == []
    whole.start("Encoding captions", 40)
    whole.start("Encoding captions", 60)
    whole.end_part(100)
    whole.finish()
    assert started == ["Encoding captions 200"]


def on_screen(monkeypatch: pytest.MonkeyPatch) -> _Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return _Screen()


def test_a_terminal_shows_at_once_that_libraries_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with contextlib.redirect_stderr(on_screen(monkeypatch)) as screen:
        with loading_libraries(False):
            assert "Loading libraries" in screen.getvalue()
        before = screen.getvalue()
        with loading_libraries(True):
            pass
        assert screen.getvalue() == before
    with contextlib.redirect_stderr(io.StringIO()) as pipe, loading_libraries(False):
        pass
    assert pipe.getvalue() == ""


def test_a_terminal_says_about_how_long_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with contextlib.redirect_stderr(on_screen(monkeypatch)) as screen, Terminal(False) as terminal:
        swinging = terminal.start("Loading the backbone", None)
        task = terminal.start("Encoding pictures", 100)
        clock.work(task, 4, 1.0)
        swinging.finish()
        swinging.finish()
        task.finish()
    assert screen.getvalue().count("Encoding pictures: about 2 min") == 1
    assert "0/?" not in screen.getvalue() and "/None" not in screen.getvalue()
