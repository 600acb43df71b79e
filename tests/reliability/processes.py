"""Commands in processes that are forked from one which has imported torch: a case costs little."""

import contextlib
import errno
import gc
import io
import multiprocessing
import os
import pickle
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.reliability import kernel

LONGEST = 120.0
"""Seconds after which a child hangs."""

Step = tuple[str, ...] | Callable[[], object]
"""A command line, or any function of no arguments that can be pickled."""


@dataclass(frozen=True)
class Fault:
    """What befalls a child.

    Attributes:
        do: A name of errno, with which a call fails, or of a signal; or ``vanish``: the artifact
            directory is moved away.
        at: At which of its write events, from 0; ``None`` where ``after`` says when.
        after: So many seconds after it began.
        lasting: All later calls that need space fail too, as on a full disk.
    """

    do: str
    at: int | None = None
    after: float = 0.0
    lasting: bool = False


@dataclass(frozen=True)
class Case:
    """What a child is to do.

    Attributes:
        steps: One after the other.
        folder: Where it works; what it writes there is counted.
        fault: What befalls it.
        environment: What is set in it.
        warm: It is for the parent to do.
    """

    steps: tuple[Step, ...]
    folder: Path
    fault: Fault | None = None
    environment: tuple[tuple[str, str], ...] = ()
    warm: bool = False


@dataclass(frozen=True)
class Done:
    """What came of one step.

    Attributes:
        code: Exit code; 0 of a function, or 99 where it raised.
        out: Standard output, or what a function gave.
        err: Standard error.
    """

    code: int
    out: Any
    err: str


@dataclass
class Ran:
    """What came of a case.

    Attributes:
        done: Of the steps that ended.
        signal: What it died of, 0 where it ended.
        events: What it did to files in its folder.
        hung: It was killed because it would not end.
        seconds: How long it took.
    """

    done: list[Done] = field(default_factory=list)
    signal: int = 0
    events: list[kernel.Event] = field(default_factory=list)
    hung: bool = False
    seconds: float = 0.0


class Forks:
    """The process that children are forked from; a context manager.

    Args:
        prepare: Called in it once.
    """

    def __init__(self, prepare: Callable[[], object]) -> None:
        self._prepare = prepare

    def __enter__(self) -> "Forks":
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._prepare), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()

    def run(self, *cases: Case) -> list[Ran]:
        """Run cases, all at once."""
        self._pipe.send(cases)
        ran: list[Ran] = self._pipe.recv()
        return ran

    def warm(self, *cases: Case) -> None:
        """Run cases in the process itself: what they import and compile, children have then."""
        self._pipe.send([replace(case, warm=True) for case in cases])
        self._pipe.recv()


