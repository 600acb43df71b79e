"""``xclipt embed``."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation, data_root
from xclipt.cli.options import CommonOptions, common_options_but, reading_options
from xclipt.cli.terminal import loading_libraries, print_json, print_line
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, blaming_what_was_named, recommended

if TYPE_CHECKING:
    from xclipt.embedding.embed import Embedded, EmbeddingRequest

_SHARDS = "Several processes"
_STDIN = Path("-")


@common_options_but("seed")
@reading_options
def embed_command(
    common: CommonOptions,
    reading: Reading,
    out: Annotated[
        Path,
        typer.Option("--out", help="File to write: .npy, .safetensors or .parquet."),
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="Texts: a file of lines, a table (CSV, JSON lines, parquet, Excel), or - for "
            "stdin.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Pictures: a folder, a .txt file of paths, - for such a list on stdin, or "
            "webdataset shards, parquet and other data sets.",
        ),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang",
            autocompletion=completion.languages,
            help="Language of the texts, by whose current delta they are encoded (default: the "
            "frozen base).",
        ),
    ] = None,
    delta: Annotated[
        str | None,
        typer.Option(
            "--delta",
            autocompletion=completion.deltas,
            help="Name of another delta of that language, or none for the base.",
        ),
    ] = None,
    fallback: Annotated[
        str,
        typer.Option("--fallback", help="For a language without a delta: error, or base."),
    ] = "error",
    numbers: Annotated[
        str,
        typer.Option(
            "--numbers",
            help="Keep features in float32, float16 or int8; what the smaller ones lose is "
            "measured and printed.",
        ),
    ] = "float32",
    shards: Annotated[
        int,
        typer.Option(
            "--shards",
            help="Share the work among so many processes.",
            min=1,
            rich_help_panel=_SHARDS,
        ),
    ] = 1,
    shard: Annotated[
        int | None,
        typer.Option("--shard", help="Which of them this is, from 0.", rich_help_panel=_SHARDS),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Check and join what the shards have done.", rich_help_panel=_SHARDS
        ),
    ] = False,
) -> None:
    """Write features of texts or pictures to a file, for vector search.

    They are L2-normalised: inner product is cosine (rows of int8 have a scale of their own, so ask
    for cosine). The file, or for .npy a JSON file beside it, has the ids (line numbers, paths), the
    language, and the fingerprints of backbone and delta.

    The same command goes on after a kill. With --shards 4 --shard 0 to 3 four processes share the
    work, on one machine or several with the folder in common; then --merge --out FILE. Any number
    of them gives the same bytes, at the same number of threads.

    Example: xclipt embed --text captions.txt --lang de --out captions.npy
    """
    given = [name for name, value in (("--text", text), ("--images", images)) if value]
    if merge:
        settings = (
            *(("--lang", lang), ("--delta", delta), ("--fallback", fallback != "error")),
            *(("--numbers", numbers != "float32"), ("--shards", shards > 1)),
            ("--shard", shard is not None),
        )
        if others := [*given, *(name for name, value in settings if value)]:
            raise UsageError(f"--merge takes --out alone; leave out {others[0]}")
    elif len(given) != 1:
        raise UsageError("name either --text FILE or --images FOLDER, or --merge the shards")
    if images:
        for name, value in (("--lang", lang), ("--delta", delta)):
            if value:
                raise UsageError(f"{name} {value}: pictures have none; leave it out")
    with loading_libraries(common.quiet):
        from xclipt.embedding.embed import (
            EmbeddingRequest,
            choose_delta,
            embed_pictures,
            embed_texts,
            merge_shards,
        )
        from xclipt.embedding.sources import open_pictures, open_texts

    request = EmbeddingRequest(out, numbers, shards, shard)
    request.require_valid()
    with Invocation(common, create=None) as run, _on_disk(text or images) as place:
        if merge:
            done = merge_shards(out, run.progress)
        elif text:
            reading.refuse("--lang names the language of texts: it", "caption_lang")
            language = run.language(lang) if lang else None
            with blaming_what_was_named():
                texts = open_texts(place, language, reading)
            if language:
                run.home(run.workspace.directory, language)
            chosen = choose_delta(run.workspace, language, delta, fallback)
            done = embed_texts(run.workspace, texts, request, language, chosen)
        else:
            listed = images == _STDIN
            with blaming_what_was_named():
                found = open_pictures(place, data_root(common), reading, listed=listed)
            done = embed_pictures(run.workspace, found, request)
        _note_left_out(run, done)
    if common.json:
        print_json({"command": "embed", **done.as_json(), "shards": shards, "shard": shard})
        return
    _print(done, request, joined=merge)


@contextmanager
def _on_disk(place: Path | None) -> Iterator[Path]:
    """What was named; stdin is kept in a file until the command ends, since it is read twice."""
    if place != _STDIN:
        yield place or Path()
        return
    with tempfile.TemporaryDirectory(prefix="xclipt-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _note_left_out(run: Invocation, done: "Embedded") -> None:
    if done.left_out:
        first = done.left_out[0]
        run.progress.note(
            f"{done.work.source}: {len(done.left_out):,} broken files are left out, first "
            f"{first.id} ({first.reason})"
        )


def _print(done: "Embedded", request: "EmbeddingRequest", *, joined: bool) -> None:
    description = done.description
    if description is None:
        merge = recommended("embed", merge=True, out=request.out)
        print_line(
            f"{done.out}: shard {request.shard} of {request.shards} is done, "
            f"{done.shard_rows:,} rows; when all are: {merge.strip('`')}"
        )
        return
    work = description.work
    said = [f"{description.rows:,} x {work.dim} {work.numbers}"]
    if work.kind == "texts":
        said.append(work.delta or "frozen base")
    if not done.encoded and not joined:
        said.append("was there already")
    print_line(f"{done.out}: {', '.join(said)}")
    if loss := description.loss:
        print_line(
            f"{work.numbers} against float32: {100 * loss.recall:.1f} % of the 10 nearest and "
            f"{100 * loss.first:.1f} % of the nearest are the same, asked with {loss.queries:,} of "
            f"{loss.rows:,} rows"
        )
    elif work.numbers != "float32":
        print_line(f"{work.numbers} against float32: too few rows to tell what is lost")
