"""What the commands share: from option values to open workspaces, data sets and languages."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xclipt.cli.options import CommonOptions
from xclipt.cli.terminal import Terminal
from xclipt.data.formats.reading import Reading
from xclipt.errors import UsageError, XcliptError, blaming_what_was_named
from xclipt.progress import Progress, Task

if TYPE_CHECKING:
    from xclipt.artifacts.directory import ArtifactDirectory
    from xclipt.data.dataset import Dataset
    from xclipt.workspace import Workspace


DATA_DIR = Path("data")
"""Where data sets are put and looked for when no folder is named."""


def data_root(common: CommonOptions) -> Path | None:
    """The folder of data sets: the named one, else ``./data`` where it is there.

    Raises:
        XcliptError: The named one is not there.
    """
    if common.data_dir is None:
        return DATA_DIR if DATA_DIR.is_dir() else None
    if not common.data_dir.is_dir():
        raise UsageError(f"--data-dir {common.data_dir}: no such folder")
    return common.data_dir


class Invocation:
    """One run of a command: its common options, the terminal, and what it has opened.

    A context manager. The backbone is loaded when :attr:`workspace` is first asked for, so that a
    mistyped language is refused before.

    Args:
        common: The options that every command has.
        create: Make the artifact directory when it is not there; ``None`` makes it only where
            nobody named it, since a name may be mistyped.

    Raises:
        UsageError: The artifact directory that was named is not there.
    """

    def __init__(self, common: CommonOptions, *, create: bool | None = False) -> None:
        from xclipt.artifacts.directory import ArtifactDirectory

        self._common = common
        self._there = ArtifactDirectory.is_at(common.root)
        self._create = common.artifacts is None if create is None else create
        if common.artifacts is not None and not self._create:
            self._require_directory()
        self._terminal = Terminal(common.quiet)
        self._datasets: list[Dataset] = []
        self._remarks_made: set[str] = set()
        self._new = False

    def __enter__(self) -> "Invocation":
        self._terminal.__enter__()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        from xclipt.artifacts.directory import ArtifactDirectory

        if self._new and "workspace" in vars(self):
            made = self.workspace.directory
            if kind is not None:
                made.discard_if_empty()
            if ArtifactDirectory.is_at(made.root):  # what does not stay is not told of
                self._terminal.note(f"Made {made.root} on backbone {made.backbone.id}")
        self._pass_on_remarks()
        self._terminal.__exit__(kind, *exception)
        if kind is None and self._there:  # else results may lie where nobody finds them
            ArtifactDirectory.require_at(self._common.root)

    @property
    def progress(self) -> Progress:
        """Where to report to."""
        return self._terminal

    @property
    def backbone_name(self) -> str:
        """The backbone that :attr:`workspace` would load, found without loading it."""
        from xclipt.workspace import backbone_name

        return backbone_name(self._common.root, self._common.backbone)

    @cached_property
    def workspace(self) -> "Workspace":
        """The artifact directory with its backbone in memory."""
        from xclipt.workspace import open_workspace

        self._new = self.directory_if_there is None
        with blaming_what_was_named() if self._names_a_backbone else nullcontext():
            return open_workspace(
                self._common.root,
                self._terminal,
                backbone=self._common.backbone,
                image_tower=self._common.image_tower,
                device=self._common.device,
                dtype=self._common.dtype,
                create=self._create and not self._there,  # what has gone meanwhile stays so
            )

    @cached_property
    def directory(self) -> "ArtifactDirectory":
        """The artifact directory, without its backbone where it is there and none is named."""
        there = self.directory_if_there
        return there if there and not self._names_a_backbone else self.workspace.directory

    @property
    def _names_a_backbone(self) -> bool:
        return bool(self._common.backbone or self._common.image_tower)

    @cached_property
    def existing(self) -> "ArtifactDirectory":
        """The artifact directory, which must be there already."""
        from xclipt.artifacts.directory import ArtifactDirectory

        return ArtifactDirectory.open(self._common.root)

    @property
    def directory_if_there(self) -> "ArtifactDirectory | None":
        """The artifact directory as it is, ``None`` where it would have to be made."""
        from xclipt.artifacts.directory import ArtifactDirectory

        root = self._common.root
        return ArtifactDirectory.open(root) if ArtifactDirectory.is_at(root) else None

    def open_data(
        self,
        name: str,
        reading: Reading | None = None,
        *,
        download: bool = False,
        caption: int | None = None,
    ) -> "Dataset":
        """The data set of that name. What it has to remark, now or later, reaches the user.

        Args:
            name: As :func:`xclipt.data.registry.open_dataset` takes it.
            reading: How own data is read.
            download: Fetch what is missing of it first.
            caption: Take the caption of this number alone of every picture.
        """
        from xclipt.data.registry import open_dataset

        if download:
            _fetch(name, self._common.data_dir or DATA_DIR, self._terminal)
        with blaming_what_was_named():
            said = vars(reading or Reading())
            dataset = open_dataset(name, data_root(self._common), caption=caption, **said)
        self._datasets.append(dataset)
        self._pass_on_remarks()
        return dataset

    def languages(self, asked: str, available: Sequence[str]) -> list[str]:
        """ISO 639-1 codes from a code or name, a comma list or ``all``; shown as resolved.

        Raises:
            XcliptError: No such language.
        """
        from xclipt.languages import SEVERAL, find, name

        if asked == "all":
            return list(available)
        languages: list[str] = []
        for code in filter(None, (part.strip() for part in asked.split(","))):
            try:
                language = code if code == SEVERAL else find(code)
            except XcliptError as error:
                raise UsageError(f"--lang {code}: {error}") from None
            if language != code:
                self._terminal.note(f"--lang {code} is {language} ({name(language)})")
            if language not in languages:
                languages.append(language)
        if not languages:
            raise UsageError("--lang: name a language, a comma list, or all")
        return languages

    def home(self, directory: "ArtifactDirectory", language: str) -> str:
        """The language whose deltas serve ``language``; another than itself is told."""
        from xclipt.languages import name

        home = directory.home(language)
        if home != language:
            self._terminal.note(
                f"{language} ({name(language)}) has no delta of its own: those of {home} "
                f"({name(home)}) are used"
            )
        return home

    def language(self, asked: str) -> str:
        """The ISO 639-1 code of one language; an alias is shown as resolved.

        Raises:
            XcliptError: No such language, or several.
        """
        found = self.languages(asked, [])
        if len(found) != 1:
            raise UsageError(f"--lang {asked}: name one language")
        return found[0]

    def _require_directory(self) -> None:
        from xclipt.artifacts.directory import MARK, ArtifactDirectory

        if not ArtifactDirectory.is_at(self._common.root):
            raise UsageError(
                f"--artifacts {self._common.root}: no artifact directory is there (no {MARK}); "
                "check its name, or make it: `xclipt train-delta --lang fr --shots 10`"
            )

    def _pass_on_remarks(self) -> None:
        for dataset in self._datasets:
            for remark in dataset.notes:
                if remark not in self._remarks_made:
                    self._remarks_made.add(remark)
                    self._terminal.note(remark)


def _fetch(name: str, folder: Path, progress: Progress) -> None:
    from xclipt.data.download import FileFetched, fetch

    tasks: list[Task] = []

    def listen(event: FileFetched) -> None:
        # The count starts anew when the captions are done and the photographs begin.
        if event.done == 1:
            tasks.append(progress.start(f"Fetching {name}", event.total))
        tasks[-1].advance(1, event.file.path)
        if event.done == event.total:
            tasks[-1].finish()

    report = fetch(name, folder, listen)
    progress.note(f"{name}: {report.fetched} files fetched, {report.present} there already")
    for remark in report.notes:
        progress.note(remark)


def number_or_all(option: str, value: str) -> int | None:
    """A positive number, or ``None`` for ``all``.

    Raises:
        XcliptError: It is neither.
    """
    if value == "all":
        return None
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise UsageError(f"{option} {value}: must be a positive number or all")
    return int(value)
