"""Every step of a training for other programs: lines of JSON, or TensorBoard's files."""

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from xclipt.errors import UsageError, XcliptError
from xclipt.training.loop import StepRecord

_EVENTS = "brain.Event:2"
"""What a file of TensorBoard's begins with."""

Listener = Callable[[StepRecord], None]


@contextmanager
def listening(log: Path | None, tensorboard: Path | None) -> Iterator[Callable[[str], Listener]]:
    """Give a function from a training's name to who is told of its steps.

    Args:
        log: A file that a line of JSON is added to for each step.
        tensorboard: A folder that each training has a run in.

    Raises:
        UsageError: A place cannot be written to, or TensorBoard is not installed.
    """
    with ExitStack() as opened:
        file = _opened(log, "log") if log else None
        if file:
            opened.callback(_close, file)
        if tensorboard:
            _require_tensorboard()

        def of(training: str) -> Listener:
            listeners: list[Listener] = []
            if file:
                listeners.append(lambda record: _write_line(file, training, record))
            if tensorboard:
                name = f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
                events = _opened(tensorboard / training.replace("/", "-") / name, "tensorboard")
                opened.callback(_close, events)
                _write_event(events, file_version=_EVENTS)
                listeners.append(lambda record: _write_scalars(events, record))
            return lambda record: _tell(listeners, record)

        yield of


def _tell(listeners: Sequence[Listener], record: StepRecord) -> None:
    for listener in listeners:
        listener(record)


def _opened(path: Path, field: str) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise UsageError(f"cannot write ({error.strerror})", field=field, value=path) from None


def _close(file: BinaryIO) -> None:
    try:
        file.close()  # what a full disk had no room for is tried again
    except OSError as error:
        raise XcliptError(f"{file.name}: cannot write ({error.strerror})") from None


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise XcliptError(f"{file.name}: cannot write ({error.strerror})") from None


def _write_line(file: BinaryIO, training: str, record: StepRecord) -> None:
    line = {"delta": training, "step": record.step} | numbers(record)
    _write(file, f"{json.dumps(line)}\n".encode())


def _write_scalars(file: BinaryIO, record: StepRecord) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [
        Summary.Value(tag=name, simple_value=value) for name, value in numbers(record).items()
    ]
    _write_event(file, step=record.step, summary=Summary(value=values))


def _write_event(file: BinaryIO, **content: Any) -> None:
    """As TensorBoard's own writer, whose thread would tell of a full disk by a traceback."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    data = io.BytesIO()
    RecordWriter(data).write(Event(wall_time=time.time(), **content).SerializeToString())
    _write(file, data.getvalue())


def numbers(record: StepRecord) -> dict[str, float]:
    """All numbers of a step by name; those of validation where there were any."""
    found = {f"loss/{name}": value for name, value in record.losses.items() if name != "cosine"}
    if "cosine" in record.losses:
        found["cosine"] = record.losses["cosine"]
    found |= {"gradient_norm": record.gradient, "learning_rate": record.learning_rate}
    if (seen := record.validation) is not None:
        found |= {"validation/mean_R@1": seen.mean_r1, "validation/MRR": seen.mrr}
        of_sentences = {"validation/cosine": seen.cosine, "validation/loss": seen.loss}
        found |= {name: figure for name, figure in of_sentences.items() if figure is not None}
    return found


def _require_tensorboard() -> None:
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except ImportError:
        raise UsageError(
            "TensorBoard is not installed: pip install 'xclipt[tensorboard]'", field="tensorboard"
        ) from None
