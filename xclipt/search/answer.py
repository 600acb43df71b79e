"""Queries in any language against a folder of pictures."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.errors import FallbackWarning, UsageError, XcliptError
from xclipt.languages import find
from xclipt.model import AUTO, Model, TextLanguage
from xclipt.search.index import Hit, PictureIndex


@dataclass(frozen=True)
class Query:
    """A text to search for. ``language`` is a code, ``"auto"``, or ``None`` for the base."""

    text: str
    language: str | None


@dataclass(frozen=True)
class Answer:
    """What one query found, best first, and how it was encoded."""

    query: str
    encoded: TextLanguage
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class SearchResult:
    """Answers, and how long encoding the queries and ranking the pictures took, in seconds."""

    index: PictureIndex
    answers: tuple[Answer, ...]
    encode_seconds: float
    rank_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The part of the command's document that tells of pictures and queries."""
        return {
            "images": str(self.index.folder),
            "pictures": len(self.index.names),
            "encoded": self.index.encoded,
            "broken": [
                {"path": str(file.path), "reason": file.reason} for file in self.index.broken
            ],
            "seconds": {"encode": self.encode_seconds, "rank": self.rank_seconds},
            "queries": [
                {
                    "query": answer.query,
                    **vars(answer.encoded),
                    "results": [
                        {
                            "rank": rank,
                            "image": hit.name,
                            "path": str(self.index.folder / hit.name),
                            "score": round(hit.score, 6),
                        }
                        for rank, hit in enumerate(answer.hits, 1)
                    ],
                }
                for answer in self.answers
            ],
        }


def search(model: Model, index: PictureIndex, queries: Sequence[Query], top: int) -> SearchResult:
    """Rank the pictures for every query. A language without a delta is searched with the base.

    Raises:
        XcliptError: No such language, or its delta cannot be used.
    """
    texts = [query.text for query in queries]
    languages = [query.language for query in queries]
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The answers say so themselves.
        warnings.simplefilter("ignore", FallbackWarning)
        encoded = model.resolve(texts, languages)
        features = model.encode_text(texts, [e.language for e in encoded], fallback="base")
    ranked = time.perf_counter()
    hits = index.search(features, top)
    ended = time.perf_counter()
    model.note_cut("queries", texts, [e.language for e in encoded])
    answers = [
        Answer(query.text, how, tuple(found))
        for query, how, found in zip(queries, encoded, hits, strict=True)
    ]
    return SearchResult(index, tuple(answers), ranked - started, ended - ranked)


def queries_from(texts: Sequence[str], languages: str | None) -> list[Query]:
    """Texts with their languages: one code or ``auto`` for all, or a comma list, one per text.

    Raises:
        XcliptError: No such language, or another number of languages than of texts.
    """
    codes = [_code(part.strip()) for part in languages.split(",")] if languages else [None]
    if len(codes) == 1:
        codes *= len(texts)
    if len(codes) != len(texts):
        raise XcliptError(
            f"{len(codes)} languages for {len(texts)} queries", field="language", value=languages
        )
    if not all(text.strip() for text in texts):
        raise UsageError("the query is empty: say what the picture shows")
    return [Query(text, code) for text, code in zip(texts, codes, strict=True)]


def read_queries(path: Path, language: str | None) -> list[Query]:
    """A file of queries: one per line, after its language code and a tab where it has its own.

    Raises:
        XcliptError: It cannot be read, holds no query, or names no language.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, f"cannot read as UTF-8 text ({error})") from None
    if language and "," in language:
        raise XcliptError(
            "with `queries` one code, or codes in the file", field="language", value=language
        )
    default = _code(language)
    queries = []
    for number, line in enumerate(lines, 1):
        typed, tab, rest = line.partition("\t")
        text = (rest if tab else line).strip()
        if not text:
            continue
        try:
            queries.append(Query(text, _code(typed.strip()) if tab else default))
        except XcliptError as error:
            raise _unusable(path, f"line {number}: {error.message}") from None
    if not queries:
        raise _unusable(path, "no query in it; write one per line")
    return queries


def _unusable(path: Path, why: str) -> XcliptError:
    return XcliptError(why, field="queries", value=path)


def _code(typed: str | None) -> str | None:
    if typed is None or typed == AUTO:
        return typed
    try:
        return find(typed)
    except XcliptError as error:
        raise XcliptError(error.message, field="language", value=typed) from None
