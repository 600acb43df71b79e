"""A server process: where it listens, who may ask, and how it stops."""

import contextlib
import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from xclipt.errors import UsageError
from xclipt.files import read_regular
from xclipt.interruption import Stopped, noticed
from xclipt.serving.app import ASGIApp

_MOST_KEYS = 2**16
_SECONDS_TO_ANSWER = 30
"""After a signal, for what was asked before it."""
_SECONDS_IDLE = 75
"""Longer than proxies keep a connection by default, so that it is they who close it."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet: a port that is taken shows before any model
    is loaded.

    Args:
        host: A name or address of this machine.
        port: 0 is any that is free.

    Raises:
        UsageError: There is no such address, or somebody else has the port.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UsageError("is no address of this machine", field="host", value=host) from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # else a restart waits for connections of the last server
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except PermissionError as error:
        bound.close()
        raise UsageError(f"cannot listen ({error.strerror})", field="port", value=port) from None
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            why = "is in use already; name another one, or 0 for any that is free"
            raise UsageError(why, field="port", value=port) from None
        raise UsageError(
            f"cannot listen there ({error.strerror})", field="host", value=host
        ) from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a client finds what listens."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_reached_from_elsewhere(bound: socket.socket) -> bool:
    """Whether other machines may reach it."""
    return not ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def read_keys(path: Path) -> list[str]:
    """Keys from a file, one a line.

    Raises:
        UsageError: It cannot be read, or has none.
    """
    try:
        lines = read_regular(path, _MOST_KEYS).decode("ascii").split()
    except OSError as error:
        raise UsageError(
            f"cannot read ({error.strerror})", field="api_key_file", value=path
        ) from None
    except UnicodeDecodeError:
        raise UsageError("keys are of ASCII", field="api_key_file", value=path) from None
    if not lines:
        raise UsageError("has no key; write one a line", field="api_key_file", value=path)
    return lines


def run(app: ASGIApp, bound: socket.socket, ready: Callable[[], None]) -> str:
    """Serve until a signal asks to stop; what was asked by then is answered.

    A second signal is not waited for.

    Args:
        app: What answers.
        bound: Where it listens.
        ready: Called when it does.

    Returns:
        The signal's name.

    Raises:
        Stopped: At the second signal.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",  # what goes wrong within the application, it tells itself
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_ANSWER,
        timeout_keep_alive=_SECONDS_IDLE,
    )
    server = _Server(config, ready)
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        server.should_exit = True
        server.force_exit = len(signals) > 1

    with noticed(stop):
        server.run([bound])
    if len(signals) > 1:
        raise Stopped(signals[-1])
    return signal.Signals(signals[0]).name if signals else ""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn would raise the signal again once it has stopped: that it has is success
