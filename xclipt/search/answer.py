"""Queries in any language against a folder of pictures."""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from xclipt.backbones.backbone import NonFiniteError
from xclipt.errors import FallbackWarning, UsageError, XcliptError
from xclipt.files import file_key, read_regular
from xclipt.hubness import HubBank
from xclipt.languages import find
from xclipt.model import AUTO, Model, TextLanguage
from xclipt.search.faiss_file import FaissIndex
from xclipt.search.index import Hit, PictureIndex
from xclipt.workspace import EncodedPictures, Workspace


@dataclass(frozen=True)
class Query:
    """A text to search for. ``language`` is a code, ``"auto"``, or ``None`` for the base."""

    text: str
    language: str | None


@dataclass(frozen=True)
class Answer:
    """What one query found, best first.

    Attributes:
        query: The text, or the path of the picture.
        encoded: How the text was encoded; a picture has no language and no delta.
        hits: What was found.
        like: The picture that was searched with; ``None`` for a text.
        identical: Names of those found whose file is that picture's, byte for byte.
        bank: What the pictures were ranked with hub correction by.
    """

    query: str
    encoded: TextLanguage
    hits: tuple[Hit, ...]
    like: Path | None = None
    identical: frozenset[str] = frozenset()
    bank: HubBank | None = None

    def as_json(self, folder: Path) -> dict[str, Any]:
        """The query and what it found in ``folder``."""
        return {
            "query": self.query,
            "like": str(self.like) if self.like else None,
            **vars(self.encoded),
            "hub_bank": str(self.bank.path) if self.bank else None,
            "results": [
                {
                    "rank": rank,
                    "image": hit.name,
                    "path": str(folder / hit.name),
                    "uri": (folder / hit.name).resolve().as_uri(),
                    "score": round(hit.score, 6),
                    **({"corrected": round(hit.corrected, 6)} if hit.corrected is not None else {}),
                    **({"identical": hit.name in self.identical} if self.like else {}),
                }
                for rank, hit in enumerate(self.hits, 1)
            ],
        }


@dataclass(frozen=True)
class SearchResult:
    """Answers, and how long encoding the queries and ranking the pictures took, in seconds."""

    index: PictureIndex | FaissIndex
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
            "queries": [answer.as_json(self.index.folder) for answer in self.answers],
        }


def search(
    model: Model,
    index: PictureIndex | FaissIndex,
    queries: Sequence[Query],
    top: int,
    *,
    like: Sequence[Path] = (),
    banks: Mapping[str, HubBank] | None = None,
) -> SearchResult:
    """Rank the pictures for every query. A language without a delta is searched with the base.

    Args:
        model: Encodes the queries.
        index: The pictures.
        queries: Texts; their answers come first.
        top: Pictures for each.
        like: Pictures to find others like. That they may be in the index is no reason to leave
            them out.
        banks: By language, what the pictures are ranked with hub correction by.

    Raises:
        XcliptError: No such language, its delta cannot be used, or no such picture.
    """
    texts = [query.text for query in queries]
    languages = [query.language for query in queries]
    started = time.perf_counter()
    with warnings.catch_warnings():
        # The answers say so themselves.
        warnings.simplefilter("ignore", FallbackWarning)
        encoded = model.resolve(texts, languages)
        for language in dict.fromkeys(e.language for e in encoded):
            model.workspace.note_language(language)
        features = model.encode_text(texts, [e.language for e in encoded], fallback="base")
    used = [(banks or {}).get(how.language or "") for how in encoded]
    biases = {bank.language: _bias(model.workspace, index, bank) for bank in used if bank}
    examples = [_encode_picture(model.workspace, path) for path in like]
    ranked = time.perf_counter()
    found: dict[int, list[Hit]] = {}
    for language in (None, *biases):
        rows = [i for i, bank in enumerate(used) if (bank and bank.language) == language]
        bias = biases[language] if language else None
        found |= zip(rows, index.search(features[rows], top, bias), strict=True)
    answers = [
        Answer(query.text, how, tuple(found[i]), bank=bank)
        for i, (query, how, bank) in enumerate(zip(queries, encoded, used, strict=True))
    ]
    for path, picture in zip(like, examples, strict=True):
        (hits,) = index.search(F.normalize(picture.features, dim=-1), top)
        identical = _identical(index.folder, hits, picture.keys[0])
        answers.append(Answer(str(path), _NO_TEXT, tuple(hits), path, identical))
    ended = time.perf_counter()
    model.note_cut("queries", texts, [e.language for e in encoded])
    for bank in (banks or {}).values():
        asked = [q.text for q, own in zip(queries, used, strict=True) if own is bank]
        if known := bank.among(asked):
            model.workspace.progress.note(
                f"{bank.path}: holds {len(known):,} of the queries, such as {known[0]!r}, and so "
                "ranks their own pictures further down; take them out of it"
            )
    return SearchResult(index, tuple(answers), ranked - started, ended - ranked)


_NO_TEXT = TextLanguage(language=None, delta=None, confidence=None, fallback=False)


def _bias(workspace: Workspace, index: PictureIndex | FaissIndex, bank: HubBank) -> Tensor:
    if isinstance(index, FaissIndex):
        raise UsageError("needs `images`: an index lacks the features", field="hub_bank")
    return bank.bias(workspace, index.features, workspace.directory.current(bank.language))


def _encode_picture(workspace: Workspace, path: Path) -> EncodedPictures:
    try:
        return workspace.encode_pictures([path])
    except NonFiniteError:
        raise
    except XcliptError as error:
        why = error.message.removeprefix(f"{path}: ")
        raise UsageError(why, field="like", value=path) from error


def _identical(folder: Path, hits: Sequence[Hit], key: bytes) -> frozenset[str]:
    same = set()
    for hit in hits:
        with suppress(OSError):  # gone since it was indexed
            if file_key(folder / hit.name) == key:
                same.add(hit.name)
    return frozenset(same)


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
        lines = read_regular(path).decode("utf-8-sig").splitlines()
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
