"""What ``eval`` measures on: which pictures and captions of which languages, with which deltas."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from xclipt.alignment.routines import TARGET, TEXTS, TO_EN
from xclipt.artifacts.directory import StoredDelta
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pictures import require_pictures, split_present
from xclipt.data.splits import PAPER_SEED, protocol
from xclipt.deltas.kind import DeltaSpec, with_prompt
from xclipt.errors import XcliptError
from xclipt.files import file_key, picture_key
from xclipt.hubness import HubBank
from xclipt.translation.lookup import captions_translated
from xclipt.translation.store import FROM_EN, Direction, Translator
from xclipt.workspace import Workspace

MODES = ("auto", "image", "text")
QUERY_TEXTS = (*TEXTS, FROM_EN)
"""What a delta may be trained on, and what can only be searched with."""

_FEW = 0.05
"""Share of pictures that is not worth a remark: OpenMoji draws `student` as `man student`."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to measure.

    Attributes:
        languages: ISO 639-1 codes.
        split: ``None`` takes ``test``, else ``val``, else all pictures. A data set in one piece
            also has ``full``, and ``paper``: what the paper's split leaves for the test.
        shots: Training pictures of the paper's split.
        split_seed: What the paper's split draws with.
        mode: ``image`` ranks pictures; ``text`` ranks the English captions of the same pictures;
            ``auto`` is ``image`` where the pictures are there.
        deltas: The deltas of each language that has any; ``None`` takes the current ones. Several
            of one language are compared with each other too.
        allow_missing: Go on with the pictures that are there.
        limit: At most so many pictures.
        same_pictures: Measure every language on the pictures that all of them have, less those
            that any delta was trained on, so that their figures are of the same task.
        over_seeds: The deltas of a language differ only in their seed: give their mean and spread.
        text: ``to-en`` measures the base on text translated into English too. Where a delta was
            trained on such text, it and the base are measured on it anyway. ``from-en`` measures
            the base, and the deltas for text as it is, on the English captions translated into the
            language too; then pictures without an English caption are left out of all rows.
        translator: Engine or model whose translations to take for that; ``None`` is the one that
            has most, and for a delta the one that it was trained with.
        prompts: Hard prompts: the base and every delta are measured with each of them before the
            captions too, in place of a delta's own. White space at their ends does not count; an
            empty one takes away a delta's own.
        hub_banks: Texts by language: what pictures are ranked by with hub correction too. None of
            them may be among the queries.

    Raises:
        XcliptError: A value is not one of those that there are.
    """

    languages: Sequence[str]
    split: str | None = None
    shots: int = 50
    split_seed: int = PAPER_SEED
    mode: str = "auto"
    deltas: Mapping[str, Sequence[StoredDelta]] | None = None
    allow_missing: bool = False
    limit: int | None = None
    same_pictures: bool = False
    over_seeds: bool = False
    text: str = TARGET
    translator: str | None = None
    prompts: Sequence[str] = ()
    hub_banks: Mapping[str, HubBank] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in (("text", QUERY_TEXTS), ("mode", MODES)):
            value = getattr(self, name)
            if value not in choices:
                raise XcliptError(f"choose {', '.join(choices)}", field=name, value=value)
        if self.limit is not None and self.limit < 2:
            raise XcliptError(
                "retrieval needs at least 2 pictures", field="limit", value=self.limit
            )
        for language in self.hub_banks:
            if language not in self.languages:
                raise XcliptError(f"'{language}' is not evaluated", field="hub_bank")


@dataclass(frozen=True)
class QueryTexts:
    """The queries of one language as one kind of text.

    Attributes:
        text: ``target``, ``to-en`` or ``from-en``.
        captions: The queries.
        picture_index: ``(captions,)`` index of the picture that each caption belongs to.
        translator: Who translated them.
    """

    text: str
    captions: tuple[str, ...]
    picture_index: Tensor
    translator: Translator | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured: a delta or the base, on one kind of text, with what stands before it.

    ``prompt`` is that of the request; ``None`` is what the delta has itself.
    """

    delta: StoredDelta | None
    texts: QueryTexts
    prompt: str | None = None

    @property
    def effective_prompt(self) -> str:
        """What stands before every caption."""
        if self.prompt is not None:
            return self.prompt
        return tidy(self.delta.spec.hard_prompt) if self.delta else ""

    def with_each(self, prompts: Sequence[str]) -> "tuple[Subject, ...]":
        """Itself, and itself with each of the prompts that it does not have anyway."""
        own = self.effective_prompt
        return self, *(replace(self, prompt=prompt) for prompt in prompts if prompt != own)


