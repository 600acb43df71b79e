"""What a data set holds, and what is wrong with it, before anyone trains."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.data.dataset import Dataset
from xclipt.data.pictures import BrokenPicture, find_broken
from xclipt.errors import XcliptError
from xclipt.files import file_key
from xclipt.progress import Progress, Silent

_EXAMPLES = 3

TooLong = Callable[[Sequence[str]], Sequence[int]]
"""The positions of those texts of which a text tower sees the beginning alone."""


@dataclass(frozen=True)
class LanguageSurvey:
    """The captions of one language.

    Attributes:
        language: Its code.
        pictures: How many have captions in it.
        captions: How many there are.
        with_english: How many of the pictures have English captions too.
        repeated: Captions that another one says already, word for word.
        too_long: Captions that are cut at the context length; ``None`` where that was not asked.
    """

    language: str
    pictures: int
    captions: int
    with_english: int
    repeated: int
    too_long: int | None


@dataclass(frozen=True)
class PictureSurvey:
    """The picture files.

    Attributes:
        named: How many pictures have captions.
        missing: Names of those whose file is not there.
        broken: Files that are no picture, or of a kind that cannot be opened here.
        copies: Files that are the same as another, byte for byte.
        across: Copies of pictures that are in another split.
        folder: Where the first missing one would be, or the first that is there is.
    """

    named: int
    missing: tuple[str, ...]
    broken: tuple[BrokenPicture, ...]
    copies: int
    across: int
    folder: Path

    @property
    def usable(self) -> int:
        """How many can be trained on."""
        return self.named - len(self.missing) - len(self.broken)


@dataclass(frozen=True)
class Example:
    """One picture: its name, its file if it is there, and its first caption by language."""

    image: str
    path: Path | None
    captions: Mapping[str, str]


@dataclass(frozen=True)
class Survey:
    """All that :func:`survey` found.

    Attributes:
        dataset: The data set's name.
        splits: Pictures by split, of those that have any.
        languages: English first.
        pictures: The files.
        examples: Three pictures, from the beginning, the middle and the end of those whose files
            are there.
    """

    dataset: str
    splits: Mapping[str, int]
    languages: tuple[LanguageSurvey, ...]
    pictures: PictureSurvey
    examples: tuple[Example, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        pictures = self.pictures
        return {
            "dataset": self.dataset,
            "splits": dict(self.splits),
            "languages": [vars(language) for language in self.languages],
            "pictures": {
                "named": pictures.named,
                "usable": pictures.usable,
                "missing": list(pictures.missing),
                "broken": [{"path": str(b.path), "reason": b.reason} for b in pictures.broken],
                "copies": pictures.copies,
                "copies_across_splits": pictures.across,
                "folder": str(pictures.folder),
            },
            "examples": [
                {
                    "image": example.image,
                    "path": str(example.path) if example.path else None,
                    "captions": dict(example.captions),
                }
                for example in self.examples
            ],
        }


def survey(
    dataset: Dataset, progress: Progress | None = None, too_long: TooLong | None = None
) -> Survey:
    """Count what a data set holds, and open every one of its pictures.

    >>> import xclipt
    >>> xclipt.survey(xclipt.open_dataset("emoji")).languages[0].language  # doctest: +SKIP
    'en'

    Args:
        dataset: Any.
        progress: Told of the pictures.
        too_long: Says which captions a text tower would cut.

    Raises:
        XcliptError: Captions are not usable.
    """
    captions = {
        language: {item.image: item.captions for item in dataset.captions(language, None)}
        for language in dataset.languages
    }
    names = list(dict.fromkeys(image for part in captions.values() for image in part))
    split_of = {
        item.image: split
        for split in dataset.splits
        for language in dataset.languages
        for item in _of_split(dataset, language, split)
    }
    paths = {name: dataset.picture_path(name) for name in names}
    english = captions.get("en", {})
    languages = []
    for language, part in captions.items():
        texts = [text for own in part.values() for text in own]
        languages.append(
            LanguageSurvey(
                language,
                len(part),
                len(texts),
                sum(image in english for image in part),
                len(texts) - len(set(texts)),
                len(too_long(texts)) if too_long else None,
            )
        )
    there = [name for name in names if paths[name].is_file()] or names
    last = len(there) - 1
    shown = dict.fromkeys(there[i * last // (_EXAMPLES - 1)] for i in range(_EXAMPLES))
    sizes = Counter(split_of.values())
    return Survey(
        dataset.name,
        {split: sizes[split] for split in dataset.splits if sizes[split]},
        tuple(languages),
        _pictures(paths, split_of, progress or Silent()),
        tuple(
            Example(
                name,
                paths[name] if paths[name].is_file() else None,
                {code: part[name][0] for code, part in captions.items() if part.get(name)},
            )
            for name in shown
        ),
    )


def _of_split(dataset: Dataset, language: str, split: str) -> Sequence[Any]:
    try:
        return dataset.captions(language, split)
    except XcliptError:  # a published split that was never translated into this language
        return ()


def _pictures(
    paths: Mapping[str, Path], split_of: Mapping[str, str], progress: Progress
) -> PictureSurvey:
    there = {name: path for name, path in paths.items() if path.is_file()}
    missing = tuple(name for name in paths if name not in there)
    task = progress.start("Looking at pictures", len(there))
    broken: list[BrokenPicture] = []
    splits: dict[bytes, list[str | None]] = {}
    for name, path in there.items():
        broken += find_broken([path])
        if path.is_file():
            splits.setdefault(file_key(path), []).append(split_of.get(name))
        task.advance()
    task.finish()
    across = sum(len(of) - max(Counter(of).values()) for of in splits.values() if len(set(of)) > 1)
    first = paths[missing[0]] if missing else next(iter(there.values()), Path())
    return PictureSurvey(
        len(paths),
        missing,
        tuple(broken),
        sum(len(of) - 1 for of in splits.values()),
        across,
        first.parent,
    )
