"""``xclipt index``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import (
    DATASET_HELP,
    CommonOptions,
    common_options_but,
    reading_options,
)
from xclipt.cli.terminal import loading_libraries, print_json, print_line, size
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, blaming_what_was_named, recommended

if TYPE_CHECKING:
    from xclipt.search.faiss_file import IndexDescription
    from xclipt.search.recall import TextQueries

_MEASURED = "What it is measured with"


@common_options_but("seed")
@reading_options
def index_command(
    common: CommonOptions,
    reading: Reading,
    out: Annotated[Path, typer.Option("--out", help="File to write, such as pictures.faiss.")],
    features: Annotated[
        Path | None, typer.Option("--features", help="What embed --images wrote.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Or a folder of pictures, with those below it."),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="flat, hnsw, sq8, ivf or ivfpq.")] = "hnsw",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            autocompletion=completion.datasets,
            help=f"Captions of the pictures to ask with: {DATASET_HELP}",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="Or queries, one per line; its own CODE and a tab may come first.",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang",
            autocompletion=completion.languages,
            help="Language of captions or queries (default: en).",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
) -> None:
    """Build a faiss index of pictures, and measure what it loses.

    flat: exact. hnsw: a graph, fast. sq8: a quarter of the memory. ivf: a part of the pictures is
    looked at. ivfpq: that, in a thirtieth of the memory.

    Indexes are trained on pictures, and texts lie elsewhere: a kind that finds pictures by pictures
    may miss what texts ask for. So recall@10 against exact search is printed for both, with your
    own captions or queries if you name them.

    search --index FILE uses it; other engines take the parquet file of embed.

    Example: xclipt index --features pictures.npy --kind ivfpq --out pictures.faiss
    """
    if (features is None) == (images is None):
        raise UsageError("name either --features FILE, of embed, or --images FOLDER")
    if dataset and queries:
        raise UsageError("name either --dataset or --queries")
    with loading_libraries(common.quiet):
        from xclipt.model import Model
        from xclipt.search.faiss_file import (
            KINDS,
            PictureFeatures,
            build_index,
            load_faiss,
            write_index_file,
        )
        from xclipt.search.index import index_pictures
        from xclipt.search.recall import encode_queries, measure_index

    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: choose {', '.join(KINDS)}")
    if images and not images.is_dir():
        raise UsageError(f"--images {images}: no such folder")
    with Invocation(common, create=None) as run:
        pictures = None
        with blaming_what_was_named():
            texts = _texts(run, dataset, queries, lang, reading)
            if features:
                pictures = PictureFeatures.of_file(features)
        load_faiss()  # else all pictures might be encoded for nothing
        identity = run.workspace.backbone.identity
        if images:
            found = index_pictures(run.workspace, images)
            pictures = PictureFeatures.of_index(found, identity.fingerprint)
        assert pictures is not None
        with blaming_what_was_named():
            pictures.require_backbone(identity)
        index = build_index(pictures, kind, run.progress)
        encoded = encode_queries(Model(run.workspace), texts)
        recall = measure_index(index, pictures, texts, encoded)
        description = write_index_file(out, index, pictures, kind, recall)
    if common.json:
        print_json({"command": "index", "out": str(out), **asdict(description)})
        return
    _print(out, description, own=bool(dataset or queries))


def _texts(
    run: Invocation,
    dataset: str | None,
    queries: Path | None,
    lang: str | None,
    reading: Reading,
) -> "TextQueries":
    from xclipt.data.registry import open_dataset
    from xclipt.search.answer import read_queries
    from xclipt.search.recall import captions_of, queries_of

    if queries:
        return queries_of(queries.name, read_queries(queries, lang))
    language = run.language(lang or "en")
    if dataset:
        return captions_of(run.open_data(dataset, reading), language)
    emoji = open_dataset("emoji")
    return captions_of(emoji, language if language in emoji.languages else "en", "test")


def _print(out: Path, description: "IndexDescription", own: bool) -> None:
    print_line(
        f"{out}: {description.rows:,} pictures, {description.kind} ({description.recipe}), "
        f"{size(description.bytes)}"
    )
    if not description.recall:
        print_line("too few pictures to tell what it loses")
        return
    print_line("")
    print_line("recall@10  against exact search, asked with")
    for one in description.recall:
        print_line(f"  {100 * one.recall:5.1f} %  {one.queries:,} {one.asked_with}, {one.source}")
    for one in description.recall:
        if one.own_exact is not None and one.own_found is not None:
            print_line(
                f"the picture of a caption is among its 10 in {100 * one.own_exact:.1f} % by exact "
                f"search, in {100 * one.own_found:.1f} % by the index"
            )
    if not own:
        print_line("--dataset or --queries measures it with your own texts")
    command = recommended("search", "a dog that runs", index=out).strip("`")
    print_line("")
    print_line(command)