def tidy(prompt: str) -> str:
    """A prompt without white space at its ends and with single spaces within."""
    return " ".join(prompt.split())


@dataclass(frozen=True)
class LanguageQueries:
    """One language's captions, and what they are ranked against.

    Attributes:
        deltas: The deltas to measure beside the base; the first is the one that is asked about.
        images: Names of the pictures that are ranked, or whose English captions are.
        targets: Their features ``(images, dim)``.
        english: The English captions of each, where there are any.
        captions: The queries.
        picture_index: ``(captions,)`` index of the picture that each caption belongs to.
        left_out: Pictures that a delta was trained or validated on, and that are not among
            ``images``.
        translated: The queries by each translator that is asked for, where a delta or the user
            wants translated text.
        prompts: What is to be put before the captions, each in turn.
        hub_bank: Texts of the language for hub correction.
    """

    language: str
    deltas: tuple[StoredDelta, ...]
    images: tuple[str, ...]
    targets: Tensor
    english: Mapping[str, tuple[str, ...]]
    captions: tuple[str, ...]
    picture_index: Tensor
    left_out: int
    translated: tuple[QueryTexts, ...] = ()
    prompts: tuple[str, ...] = ()
    hub_bank: HubBank | None = None

    def texts(self, delta: StoredDelta | None) -> QueryTexts:
        """The queries as a delta wants them at inference; without one as they are."""
        if delta is None or delta.manifest.text == TARGET:
            return QueryTexts(TARGET, self.captions, self.picture_index)
        english = [texts for texts in self.translated if texts.text == TO_EN]
        own = [texts for texts in english if texts.translator == _translator(delta)]
        return (own or english)[0]  # the user may have named another translator

    def gloss(self, image: str) -> str | None:
        """The first English caption of a picture, where there is one."""
        return self.english[image][0] if image in self.english else None

    def language_of(self, texts: QueryTexts) -> str:
        """What the queries of a kind of text are in."""
        return "en" if texts.text == TO_EN else self.language

    def subjects(self) -> Iterator[Subject]:
        """All that is measured, from the base on; with a prompt, right after without."""
        for texts in (self.texts(None), *self.translated):
            yield from Subject(None, texts).with_each(self.prompts)
        for delta in self.deltas:
            yield from Subject(delta, self.texts(delta)).with_each(self.prompts)
            for texts in self.translated:
                if texts.text == FROM_EN and delta.manifest.text == TARGET:
                    yield from Subject(delta, texts).with_each(self.prompts)


@dataclass(frozen=True)
class Queries:
    """All that is measured at once. ``mode`` is ``image`` or ``text``; ``caption`` is the number of
    the one caption that every picture has, ``None`` for all."""

    dataset: str
    split: str | None
    mode: str
    languages: tuple[LanguageQueries, ...]
    caption: int | None = None


