"""``xclipt search``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclipt.cli import completion
from xclipt.cli.invocation import Invocation
from xclipt.cli.options import CommonOptions, HubBanks, common_options_but
from xclipt.cli.terminal import loading_libraries, print_json, print_line, print_link
from xclipt.errors import UsageError, blaming_what_was_named

if TYPE_CHECKING:
    from xclipt.search.answer import Answer
    from xclipt.search.faiss_file import FaissIndex
    from xclipt.search.index import PictureIndex


@common_options_but("data_dir", "seed")
def search_command(
    common: CommonOptions,
    query: Annotated[
        list[str] | None,
        typer.Argument(help="What the picture shows; several queries are allowed."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of pictures, with those below it.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            help="A file of the command index; --images then is where the pictures lie now.",
        ),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang",
            autocompletion=completion.languages,
            help="Language of the queries: a code, one per query with commas, or auto (default: "
            "the frozen base).",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Pictures to show per query.", min=1)] = 5,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            help="File of queries, one per line; its own CODE and a tab may come first.",
        ),
    ] = None,
    like: Annotated[
        list[Path] | None,
        typer.Option(
            "--like", metavar="FILE", help="Find pictures like this one; repeat it for several."
        ),
    ] = None,
    hub_bank: HubBanks = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page of thumbnails that link to the pictures."),
    ] = None,
) -> None:
    """Find pictures in a folder by what they show, asked in any language, or like another one.

    The first search encodes every picture; later ones only those that are new or have changed.

    Some pictures are near to whatever is asked for. --hub-bank ranks them further down; the cosines
    that are shown stay what they are.

    --index searches what the command index has built, without looking at the folder again.

    Example: xclipt search "un chien qui court" --lang fr --images photos --html found.html
    """
    if images is None and index is None:
        raise UsageError("--images: name the folder of pictures to search")
    if images is not None and not images.is_dir():
        raise UsageError(f"--images {images}: no such folder")
    if query and queries:
        raise UsageError("give either a query or --queries FILE")
    if not (query or queries or like):
        raise UsageError("give a query, --queries FILE, or a picture with --like")
    for path in like or []:
        if not path.is_file():
            raise UsageError(f"--like {path}: no such file")
    with loading_libraries(common.quiet):
        from xclipt.files import write_text
        from xclipt.hubness import open_banks
        from xclipt.model import AUTO, Model
        from xclipt.report.page import search_page
        from xclipt.search.answer import queries_from, read_queries, search
        from xclipt.search.faiss_file import open_index_file
        from xclipt.search.index import index_pictures

    if index and hub_bank:
        raise UsageError("--hub-bank: is for --images; an index lacks the features it needs")
    asked = read_queries(queries, lang) if queries else queries_from(query or [], lang)
    with Invocation(common, create=None) as run:
        languages = [query.language for query in asked if query.language != AUTO]
        banks = open_banks(hub_bank or [], languages, detected=len(languages) < len(asked))
        for code in dict.fromkeys(query.language for query in asked):
            if code not in (None, AUTO):
                run.home(run.workspace.directory, code)
        model = Model(run.workspace)
        identity = run.workspace.backbone.identity
        pictures: PictureIndex | FaissIndex
        if index:
            with blaming_what_was_named():
                pictures = open_index_file(index, identity, images)
        else:
            assert images is not None
            pictures = index_pictures(run.workspace, images)
            note_index(run, pictures)
        result = search(model, pictures, asked, top, like=like or [], banks=banks)
        if html:
            write_text(html, search_page(result, identity, html.parent))
            run.progress.note(f"Wrote {html}")
    if common.json:
        print_json(
            {
                "command": "search",
                "backbone": {"id": identity.id, "fingerprint": identity.fingerprint},
                "index": str(index) if index else None,
                **result.as_json(),
                "html": str(html) if html else None,
            }
        )
        return
    print_line(f"rank  cosine  picture in {pictures.folder}")
    for answer in result.answers:
        _print_hits(pictures.folder, answer)


def note_index(run: Invocation, index: "PictureIndex") -> None:
    """Tell what of a folder was new, and what is left out."""
    from xclipt.data.pictures import unread_remark

    if index.encoded:
        run.progress.note(
            f"{index.folder}: {index.encoded:,} new or changed of {len(index.names):,} pictures"
        )
    if index.unread:
        run.progress.note(f"{index.folder}: left out are {unread_remark(index.unread)}")
    if index.broken:
        first = index.broken[0]
        run.progress.note(
            f"{index.folder}: {len(index.broken):,} broken files are left out, first "
            f"{first.path.name} ({first.reason})"
        )


def _print_hits(folder: Path, answer: "Answer") -> None:
    print_line(f"{answer.query}  {_how(answer)}")
    for rank, hit in enumerate(answer.hits, 1):
        # Terminals that can, open it on a click.
        link = (folder / hit.name).resolve().as_uri()
        same = "  (the same file)" if hit.name in answer.identical else ""
        print_link(f"  {rank:2}  {hit.score:.3f}  ", hit.name, link, same)
    print_line("")


def _how(answer: "Answer") -> str:
    from xclipt.languages import name

    if answer.like:
        return "(pictures like it)"
    how = answer.encoded
    used = how.delta or ("no delta: frozen base" if how.fallback else "frozen base")
    if how.language is None:
        return f"({used})"
    sure = f", {100 * how.confidence:.0f} % sure" if how.confidence is not None else ""
    ranked = f"; hub correction by {answer.bank.path.name}" if answer.bank else ""
    return f"({name(how.language)}{sure}; {used}{ranked})"
