"""``xclipt serve``: features and search over HTTP."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import CommonOptions, common_options_but
from xclipt.cli.search import note_index
from xclipt.cli.terminal import loading_libraries, print_json, print_line
from xclipt.errors import UsageError

if TYPE_CHECKING:
    from xclipt.serving.service import Service

_KEY = "XCLIPT_API_KEY"
_LIMITS = "Limits"


def _limit(name: str, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, help=help, min=1, rich_help_panel=_LIMITS)
    return option


@common_options_but("data_dir", "seed")
def serve_command(
    common: CommonOptions,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of pictures to search, with those below it."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is reached from elsewhere.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="Port; 0 is any that is free.", min=0, max=65535)
    ] = 8000,
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang",
            autocompletion=completion.languages,
            help="Language of texts that come without one: a code or auto (default: the frozen "
            "base).",
        ),
    ] = None,
    fallback: Annotated[
        str,
        typer.Option(
            "--fallback",
            help="For a language without a delta, unless a request says: error, or base, the "
            "frozen backbone.",
        ),
    ] = "error",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            help=f"File of keys, one a line, of which a client must send one (or {_KEY}).",
        ),
    ] = None,
    capacity: Annotated[
        int, typer.Option("--capacity", help="Most deltas kept in memory.", min=1)
    ] = 100,
    max_body: Annotated[int, _limit("--max-body", "Bytes of a request.")] = 2**20,
    max_inputs: Annotated[int, _limit("--max-inputs", "Texts in a request.")] = 2048,
    max_characters: Annotated[int, _limit("--max-characters", "Characters of a text.")] = 8192,
    max_queue: Annotated[
        int, _limit("--max-queue", "Texts that may wait, of all requests together.")
    ] = 4096,
) -> None:
    """Serve features of texts in any language, and search in pictures, over HTTP.

    POST /v1/embeddings takes what OpenAI's clients send, and a language beside it; POST /search
    finds pictures. Deltas that are trained meanwhile are seen. Stop it with Ctrl-C or SIGTERM: what
    was asked is answered, and the exit code is 0.

    Example: xclipt serve --images photos --lang auto
    """
    if images is not None and not images.is_dir():
        raise UsageError(f"--images {images}: no such folder")
    if fallback not in ("error", "base"):
        raise UsageError(f"--fallback {fallback}: choose error or base")
    from xclipt.serving import require_extra

    require_extra()
    with loading_libraries(common.quiet):
        from xclipt.detection import load_detector
        from xclipt.model import AUTO, Model
        from xclipt.search.index import index_pictures
        from xclipt.serving.app import make_app
        from xclipt.serving.metrics import Metrics
        from xclipt.serving.server import (
            is_reached_from_elsewhere,
            listening,
            read_keys,
            run,
            url_of,
        )
        from xclipt.serving.service import Limits, Offer, Service

    keys = read_keys(api_key_file) if api_key_file else os.environ.get(_KEY, "").split()
    with listening(host, port) as bound:
        with Invocation(common, create=None) as invocation:
            language = invocation.language(lang) if lang not in (None, AUTO) else lang
            if language == AUTO:
                load_detector()
            workspace = invocation.workspace
            index = index_pictures(workspace, images) if images else None
            if index:
                note_index(invocation, index)
            metrics = Metrics()
            service = Service(
                Model(workspace, capacity=capacity),
                index,
                offer=Offer(language, "base" if fallback == "base" else "error"),
                limits=Limits(max_body, max_inputs, max_characters, max_queue),
                told=metrics.encoded,
            )
            metrics.watch(service)
            service.start()
        note = workspace.progress.note
        if is_reached_from_elsewhere(bound) and not keys:
            note(
                f"--host {host}: whoever reaches it may use it, without a key; give --api-key-file"
            )

        def ready() -> None:
            _print_ready(service, url_of(bound), common.json)

        try:
            signal = run(make_app(service, metrics, keys), bound, ready)
        finally:
            service.stop()
        note(f"Stopped by {signal}")


def _print_ready(service: "Service", url: str, json: bool) -> None:
    identity = service.model.workspace.backbone.identity
    languages, index = service.languages, service.index
    if json:
        print_json(
            {
                "command": "serve",
                "url": url,
                "backbone": {"id": identity.id, "fingerprint": identity.fingerprint},
                "model": service.name,
                "languages": languages,
                "pictures": len(index.names) if index else None,
            }
        )
    else:
        deltas = f"deltas of {', '.join(languages)}" if languages else "no delta yet"
        searched = f", {len(index.names):,} pictures of {index.folder}" if index else ""
        print_line(f"{service.name}, {deltas}{searched}: {url}")
    sys.stdout.flush()