def select_queries(workspace: Workspace, dataset: Dataset, request: EvaluationRequest) -> Queries:
    """Choose pictures and captions, and encode what is ranked.

    Raises:
        XcliptError: The data does not hold what is asked.
    """
    languages = request.languages
    deltas = request.deltas
    if deltas is None:
        current = {language: workspace.directory.current(language) for language in languages}
        deltas = {language: (delta,) for language, delta in current.items() if delta}
    named = _choose_split(dataset, request.split)
    view, split = protocol(dataset, named, request.shots, "test", request.split_seed)
    english: dict[str, tuple[str, ...]] = {}
    if "en" in dataset.languages:
        english = {p.image: p.captions for p in view.captions("en", split) if p.captions}
    if request.text == FROM_EN and not english:
        raise XcliptError(
            f"{dataset.name} has no English captions that are translated",
            field="text",
            value=FROM_EN,
        )
    captioned = {
        language: view.captions(language, split)[: request.limit] for language in languages
    }
    for language, part in captioned.items():
        if len(part) < 2:
            raise XcliptError(
                f"{len(part)} captioned pictures in '{language}', retrieval needs at least 2",
                field="dataset",
                value=dataset.name,
            )
    everything = list({p.image: p for part in captioned.values() for p in part}.values())
    mode = _choose_mode(workspace, dataset, everything, request.mode)
    if mode == "image":
        usable = {p.image for p in require_pictures(dataset, everything, request.allow_missing)}
    elif not english:
        raise XcliptError(
            f"{dataset.name} has no English captions to rank", field="mode", value=mode
        )
    else:
        usable = set(english)
    if request.text == FROM_EN:
        if without := len(usable - english.keys()):
            workspace.progress.note(
                f"{dataset.name}: {without:,} of {len(usable):,} pictures have no English caption "
                "and are left out"
            )
        usable &= english.keys()
    captioned = {
        language: [p for p in part if p.image in usable] for language, part in captioned.items()
    }
    kept = _leave_out(dataset, captioned, deltas)
    left_out = {language: len(part) - len(kept[language]) for language, part in captioned.items()}
    if request.same_pictures:
        common = set.intersection(*({p.image for p in part} for part in kept.values()))
        kept = {language: [p for p in part if p.image in common] for language, part in kept.items()}
    for language, part in kept.items():
        if len(part) < 2:
            raise _too_few(dataset, request, deltas.get(language, ()), language, len(part))

    # Before anything is encoded: what was never translated is refused.
    translated = {
        language: _translate(
            workspace,
            dataset,
            language,
            [p.captions for p in part],
            [english.get(p.image, ()) for p in part],
            deltas.get(language, ()),
            request,
        )
        for language, part in kept.items()
    }
    for language, bank in request.hub_banks.items():
        bank.require_apart(caption for p in kept[language] for caption in p.captions)
        _note_not_corrected(workspace, language, translated[language])
        for texts in translated[language]:
            if texts.text == FROM_EN:
                bank.require_apart(texts.captions)

    ranked = list({p.image: None for part in kept.values() for p in part})
    asked = sum(len(picture.captions) for part in kept.values() for picture in part)
    workspace.progress.note(
        f"{dataset.name}: {len(ranked):,} {'pictures' if mode == 'image' else 'English captions'}, "
        f"{asked:,} captions, languages: {len(kept)}, deltas: {sum(map(len, deltas.values()))}"
    )
    if mode == "image":
        encoded = workspace.encode_pictures([dataset.picture_path(i) for i in ranked])
        features = encoded.features
        _note_trained_on(workspace, dataset, encoded.keys)
        _note_copies(workspace, dataset, encoded.keys)
    else:
        features = workspace.encode_texts([english[i][0] for i in ranked], language="en")
    row = {image: i for i, image in enumerate(ranked)}
    prompts = tuple(dict.fromkeys(map(tidy, request.prompts)))
    queries = Queries(
        dataset.name,
        named,
        mode,
        tuple(
            LanguageQueries(
                language=language,
                deltas=tuple(deltas.get(language, ())),
                images=tuple(p.image for p in part),
                targets=features[[row[p.image] for p in part]],
                english={p.image: english[p.image] for p in part if p.image in english},
                captions=tuple(caption for p in part for caption in p.captions),
                picture_index=torch.tensor([i for i, p in enumerate(part) for _ in p.captions]),
                left_out=left_out[language],
                translated=translated[language],
                prompts=prompts,
                hub_bank=request.hub_banks.get(language),
            )
            for language, part in kept.items()
        ),
        dataset.caption,
    )
    workspace.note_cut(dataset.name, _encoded_texts(queries))
    if "" in prompts and not any(d.spec.hard_prompt for every in deltas.values() for d in every):
        workspace.progress.note(
            "an empty hard prompt changes nothing here: no delta has one of its own"
        )
    for prompt in filter(None, prompts):
        workspace.note_cut(f'{dataset.name} after "{prompt}"', _prompted_texts(queries, prompt))
    return queries


