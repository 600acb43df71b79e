"""What the server answers, apart from HTTP: texts into features, and queries into pictures."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.backbones.backbone import NonFiniteError
from xclipt.detection import load_detector
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.languages import resolve
from xclipt.model import AUTO, Fallback, Model, PreparedText
from xclipt.printable import visible
from xclipt.search.index import PictureIndex
from xclipt.serving.batching import Features, Pass, QueueFullError, StoppedError, TextBatcher

_SECONDS_BETWEEN_LOOKS = 2.0
_LONGEST_CODE = 40


@dataclass(frozen=True)
class Limits:
    """How much a request may ask for.

    Attributes:
        body: Bytes of its body.
        inputs: Texts in it.
        characters: Of each text.
        queue: Texts that may wait, those of all requests together.
        hits: Pictures in an answer, of all its queries together.
    """

    body: int = 2**20
    inputs: int = 2048
    characters: int = 8192
    queue: int = 4096
    hits: int = 10_000


@dataclass(frozen=True)
class Offer:
    """How the server was set up.

    Attributes:
        language: Of texts that come without one: a code, ``auto``, or ``None`` for the base.
        fallback: What is done for a language without a delta, unless a request says.
    """

    language: str | None = None
    fallback: Fallback = "error"


class RefusedError(Exception):
    """A request that is not answered as it was meant.

    Args:
        status: Of HTTP.
        message: What is wrong, and the remedy; it may hold what was sent, and becomes one line.
        code: A word for programs.
        param: The field at fault.
    """

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, visible(message), code, param

    def as_json(self) -> dict[str, Any]:
        """The body of the response, as OpenAI's clients read it."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status) or (
            "server_error" if self.status >= 500 else "invalid_request_error"
        )
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


