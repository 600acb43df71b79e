"""The service over HTTP, in the shapes that OpenAI's clients send and expect."""

import asyncio
import base64
import hmac
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.exceptions import HTTPException

from xclipt import __version__
from xclipt.model import PreparedText
from xclipt.serving.batching import Features
from xclipt.serving.metrics import Metrics
from xclipt.serving.service import RefusedError, Service

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
ASGIApp = Callable[[_Message, _Receive, _Send], Awaitable[None]]
"""An application as every server of Python's takes it."""

_HEALTH = "/healthz"
_READ_ON = 8
"""A body that is too large is read on up to so many times the limit: a client that is still sending
would not hear why it is refused."""


_FEW = 64
"""Texts whose features are written at once."""
_FAILED = RefusedError(500, "the server failed: its log says how", "unexpected")


class _Asked(BaseModel):
    """What every request may say of its texts. An unknown field is refused: it may be mistyped."""

    model_config = ConfigDict(extra="forbid")

    language: str | list[str | None] | None = Field(
        None, description="A code or `auto`, for all or one per text; the server's default without."
    )
    fallback: Literal["error", "base"] | None = Field(
        None, description="What is done for a language without a delta."
    )
    truncate: bool = Field(False, description="Take the beginning of texts that are too long.")


def _as_texts(value: Any) -> Any:
    numbers = value[0] if isinstance(value, list) and value else value
    if isinstance(numbers, int) or (
        isinstance(numbers, list) and numbers and isinstance(numbers[0], int)
    ):
        raise ValueError("token ids are those of another model's tokenizer; send the text itself")
    return [value] if isinstance(value, str) else value


_STRING = {"type": "string"}
_Texts = Annotated[
    list[str],
    BeforeValidator(_as_texts),
    WithJsonSchema({"anyOf": [_STRING, {"type": "array", "items": _STRING}]}),
]


class EmbeddingsRequest(_Asked):
    """The body of ``POST /v1/embeddings``; `language`, `fallback` and `truncate` are our own."""

    input: _Texts = Field(description="A text, or several.")
    model: str | None = Field(None, description="The backbone's name, as /v1/models lists it.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Nothing but the backbone's own width.")
    user: str | None = Field(None, description="Taken, as of any client, and not used.")


class SearchRequest(_Asked):
    """The body of ``POST /search``."""

    query: _Texts = Field(description="What the picture shows: a text, or several.")
    top: int = Field(5, ge=1, description="Pictures for each query.")