def _encoded_texts(queries: Queries) -> Iterator[tuple[Sequence[str], DeltaSpec | None]]:
    for language in queries.languages:
        for subject in language.subjects():
            if subject.prompt is None:
                yield subject.texts.captions, subject.delta.spec if subject.delta else None
        if queries.mode == "text":
            yield [captions[0] for captions in language.english.values()], None


def _prompted_texts(
    queries: Queries, prompt: str
) -> Iterator[tuple[Sequence[str], DeltaSpec | None]]:
    for subject in (subject for language in queries.languages for subject in language.subjects()):
        if subject.prompt == prompt:
            given = [with_prompt(prompt, caption) for caption in subject.texts.captions]
            yield given, replace(subject.delta.spec, hard_prompt="") if subject.delta else None


def _translate(
    workspace: Workspace,
    dataset: Dataset,
    language: str,
    captions: Sequence[tuple[str, ...]],
    english: Sequence[tuple[str, ...]],
    deltas: Sequence[StoredDelta],
    request: EvaluationRequest,
) -> tuple[QueryTexts, ...]:
    """The queries translated in every way that the request or a delta asks for.

    Args:
        captions: Of every picture, in the language.
        english: The same in English.
    """
    if language == "en":
        return ()
    ways = [(TO_EN, name) for name in _into_english(workspace, language, deltas, request)]
    if request.text == FROM_EN:
        ways.append((FROM_EN, request.translator))
        _note_not_from_english(workspace, language, deltas)
    translated: list[QueryTexts] = []
    for text, name in ways:
        groups = captions if text == TO_EN else english
        sources = [caption for group in groups for caption in group]
        texts, translator, untranslated = captions_translated(
            workspace.directory, sources, Direction.of(language, text), dataset.name, name
        )
        if (text, translator) in [(known.text, known.translator) for known in translated]:
            continue
        if untranslated:
            whose = f"captions in '{language}'" if text == TO_EN else "English captions"
            into = "" if text == TO_EN else f" into '{language}'"
            workspace.progress.note(
                f"{dataset.name}: {untranslated:,} of {len(sources):,} {whose} have no usable "
                f"translation{into} and are searched with as they are"
            )
        index = torch.tensor([i for i, group in enumerate(groups) for _ in group])
        translated.append(QueryTexts(text, texts, index, translator))
    return tuple(translated)


def _into_english(
    workspace: Workspace,
    language: str,
    deltas: Sequence[StoredDelta],
    request: EvaluationRequest,
) -> list[str | None]:
    """By the translator that is asked for, else by all whose English a delta was trained on."""
    asked = None if request.text == FROM_EN else request.translator
    trained_on = [_translator(delta) for delta in deltas if delta.manifest.text == TO_EN]
    names = list(dict.fromkeys(known.name if known else None for known in trained_on))
    if asked and names:
        workspace.progress.note(
            f"`translator={asked}`: '{language}' was trained on translations of "
            f"{', '.join(name or 'an unknown translator' for name in names)}"
        )
    if names or request.text == TO_EN:
        return [asked] if asked or not names else names
    return []


def _note_not_from_english(
    workspace: Workspace, language: str, deltas: Sequence[StoredDelta]
) -> None:
    names = [delta.manifest.name for delta in deltas if delta.manifest.text == TO_EN]
    if names:
        workspace.progress.note(
            f"'{language}': {', '.join(names)} wants text in English and is not measured on "
            f"`text={FROM_EN}`"
        )