def _serve(pipe: Connection, prepare: Callable[[], object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare()
    while True:
        try:
            cases: Sequence[Case] = pipe.recv()
        except EOFError:
            return
        if any(case.warm for case in cases):
            pipe.send([_warm(case) for case in cases])
            gc.collect()
            gc.freeze()  # else the first collection of a child would copy all of its memory
        else:
            pipe.send(_supervise([_Child(case) for case in cases]))


def _warm(case: Case) -> list[Done]:
    here = Path.cwd()
    os.chdir(case.folder)
    os.environ.update(case.environment)
    done = [_function(step) if callable(step) else _command(step) for step in case.steps]
    os.chdir(here)
    return done


class _Child:
    """A forked process, and what is known of it so far."""

    def __init__(self, case: Case) -> None:
        self.case, self.ran = case, Ran()
        self._root = f"{case.folder.resolve()}/"
        self._struck = False
        ours, theirs = socket.socketpair()
        self._told = os.memfd_create("told")
        self.began = time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            ours.close()
            _live(case, theirs, self._told)
        theirs.close()
        _, (self.listener,), _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        self.handle = os.pidfd_open(self.process)

    def due(self) -> float:
        """Seconds until something is to be done about it without its asking."""
        fault = self.case.fault
        timed = fault is not None and fault.at is None and not self._struck
        return self.began + (fault.after if timed and fault else LONGEST) - time.monotonic()

    def strike(self) -> None:
        """Do what is due."""
        fault = self.case.fault
        if fault is not None and fault.at is None and not self._struck:
            self._struck = True
            os.kill(self.process, getattr(signal, fault.do))
        else:
            self.ran.hung = True
            os.kill(self.process, signal.SIGKILL)

    def attend(self) -> None:
        """Answer the call that it waits at."""
        call = kernel.receive(self.listener)
        if call is None:
            return None
        try:
            event = kernel.event(call)
        except OSError:  # killed meanwhile
            return kernel.answer(self.listener, call)
        fails_with = sent = 0
        if f"{event.path}/".startswith(self._root) and not event.path.endswith(" (deleted)"):
            number, fault = len(self.ran.events), self.case.fault
            event = kernel.Event(event.kind, event.path.removeprefix(self._root))
            struck, self._struck = self._struck, self._struck or self._is_at(number)
            if fault and fault.lasting and self._struck:
                fails_with = errno.ENOSPC if event.kind in ("open", "write", "mkdir") else 0
            elif fault and self._struck and not struck:
                if fault.do == "SIGKILL":
                    return kernel.kill_amid(call)
                if fault.do == "vanish":
                    folder = self.case.folder
                    (folder / "artifacts").rename(folder / "artifacts.moved")
                sent = getattr(signal, fault.do, 0)
                fails_with = getattr(errno, fault.do, 0)
            self.ran.events.append(event)
        kernel.answer(self.listener, call, fails_with)
        if sent:  # after the call, which it would break off
            os.kill(self.process, sent)
        return None

    def _is_at(self, number: int) -> bool:
        return self.case.fault is not None and self.case.fault.at == number

    def end(self) -> Ran:
        """Take leave of it."""
        _, status = os.waitpid(self.process, 0)
        self.ran.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        with os.fdopen(self._told, "rb") as told, contextlib.suppress(EOFError, pickle.PickleError):
            told.seek(0)
            while True:
                self.ran.done.append(pickle.load(told))
        os.close(self.handle)
        os.close(self.listener)
        self.ran.seconds = time.monotonic() - self.began
        return self.ran


def _supervise(children: list[_Child]) -> list[Ran]:
    poll, living = select.poll(), {child.handle: child for child in children}
    listeners = {child.listener: child for child in children}
    for descriptor in (*living, *listeners):
        poll.register(descriptor, select.POLLIN)
    while living:
        wait = max(0.0, min(child.due() for child in living.values()))
        for descriptor, happened in poll.poll(1000 * wait):
            if descriptor in living:
                child = living.pop(descriptor)
                poll.unregister(descriptor)
                if child.listener in listeners:
                    poll.unregister(child.listener)
                    del listeners[child.listener]
                child.end()
            elif happened & select.POLLIN and descriptor in listeners:
                listeners[descriptor].attend()
            elif descriptor in listeners:  # nobody is left who could ask
                poll.unregister(descriptor)
                del listeners[descriptor]
        for child in living.values():
            if child.due() <= 0:
                child.strike()
    return [child.ran for child in children]


def _live(case: Case, supervisor: socket.socket, told: int) -> None:
    """The child's whole life."""
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(case.folder)
        os.environ.update(case.environment)
        random.seed(os.getpid())
        listener = kernel.install()
        socket.send_fds(supervisor, [b"."], [listener])
        os.close(listener)
        supervisor.close()
        for step in case.steps:
            os.write(told, pickle.dumps(_function(step) if callable(step) else _command(step)))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _command(arguments: Sequence[str]) -> Done:
    from xclipt.cli.app import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*arguments])
        except SystemExit as exit:
            code = int(exit.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def _function(function: Callable[[], object]) -> Done:
    try:
        return Done(0, function(), "")
    except Exception as error:
        return Done(99, None, f"{type(error).__name__}: {error}")


def prepared() -> None:
    """Import what commands take long to import; nothing is computed, so that forks are safe."""
    import onnx  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert
    import transformers.models.clip.modeling_clip
    import transformers.models.xlm_roberta.modeling_xlm_roberta  # noqa: F401

    import xclipt.cli.app
    import xclipt.evaluation.evaluate
    import xclipt.export.formats
    import xclipt.export.importing
    import xclipt.model
    import xclipt.report.html
    import xclipt.report.plots
    import xclipt.search.answer
    import xclipt.training.train
    import xclipt.translation.translate
    import xclipt.verify  # noqa: F401

    torch.set_num_threads(1)
    sys.stdout.flush()