class Service:
    """A model with its deltas in memory, and pictures to search if there are any. Thread-safe.

    Args:
        model: The backbone, and the deltas of its directory.
        index: Pictures for :meth:`search`.
        offer: Defaults of requests.
        limits: How much one may ask for.
        told: Is told of every pass through the tower.

    Attributes:
        languages: Those that have a current delta.
        encoded: How many texts were encoded, by the language of their delta, or ``base``.
    """

    def __init__(
        self,
        model: Model,
        index: PictureIndex | None = None,
        *,
        offer: Offer | None = None,
        limits: Limits | None = None,
        told: Callable[[Pass], None] = lambda one: None,
    ) -> None:
        self.model = model
        self.index = index
        self.offer = offer or Offer()
        self.limits = limits or Limits()
        self.encoded: Counter[str] = Counter()
        self._batcher = TextBatcher(model.encode, most_waiting=self.limits.queue, told=told)
        self._directory = model.workspace.directory
        self._stamps = self._directory.delta_stamps()
        self._remarks: set[str] = set()
        self.languages = self._current()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_again, name="deltas", daemon=True)

    def start(self) -> None:
        """Read all deltas, and look from then on for those that are trained meanwhile."""
        self._warm()
        self._watch.start()

    def stop(self) -> None:
        """Answer nothing more; who is not answered by now is refused."""
        self._ended.set()
        self._batcher.stop(answer=False)

    @property
    def healthy(self) -> bool:
        """Whether requests are answered."""
        return self._batcher.working

    @property
    def waiting(self) -> int:
        """Texts that wait to be encoded."""
        return self._batcher.waiting

    @property
    def name(self) -> str:
        """What clients call the model; of a backbone from a folder its last name alone."""
        known = self.model.workspace.backbone.identity.id
        return Path(known).name if Path(known).is_absolute() else known

    def prepare(
        self,
        texts: Sequence[str],
        language: str | Sequence[str | None] | None = None,
        fallback: Fallback | None = None,
        *,
        param: str = "input",
        truncate: bool = False,
    ) -> list[PreparedText]:
        """Texts as the tower takes them.

        Args:
            texts: At least one.
            language: A code or ``auto``, for all or one per text.
            fallback: ``None`` is the server's default.
            param: The request's field that the texts stand in.
            truncate: Take the beginning of a text that the tower does not take whole.

        Raises:
            RefusedError: Something of it is not as it must be, or a delta cannot be used.
        """
        self._check_texts(texts, param)
        codes = self._codes(len(texts), self.offer.language if language is None else language)
        try:
            prepared = self.model.prepare(texts, codes, fallback="base")
        except XcliptError as error:
            raise self._unusable(str(error)) from None
        if (fallback or self.offer.fallback) == "error":
            for one in prepared:
                if one.how.fallback:
                    raise self._no_delta(str(one.how.language))
        if not truncate and (cut := self.model.cut(prepared)):
            room = self.model.workspace.backbone.room(prepared[cut[0]].positions)
            raise RefusedError(
                400,
                f"{_nth(cut[0], texts)} has more than the {room} tokens that the text tower "
                'sees; shorten it, or send "truncate": true to encode its beginning',
                "text_too_long",
                param,
            )
        for code in dict.fromkeys(one.how.language for one in prepared):
            self.model.workspace.note_language(code)
        return prepared

    def submit(self, prepared: Sequence[PreparedText]) -> "Future[Features]":
        """Have prepared texts encoded together with those of other requests.

        Raises:
            RefusedError: Too many texts are waiting, or the server is stopping.
        """
        try:
            future = self._batcher.submit(prepared)
        except QueueFullError as error:
            raise RefusedError(429, str(error), "queue_full") from None
        except StoppedError as error:
            raise _stopping(error) from None
        for one in prepared:
            self.encoded[one.delta.language if one.delta else "base"] += 1
        return future

    def refusal_of(self, error: Exception) -> RefusedError:
        """What a client is told where texts could not be encoded."""
        if isinstance(error, StoppedError):
            return _stopping(error)
        if isinstance(error, NonFiniteError):
            said = "its features are not finite: the server's log says whose"
            self.remark(str(error))
            return RefusedError(500, said, "not_finite")
        return self._unusable(f"{error}" if isinstance(error, XcliptError) else repr(error))

    def search(self, features: Features, top: int) -> list[list[dict[str, Any]]]:
        """The ``top`` pictures of every query, best first, by their paths within the folder.

        Raises:
            RefusedError: There are no pictures.
        """
        index = self._pictures()
        return [
            [
                {"rank": rank, "image": hit.name, "score": round(hit.score, 6)}
                for rank, hit in enumerate(hits, 1)
            ]
            for hits in index.search(features, top)
        ]

    def require_pictures(self, queries: int, top: int) -> None:
        """Refuse a search that cannot be answered before anything is encoded for it.

        Raises:
            RefusedError: There are no pictures, or too many are asked for.
        """
        self._pictures()
        if queries * top > self.limits.hits:
            raise RefusedError(
                413,
                f"top {top:,} for {queries:,} queries; an answer may have {self.limits.hits:,} "
                "pictures: ask for fewer, or send several requests",
                "too_many",
                "top",
            )

    def look(self) -> bool:
        """See what was trained since: whether any language's delta has changed."""
        try:
            self._directory.require_there()
        except XcliptError as error:
            self.remark(f"{error}; deltas in memory are served on")
            return False
        stamps = self._directory.delta_stamps()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        self._remarks.clear()
        self.model.refresh()
        self.languages = self._current()
        self._warm()
        return True

    def remark(self, message: str) -> None:
        """Tell whoever runs the server, once."""
        if message not in self._remarks:
            self._remarks.add(message)
            self.model.workspace.progress.note(message)

    def _look_again(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                if self.look():
                    there = ", ".join(self.languages) or "none"
                    self.model.workspace.progress.note(
                        f"Deltas have changed; there are now: {there}"
                    )
            except Exception as error:  # who looks no longer would serve old deltas for ever
                self.remark(f"cannot look for new deltas ({type(error).__name__}: {error})")

    def _current(self) -> list[str]:
        try:
            return self.model.languages
        except XcliptError as error:
            self.remark(str(error))
            return []

    def _warm(self) -> None:
        """Read deltas and build the towers, so that no request waits for it."""
        prepared: list[PreparedText] = []
        for code in self.languages:
            try:
                self.model.warm([code])
                prepared += self.model.prepare(["a"], code)
            except XcliptError as error:  # the others are served all the same
                self.remark(str(error))
        try:
            self.model.encode(prepared)
        except XcliptError as error:
            self.remark(str(error))

    def _pictures(self) -> PictureIndex:
        if self.index is None:
            raise RefusedError(
                404,
                "this server has no pictures: start it by `xclipt serve --images FOLDER`",
                "no_pictures",
            )
        return self.index

    def _check_texts(self, texts: Sequence[str], param: str) -> None:
        if not texts:
            raise RefusedError(400, f"{param}: send a text, or a list of them", "empty", param)
        if len(texts) > self.limits.inputs:
            raise RefusedError(
                413,
                f"{len(texts):,} texts; a request may have {self.limits.inputs:,}: send several",
                "too_many",
                param,
            )
        for i, text in enumerate(texts):
            if not text.strip():
                raise RefusedError(400, f"{_nth(i, texts)} is empty", "empty", param)
            if len(text) > self.limits.characters:
                raise RefusedError(
                    413,
                    f"{_nth(i, texts)} has {len(text):,} characters; "
                    f"a text may have {self.limits.characters:,}: shorten it",
                    "text_too_long",
                    param,
                )
            try:
                text.encode()
            except UnicodeEncodeError:
                raise RefusedError(
                    400, f"{_nth(i, texts)} is no Unicode: it has half of a pair", "no_text", param
                ) from None

    def _codes(self, count: int, language: str | Sequence[str | None] | None) -> list[str | None]:
        codes: list[str | None] = []
        if language is None or isinstance(language, str):
            codes += [language] * count
        else:
            codes += language
        if len(codes) != count:
            raise _wrong_language(
                f"language: {len(codes)} codes for {count} texts; one, or one each"
            )
        resolved: dict[str | None, str | None] = {None: None, AUTO: AUTO}
        for code in codes:
            if code is None or code in resolved:
                continue
            if len(code) > _LONGEST_CODE:
                raise _wrong_language("language: that is no code; send one such as fr, tr or zh")
            try:
                resolved[code] = resolve(code)
            except XcliptError as error:
                raise _wrong_language(str(error)) from None
        if AUTO in codes:
            try:
                load_detector()
            except XcliptError as error:
                raise _wrong_language(str(error)) from None
        return [resolved[code] for code in codes]

    def _no_delta(self, code: str) -> RefusedError:
        there = ", ".join(self.languages) or "none"
        return RefusedError(
            400,
            f"language '{code}' ({language_name(code)}) has no delta here (there: {there}); "
            'send "fallback": "base" to encode it with the frozen base',
            "no_delta",
            "language",
        )

    def _unusable(self, why: str) -> RefusedError:
        # It may tell of paths, which are not for everyone.
        self.remark(why)
        said = "a delta or the backbone cannot be used: the server's log says why"
        return RefusedError(500, said, "unusable")


def _stopping(error: StoppedError) -> RefusedError:
    return RefusedError(503, str(error), "stopping")


def _nth(position: int, texts: Sequence[str]) -> str:
    return f"text {position + 1} of {len(texts)}" if len(texts) > 1 else "the text"


def _wrong_language(message: str) -> RefusedError:
    return RefusedError(400, message, "no_language", "language")
