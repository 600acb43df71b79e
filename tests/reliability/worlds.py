"""A small world to work in: a backbone, pictures with captions, sentences, and earlier deltas."""

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from tests.factories.datasets import write_captions
from tests.factories.models import write_mclip_backbone
from tests.reliability.processes import Case, Fault, Forks, Ran, Step

PICTURES = 12
LANGUAGES = ("fr", "de", "es", "it", "pl", "ru", "tr", "cs")
"""Whose captions are all the same few words."""
LOG = "steps.jsonl"
"""A line is added to it for every step, so that it tells of what was done twice."""
_COLOURS = ("noir", "blanc", "rouge", "vert")
_DATA = ("--dataset", "{data}")
TRAIN = (
    *("train-delta", "--validate-on", "4", "--epochs", "2", "--batch-size", "4", "--rank", "2"),
    *("--evaluate-every", "1", "--learning-rate", "0.01", "--even-if-worse"),
)
"""Two steps, each validated: the state is saved between them."""


@dataclass(frozen=True)
class Command:
    """A command that is put to the test.

    Attributes:
        arguments: With ``{data}`` and the like for what lies in the world.
        stores: Patterns of what it is run for, in its folder; all else of it is a cache.
        slow: It takes seconds.
        alone: There is no artifact directory yet.
        replaces: It changes the delta ``fr/other``.
    """

    arguments: tuple[str, ...]
    stores: tuple[str, ...]
    slow: bool = False
    alone: bool = False
    replaces: bool = False


def _export(format: str, slow: bool = False) -> Command:
    given = ("export-delta", "--lang", "fr", "--format", format)
    return Command(given, (f"artifacts/exports/{format}/**/*",), slow)


_NEW = (*TRAIN, "--lang", "fr", "--shots", "8", "--name", "new")
_DELTA = ("artifacts/deltas/fr/**/*",)
COMMANDS: dict[str, Command] = {
    "train-delta": Command((*_NEW, *_DATA), _DELTA),
    "train-delta, a new language": Command(
        (*TRAIN, "--lang", "es", "--shots", "4", "--name", "new", *_DATA),
        ("artifacts/deltas/es/*",),
    ),
    "train-delta, a new directory": Command(
        (*_NEW, *_DATA, "--backbone", "{backbone}"), _DELTA, alone=True
    ),
    "train-delta --force": Command(
        (*_NEW, *_DATA, "--name", "other", "--force"), _DELTA, replaces=True
    ),
    "train-delta --parallel": Command(
        (*_NEW, "--parallel", "{sentences}", "--log", LOG), (*_DELTA, "artifacts/parallel/**/*")
    ),
    "translate": Command(
        (
            *("translate", "--lang", "fr", "--engine", "file", "--file", "{translations}"),
            *("--batch-size", "5", *_DATA),
        ),
        ("artifacts/translations/**/*",),
    ),
    "align": Command(
        ("align", "--lang", "fr", "--routine", "1", "--shots", "4", "--plot", "gap.svg", *_DATA),
        ("artifacts/alignments/**/*", "gap.svg"),
    ),
    "eval": Command(
        (
            *("eval", "--lang", "en,fr,de", "--split", "full", *_DATA, "--report", "report.html"),
            *("--csv", "rows.csv", "--markdown", "rows.md", "--plot", "rows.svg"),
            *("--clip-benchmark", "clip-benchmark", "--mteb", "mteb"),
        ),
        ("report.html", "rows.*", "clip-benchmark/*", "mteb/**/*"),
    ),
    "search": Command(
        ("search", "un chat noir", "--lang", "fr", "--images", "{data}/images", "--html", "f.html"),
        ("f.html",),
    ),
    "embed": Command(
        ("embed", "--text", "{captions}", "--lang", "fr", "--out", "f.npy", "--numbers", "int8"),
        ("f.npy*",),
    ),
    "embed --images": Command(
        ("embed", "--images", "{data}/images", "--out", "f.parquet"), ("f.parquet*",)
    ),
    "index": Command(
        ("index", "--images", "{data}/images", "--kind", "flat", "--out", "f.faiss"), ("f.faiss*",)
    ),
    "import-delta native": Command(("import-delta", "{given}/native", "--name", "new"), _DELTA),
    "import-delta peft": Command(("import-delta", "{given}/peft", "--name", "new"), _DELTA),
    "import-delta opendelta": Command(
        ("import-delta", "{given}/opendelta", "--name", "new"), _DELTA
    ),
    **{f"export-delta {kind}": _export(kind) for kind in ("native", "hub", "peft", "opendelta")},
    "export-delta merged": _export("merged"),
    "export-delta onnx": _export("onnx", slow=True),
    "export-delta onnx-shared": _export("onnx-shared", slow=True),
    "export-delta onnx-int8": Command(
        (
            *("export-delta", "--lang", "fr", "--format", "onnx-int8", "--max-loss", "100"),
            *("--dataset", "{data}", "--split", "full"),
        ),
        ("artifacts/exports/onnx-int8/**/*",),
        slow=True,
    ),
    "use": Command(("use", "fr", "other"), _DELTA),
    "remove": Command(("remove", "fr", "other", "--yes"), _DELTA, replaces=True),
}
"""What a later command is added to."""


