"""Hub correction: pictures that are near to whatever is asked for are ranked further down.

Some pictures are near to every text of a language. A bank of texts of it tells how near, as one
number a picture, and the query's cosine ``s`` is ranked less that number::

    s - log(mean(exp(b * s'))) / b

with the cosines ``s'`` of the picture and the texts of the bank. That is the logarithm of the
inverted softmax (Smith et al., ICLR 2017) or querybank normalisation (Bogolin et al., CVPR 2022).
The number does not depend on the query, so it is one more dimension in any index of inner products:
:func:`biased_pictures` and :func:`biased_queries`. How far apart cosines lie differs from backbone
to backbone, so ``b`` is given in units of their spread.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import regex
import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import StoredDelta
from xclipt.data.formats.known import format_of
from xclipt.data.formats.lines import read_lines
from xclipt.data.registry import open_dataset
from xclipt.errors import UsageError, XcliptError
from xclipt.languages import resolve
from xclipt.translation.guards import is_in_script
from xclipt.workspace import Workspace

SHARPNESS = 2.0
"""``b`` times the standard deviation of the cosines between pictures and bank: the larger, the more
the texts that are nearest to a picture count. Chosen on validation data alone (EVALUATION.md)."""

FEWEST_TEXTS = 200
"""With fewer the correction follows what these few texts happen to say, and recalls fall."""

_LEAST_SPREAD = 1e-6
_BLOCK_BYTES = 32 * 2**20
_NAMED = re.compile(r"([A-Za-z-]+)=(.+)")


@dataclass(frozen=True)
class HubBank:
    """Texts of one language, all different, as people ask for pictures in it.

    Attributes:
        path: The file that they are from.
        language: ISO 639-1 code.
        texts: Texts that differ in more than case, white space and punctuation.
    """

    path: Path
    language: str
    texts: tuple[str, ...]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(map(_key, self.texts))

    def among(self, queries: Iterable[str]) -> list[str]:
        """Those of the queries, each once, that the bank holds too."""
        return [query for query in dict.fromkeys(queries) if _key(query) in self._known]

    def require_apart(self, queries: Iterable[str]) -> None:
        """Refuse queries that the bank holds: it would know what they are measured on.

        Raises:
            UsageError: Says how many, and one of them.
        """
        if shared := self.among(queries):
            one = len(shared) == 1
            raise UsageError(
                f"{len(shared):,} {'text of it is' if one else 'texts of it are'} among the "
                f"'{self.language}' queries that are measured, such as {shared[0]!r}; take "
                f"{'it' if one else 'them'} out",
                field="hub_bank",
                value=self.path,
            )

    def bias(
        self,
        workspace: Workspace,
        pictures: Tensor,
        delta: StoredDelta | None = None,
        prompt: str | None = None,
    ) -> Tensor:
        """:func:`hub_bias` of pictures ``(pictures, dim)``, ``(pictures,)``.

        Args:
            workspace: Encodes the texts, and keeps their features.
            pictures: L2-normalised.
            delta: What the queries are encoded with.
            prompt: What stands before them, as :meth:`Workspace.encode_texts` takes it.

        Raises:
            XcliptError: The delta is damaged or does not fit.
        """
        texts = workspace.encode_texts(self.texts, delta, prompt=prompt, language=self.language)
        return hub_bias(pictures, F.normalize(texts, dim=-1))


@torch.no_grad()
def hub_bias(
    pictures: Tensor,
    texts: Tensor,
    sharpness: float = SHARPNESS,
    *,
    block_bytes: int = _BLOCK_BYTES,
) -> Tensor:
    """How near each picture is to whatever is asked for, ``(pictures,)``, as a cosine.

    It is between the mean and the largest of the picture's cosines with the texts: the first as
    ``sharpness`` goes to 0, the second as it grows.

    Args:
        pictures: ``(pictures, dim)``, L2-normalised.
        texts: ``(texts, dim)`` of the bank, L2-normalised.
        sharpness: ``b`` above, in units of one by :func:`spread`.
        block_bytes: How much memory similarities may take at a time.
    """
    b = sharpness / max(spread(pictures, texts), _LEAST_SPREAD)
    size = max(1, block_bytes // (4 * len(texts)))
    sums = [torch.logsumexp(b * part @ texts.T, dim=1) for part in torch.split(pictures, size)]
    return (torch.cat(sums) - math.log(len(texts))) / b


def spread(pictures: Tensor, texts: Tensor) -> float:
    """Standard deviation of all cosines of ``(pictures, dim)`` with ``(texts, dim)``.

    From their moments: the cosines themselves are not held.
    """
    pictures, texts = pictures.double(), texts.double()
    squares = (pictures.T @ pictures * (texts.T @ texts)).sum() / (len(pictures) * len(texts))
    mean = pictures.mean(0) @ texts.mean(0)
    return math.sqrt(max(0.0, float(squares - mean**2)))


def biased_pictures(pictures: Tensor, bias: Tensor) -> Tensor:
    """Pictures ``(pictures, dim + 1)`` for an index of inner products.

    Their products with :func:`biased_queries` are the cosines less ``bias`` ``(pictures,)``.
    """
    return torch.cat([pictures, -bias[:, None]], dim=1)


def biased_queries(queries: Tensor) -> Tensor:
    """Queries ``(n, dim + 1)`` for :func:`biased_pictures`."""
    return torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)


def open_banks(
    named: Sequence[str], languages: Sequence[str | None], *, detected: bool = False
) -> dict[str, HubBank]:
    """The banks of several languages.

    Args:
        named: ``CODE=FILE``, or ``FILE`` alone where there is one language.
        languages: Those that are asked in; ``None`` is a query in no language that was named.
        detected: Whether queries may turn out to be in any other language too.

    Raises:
        UsageError: A bank names no language, one that is not asked in, or one that has another;
            or as :func:`read_bank` does.
    """
    asked = list(dict.fromkeys(code for code in languages if code))
    banks: dict[str, HubBank] = {}
    for name in named:
        code, path = _parted(name)
        if code is None:
            if len(asked) != 1 or None in languages or detected:
                raise UsageError(
                    "does not say of which language it is: `hub_bank=CODE=FILE`",
                    field="hub_bank",
                    value=name,
                )
            code = asked[0]
        if code not in asked and not detected:
            raise UsageError(
                f"nothing is asked in '{code}' ({', '.join(asked) or 'no language is named'})",
                field="hub_bank",
                value=name,
            )
        if code in banks:
            raise UsageError(
                f"'{code}' has {banks[code].path} already; put all texts into one file",
                field="hub_bank",
                value=name,
            )
        banks[code] = read_bank(path, code)
    return banks


def read_bank(path: str | Path, language: str) -> HubBank:
    """Texts from a file with one a line, or the captions of any format that ``dataset`` takes.

    >>> import xclipt
    >>> bank = xclipt.read_bank("questions.txt", "fr")  # doctest: +SKIP
    >>> request = xclipt.EvaluationRequest(["fr"], hub_banks={"fr": bank})  # doctest: +SKIP

    Raises:
        UsageError: It is not there or not usable, most of it is not written as the language is, or
            fewer than :data:`FEWEST_TEXTS` different texts are in it.
    """
    path = Path(path)

    def refused(why: str) -> UsageError:
        return UsageError(why, field="hub_bank", value=path)

    if not path.exists():
        raise refused("no such file")
    try:
        lines = _captions(path, language) if _is_data_set(path) else read_lines(path)
    except XcliptError as error:
        raise refused(error.message.removeprefix(f"{path}: ")) from error
    different: dict[str, str] = {}
    for text in filter(None, map(str.strip, lines)):
        different.setdefault(_key(text), text)
    texts = tuple(different.values())
    foreign = [text for text in texts if not is_in_script(text, language)]
    if 2 * len(foreign) > len(texts):
        raise refused(
            f"{len(foreign):,} of its {len(texts):,} texts are not written as '{language}' is, "
            f"such as {foreign[0]!r}"
        )
    if len(texts) < FEWEST_TEXTS:
        raise refused(
            f"{len(texts):,} different texts of '{language}', and {FEWEST_TEXTS} are the least: "
            "with fewer the correction makes the ranking worse"
        )
    return HubBank(path, language, texts)


def _parted(name: str) -> tuple[str | None, Path]:
    match = _NAMED.fullmatch(name)
    if match is None or Path(name).exists():
        return None, Path(name)
    try:
        return resolve(match[1]), Path(match[2])
    except XcliptError as error:
        raise UsageError(error.message, field="hub_bank", value=name) from None


def _is_data_set(path: Path) -> bool:
    # A text file may be a table as well, but a bank is one text a line.
    return path.is_dir() or (path.suffix.lower() != ".txt" and format_of(path) is not None)


def _captions(path: Path, language: str) -> list[str]:
    try:
        dataset = open_dataset(path, caption_lang=language)
    except UsageError as error:
        if error.field != "caption_lang":
            raise
        dataset = open_dataset(path)  # it says itself which language is which
    return [text for picture in dataset.captions(language, None) for text in picture.captions]


def _key(text: str) -> str:
    words = regex.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text.strip()