def _note_not_corrected(
    workspace: Workspace, language: str, translated: Sequence[QueryTexts]
) -> None:
    if any(texts.text == TO_EN for texts in translated):
        workspace.progress.note(
            f"`hub_bank`: '{language}' is no correction for queries that were translated into "
            "English, which are shown without"
        )


def _translator(delta: StoredDelta) -> Translator | None:
    known = delta.manifest.translator
    return Translator(**known) if known else None


def _choose_split(dataset: Dataset, split: str | None) -> str | None:
    if split is not None or not dataset.splits:
        return split
    # Publishers have names of their own for test splits, as Multi30K's test_2016_flickr.
    for kind in ("test", "val"):
        for choice in dataset.splits:
            if choice.startswith(kind):
                return choice
    raise XcliptError(
        f"name one of its splits {', '.join(dataset.splits)}: `split=NAME`",
        field="dataset",
        value=dataset.name,
    )


def _choose_mode(
    workspace: Workspace, dataset: Dataset, pictures: list[CaptionedPicture], mode: str
) -> str:
    if mode != "auto":
        return mode
    present, missing = split_present(dataset, pictures)
    if present:
        # Some are there: whether to go on without the others is the user's choice to make.
        return "image"
    workspace.progress.note(
        f"TEXT MODE: none of the {len(missing)} pictures of {dataset.name} are here, so each "
        "caption is ranked against the English captions instead; these figures are no image "
        "retrieval"
    )
    return "text"


def _leave_out(
    dataset: Dataset,
    captioned: Mapping[str, list[CaptionedPicture]],
    deltas: Mapping[str, Sequence[StoredDelta]],
) -> dict[str, list[CaptionedPicture]]:
    # A picture is known by its content: the same one comes by several data sets and names.
    content: dict[str, str] = {}
    kept = {}
    for language, part in captioned.items():
        seen = {key for d in deltas.get(language, ()) for key in d.manifest.data.pictures}
        for picture in part if seen else ():
            path = dataset.picture_path(picture.image)
            if picture.image not in content and path.is_file():
                content[picture.image] = picture_key(file_key(path))
        kept[language] = [p for p in part if not seen or content.get(p.image) not in seen]
    return kept


def _note_trained_on(workspace: Workspace, dataset: Dataset, keys: Sequence[bytes]) -> None:
    count = sum(picture_key(key) in workspace.backbone.seen_pictures for key in keys)
    if count > _FEW * len(keys):
        workspace.progress.note(
            f"{dataset.name}: backbone {workspace.backbone.identity.id} itself was trained on "
            f"{count:,} of these {len(keys):,} pictures, so that all figures are too high; "
            "evaluate on another split or data set"
        )


def _note_copies(workspace: Workspace, dataset: Dataset, keys: Sequence[bytes]) -> None:
    if copies := len(keys) - len(set(keys)):
        workspace.progress.note(
            f"{dataset.name}: {copies:,} of these {len(keys):,} pictures are copies of others, "
            "byte for byte; a copy that ties with the right picture counts as found before it, so "
            "that all figures are too low"
        )


def _too_few(
    dataset: Dataset,
    request: EvaluationRequest,
    deltas: Sequence[StoredDelta],
    language: str,
    count: int,
) -> XcliptError:
    if request.same_pictures:
        return XcliptError(
            f"all languages share {count} pictures; ask for fewer languages", field="same_pictures"
        )
    names = ", ".join(f"'{delta.manifest.reference}'" for delta in deltas)
    why = f"{count} usable pictures in '{language}'"
    if names:
        why = (
            f"the delta {names} of '{language}' was trained on all but {count} of its pictures; "
            "evaluate on another split or data set"
        )
    return XcliptError(why, field="dataset", value=dataset.name)