class World:
    """What commands need, made once, and folders of their own to run them in.

    Args:
        root: An empty folder.
        forks: Where the earlier deltas are made.
    """

    def __init__(self, root: Path, forks: Forks) -> None:
        self.root, self.forks = root, forks
        self._count = 0
        self.data, self.backbone = root / "data", root / "backbone"
        write_mclip_backbone(self.backbone)
        self._write_data()
        self.template = root / "template"
        self._make_template()
        warming = [self.arguments(COMMANDS[name].arguments) for name in ("eval", "search", "align")]
        forks.warm(self.case((*warming, ("verify", "--artifacts", "artifacts")), self.fresh()))

    def _write_data(self) -> None:
        english = [f"a {word} cat {'runs ' * (n % 3)}" for n, word in enumerate(self._words)]
        french = [f"un chat {word} {'court ' * (n % 3)}" for n, word in enumerate(self._words)]
        for language, texts in (("en", english), *((code, french) for code in LANGUAGES)):
            rows = [{"image": f"{n}.png", "captions": [text]} for n, text in enumerate(texts)]
            write_captions(self.data, language, *rows)
        (self.data / "images").mkdir()
        for number in range(PICTURES):
            colour = (20 * number, 255 - 20 * number, 50 + 7 * number)
            Image.new("RGB", (8, 8), colour).save(self.data / f"images/{number}.png")
        pairs = list(zip(english, french, strict=True))
        rows = "".join(f"{a.strip()} {n}\t{b.strip()} {n}\n" for n, (a, b) in enumerate(pairs))
        (self.root / "sentences.tsv").write_text(f"en\tfr\n{rows}")
        (self.root / "captions.txt").write_text("".join(f"{text}\n" for text in french))
        rows = "".join(f"{b.strip()}\t{a.strip()}\n" for a, b in pairs)
        (self.root / "translations.tsv").write_text(rows)

    @cached_property
    def _words(self) -> list[str]:
        return [" ".join((_COLOURS[n % 4], _COLOURS[n // 4])) for n in range(PICTURES)]

    def _make_template(self) -> None:
        self.template.mkdir()
        given = [
            self.arguments((*TRAIN, "--lang", language, "--shots", "4", "--name", name, *_DATA))
            + (("--backbone", str(self.backbone)) if language == "de" else ())
            for language, name in (("de", "earlier"), ("fr", "other"), ("fr", "earlier"))
        ]
        ran = self.run(*given, folder=self.template)
        assert [done.code for done in ran.done] == [0] * len(given), ran.done[-1].err
        for kind in ("native", "peft", "opendelta"):
            export = ("export-delta", "--lang", "fr", "--format", kind)
            out = ("--out", str(self.root / "exported"))
            ran = self.run(self.arguments((*export, *out)), folder=self.template)
            assert ran.done[0].code == 0, ran.done
            (folder,) = (self.root / "exported").glob("*/*")
            (self.root / "given").mkdir(exist_ok=True)
            folder.rename(self.root / "given" / kind)
            shutil.rmtree(self.root / "exported")

    def run(self, *steps: Step, folder: Path, fault: Fault | None = None) -> Ran:
        """Run steps in a folder, as one child."""
        return self.forks.run(self.case(steps, folder, fault))[0]

    def fresh(self, command: str = "") -> Path:
        """A folder of its own for a command, with the earlier deltas in it."""
        self._count += 1
        folder = self.root / "cases" / str(self._count)
        shutil.copytree(self.template, folder)
        if command and COMMANDS[command].alone:
            shutil.rmtree(folder / "artifacts")
        return folder

    def copy(self, folder: Path) -> Path:
        """A copy of a folder, with the times of its files."""
        self._count += 1
        return Path(shutil.copytree(folder, self.root / "cases" / f"{self._count}"))

    def case(self, steps: tuple[Step, ...], folder: Path, fault: Fault | None = None) -> Case:
        """Steps for a child."""
        return Case(steps, folder, fault, (("XCLIPT_CACHE", "cache"),))

    def at_once(self, commands: list[tuple[str, ...]], folder: Path) -> list[Ran]:
        """Run commands in one folder, a child each."""
        return self.forks.run(*(self.case((command,), folder) for command in commands))

    def discard(self, folder: Path) -> None:
        """Take away a folder that served its purpose."""
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)

    @cached_property
    def _earlier(self) -> dict[str, bytes]:
        return matching(contents(self.template), ("artifacts/deltas/*", "artifacts/xclipt.yaml"))

    def earlier(self, command: str) -> dict[str, bytes]:
        """What a command must leave as it is: the mark and the deltas that were there before."""
        if COMMANDS[command].alone:
            return {}
        own = ("fr/current", *(["/fr/other/"] if COMMANDS[command].replaces else []))
        return {
            path: data
            for path, data in self._earlier.items()
            if not any(part in path for part in own)
        }

    def arguments(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """A command line with the places of this world in it."""
        places = {
            "data": self.data,
            "sentences": self.root / "sentences.tsv",
            "captions": self.root / "captions.txt",
            "translations": self.root / "translations.tsv",
            "given": self.root / "given",
            "backbone": self.backbone,
        }
        filled = tuple(word.format(**places) for word in command)
        return (*filled, "--artifacts", "artifacts")


def _settled(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".safetensors":  # what a header notes, safetensors writes in any order
        size = int.from_bytes(data[:8], "little")
        with contextlib.suppress(ValueError):  # damaged
            header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True)
            return header.encode() + data[8 + size :]
        return data
    return _TIMES.sub(b"", data)


_TIMES = re.compile(rb"^(seconds|created): .*$|in \d+ s, seed|<time.*?</time>", re.MULTILINE)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder; what tells the time of day is left out."""
    return {
        str(path.relative_to(folder)): _settled(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != LOG
    }


def matching(found: dict[str, bytes], patterns: tuple[str, ...]) -> dict[str, bytes]:
    """Of files by path, those of some patterns."""
    import fnmatch

    return {
        path: data
        for path, data in found.items()
        if any(fnmatch.fnmatch(path, pattern.replace("**/", "")) for pattern in patterns)
    }


def told(text: str) -> object:
    """Standard output with ``--json``."""
    return json.loads(text)
