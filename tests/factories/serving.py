"""A server on the tiny backbone, in the test's own process."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.factories.deltas import store_noise
from tests.factories.tiny import workspace_in
from xclipt.model import Model, PreparedText
from xclipt.progress import Silent, Task
from xclipt.serving.app import ASGIApp, make_app
from xclipt.serving.batching import Encode, Features, Pass
from xclipt.serving.metrics import Metrics
from xclipt.serving.service import Service

CODES = (
    *(
        "ar",
        "bg",
        "bn",
        "cs",
        "da",
        "de",
        "el",
        "es",
        "et",
        "fa",
        "fi",
        "fr",
        "he",
        "hi",
        "hr",
        "hu",
    ),
    *(
        "id",
        "it",
        "ja",
        "ko",
        "lt",
        "lv",
        "nl",
        "pl",
        "pt",
        "ro",
        "ru",
        "sv",
        "th",
        "tr",
        "uk",
        "vi",
    ),
)
"""Thirty-two languages."""


class Held:
    """An encoder that waits while it is held, and remembers what it was given."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._free = threading.Event()
        self._free.set()
        self.came = threading.Event()
        self.passes: list[list[PreparedText]] = []

    def __call__(self, texts: Sequence[PreparedText]) -> Features:
        self.came.set()
        assert self._free.wait(30)
        self.passes.append(list(texts))
        return self._encode(texts)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within the block whatever is to be encoded waits."""
        self.came.clear()
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()


class Notes:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, description: str, total: int | None) -> Task:
        return Silent().start(description, total)

    def note(self, message: str) -> None:
        self.said.append(message)


@dataclass(frozen=True)
class Running:
    """A server whose clients are in the same process."""

    service: Service
    app: ASGIApp
    client: TestClient
    held: Held
    notes: Notes
    passes: list[Pass] = field(default_factory=list)

    def post(self, path: str = "/v1/embeddings", **body: Any) -> Any:
        """A request; what came back."""
        return self.client.post(path, json=body)

    def refused(self, status: int, path: str = "/v1/embeddings", **body: Any) -> dict[str, Any]:
        """A request that must be refused, in OpenAI's shape: the error."""
        response = self.post(path, **body)
        assert response.status_code == status, response.text
        return error_of(response)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.005)


def error_of(response: Any) -> dict[str, Any]:
    """The error of a response, whose shape must be OpenAI's."""
    document = response.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and "\n" not in error["message"]
    return error


@contextmanager
def serving(
    root: Path, languages: Sequence[str] = ("fr", "de"), keys: Sequence[str] = (), **settings: Any
) -> Iterator[Running]:
    """A server with a noisy delta of each language."""
    notes, metrics, passes = Notes(), Metrics(), list[Pass]()
    workspace = workspace_in(root, progress=notes)
    for seed, language in enumerate(languages, 1):
        store_noise(workspace, language, "noise", 0.3, seed=seed)
    model = Model(workspace)
    held = Held(model.encode)
    model.encode = held  # type: ignore[method-assign]

    def told(one: Pass) -> None:
        passes.append(one)
        metrics.encoded(one)

    service = Service(model, told=told, **settings)
    metrics.watch(service)
    app = make_app(service, metrics, keys)
    with TestClient(app) as client:
        try:
            yield Running(service, app, client, held, notes, passes)
        finally:
            service.stop()