def make_app(service: Service, metrics: Metrics, keys: Collection[str] = ()) -> ASGIApp:
    """The application.

    Args:
        service: Answers.
        metrics: Counts.
        keys: Who asks must have one of them, if there are any.
    """
    app = FastAPI(title="xclipt", version=__version__, docs_url=None, redoc_url=None)

    @app.post("/v1/embeddings")
    async def embeddings(asked: EmbeddingsRequest) -> Response:
        if asked.model not in (None, service.name):
            raise RefusedError(
                404,
                f"the model '{asked.model}' is not here; there is '{service.name}'",
                "model_not_found",
                "model",
            )
        dim = service.model.dim
        if asked.dimensions not in (None, dim):
            raise RefusedError(
                400,
                f"features have {dim} dimensions, and a part of them means little; leave it out",
                "dimensions",
                "dimensions",
            )
        prepared = await run_in_threadpool(
            service.prepare,
            asked.input,
            asked.language,
            asked.fallback,
            truncate=asked.truncate,
        )
        features = await _encoded(service, prepared)
        if len(prepared) <= _FEW:
            return _embeddings(service, asked, prepared, features)
        # Of a thousand texts it takes a while, in which others want to be heard.
        return await run_in_threadpool(_embeddings, service, asked, prepared, features)

    @app.post("/search")
    async def search(asked: SearchRequest) -> Response:
        service.require_pictures(len(asked.query), asked.top)
        prepared = await run_in_threadpool(
            service.prepare,
            asked.query,
            asked.language,
            asked.fallback,
            param="query",
            truncate=asked.truncate,
        )
        features = await _encoded(service, prepared)
        found = await run_in_threadpool(service.search, features, asked.top)
        return _json(
            {
                "object": "list",
                "model": service.name,
                "queries": [
                    {"query": text, **_how(one), "results": hits}
                    for text, one, hits in zip(asked.query, prepared, found, strict=True)
                ],
            }
        )

    @app.get("/v1/models")
    async def models() -> Response:
        identity = service.model.workspace.backbone.identity
        return _json(
            {
                "object": "list",
                "data": [
                    {
                        "id": service.name,
                        "object": "model",
                        "created": 0,
                        "owned_by": "xclipt",
                        "fingerprint": identity.fingerprint,
                        "dimensions": service.model.dim,
                        "languages": service.languages,
                        "pictures": len(service.index.names) if service.index else None,
                    }
                ],
            }
        )

    @app.get(_HEALTH)
    async def health() -> Response:
        if not service.healthy:
            raise RefusedError(503, "the server is stopping", "stopping")
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def page() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return _refusal(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _refusal(_invalid(error))

    @app.exception_handler(HTTPException)
    async def none_such(request: Request, error: HTTPException) -> Response:
        return _refusal(RefusedError(error.status_code, str(error.detail), "http"), error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _refusal(_FAILED)  # it is raised again, and the gate tells of it

    paths = {route.path for route in app.routes if hasattr(route, "path")}
    return _Gate(app, service, metrics, keys, paths)


def _embeddings(
    service: Service, asked: EmbeddingsRequest, prepared: list[PreparedText], features: Features
) -> Response:
    written = _base64 if asked.encoding_format == "base64" else _floats
    tokens = sum(len(one.tokens) for one in prepared)
    return _json(
        {
            "object": "list",
            "model": service.name,
            "data": [
                {"object": "embedding", "index": i, "embedding": written(row), **_how(one)}
                for i, (one, row) in enumerate(zip(prepared, features, strict=True))
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


async def _encoded(service: Service, prepared: list[PreparedText]) -> Features:
    future = asyncio.wrap_future(service.submit(prepared))
    try:
        return await future
    except Exception as error:
        raise service.refusal_of(error) from None


def _how(one: PreparedText) -> dict[str, Any]:
    found = one.how
    sure = {} if found.confidence is None else {"confidence": round(found.confidence, 3)}
    said = {"language": found.language, "delta": found.delta, "fallback": found.fallback}
    return said | sure


def _floats(row: NDArray[np.float32]) -> list[float]:
    numbers: list[float] = row.tolist()
    return numbers


def _base64(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, media_type="application/json")


def _refusal(error: RefusedError, headers: Any = None) -> Response:
    response = _json(error.as_json(), error.status)
    response.headers.update(headers or {})
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503):
        response.headers["Retry-After"] = "1"
    return response


def _invalid(error: RequestValidationError) -> RefusedError:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    param = where[0] if where and first["type"] != "json_invalid" else None
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        said = f"the body is not JSON: {first.get('ctx', {}).get('error', said)}"
    elif first["type"] == "extra_forbidden":
        said = "no such field; check its name"
    elif not where:
        said = "the body must be a JSON object, sent as application/json"
    else:
        said = said[:1].lower() + said[1:]
    place = ".".join(where) if param else ""
    return RefusedError(400, f"{place}: {said}" if place else said, "invalid", param)


class _Gate:
    """Before all else: keys, the size of bodies, and what is counted; and no error but ours."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        metrics: Metrics,
        keys: Collection[str],
        paths: Collection[str],
    ) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics
        self._keys = [key.encode() for key in keys]
        self._paths = paths

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started, status = time.perf_counter(), 0

        async def noting(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check_key(scope)
            body = await self._body(receive)
            if body is not None:
                await self._app(scope, _replayed(body, receive), noting)
        except RefusedError as error:
            await _refusal(error)(scope, receive, noting)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            self._service.remark(f"{scope['method']} {path} was not answered")
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._service.remark(
                f"unexpected {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            )
            if not status:
                await _refusal(_FAILED)(scope, receive, noting)
        finally:
            if status:
                self._metrics.request(path, status, time.perf_counter() - started)

    def _check_key(self, scope: _Message) -> None:
        if not self._keys or scope["path"] == _HEALTH:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        # Each is compared, so that the time tells nothing.
        known = [hmac.compare_digest(key.strip(), own) for own in self._keys]
        if scheme.lower() != b"bearer" or not any(known):
            raise RefusedError(
                401, "send one of the server's keys as `Authorization: Bearer KEY`", "key"
            )

    async def _body(self, receive: _Receive) -> bytes | None:
        """The whole body; ``None`` where the client has gone."""
        most = self._service.limits.body
        body, size, more = bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= most:
                body += part
            elif size > _READ_ON * most:
                break
            more = message.get("more_body", False)
        if size > most:
            raise RefusedError(
                413, f"the body is larger than {most:,} bytes: send several requests", "too_large"
            )
        return bytes(body)


def _replayed(body: bytes, receive: _Receive) -> _Receive:
    given = False

    async def replay() -> _Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
