"""Every kind of file of an artifact directory, damaged: caught, or as if nothing had been."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.processes import Done, Fault
from tests.reliability.trials import VERIFY, Tally
from tests.reliability.worlds import COMMANDS, World, contents, matching

_CURRENT = ("eval", "--lang", "en,fr,de", "--split", "full", "--dataset", "{data}", "--json")
_MEASURE = (*_CURRENT, "--delta", "earlier")
_SEARCH = ("search", "un chat noir", "--lang", "fr", "--images", "{data}/images", "--json")
_TO_ENGLISH = (
    *("align", "--lang", "fr", "--routine", "3", "--shots", "4", "--dataset", "{data}", "--json"),
)
_ALIGN = (*COMMANDS["align"].arguments, "--json")
_TRAIN = (*COMMANDS["train-delta"].arguments, "--json")
_SENTENCES = (*COMMANDS["train-delta --parallel"].arguments, "--json", "--name", "sentences")
_IMPORT = ("import-delta", "artifacts/exports/peft/fr/earlier", "--name", "back", "--json")
_DELTAS, _ALIGNMENTS = "artifacts/deltas/*", "artifacts/alignments/*"


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        pattern: Where it is.
        used: The command that reads it.
        gives: Patterns of what that writes.
    """

    pattern: str
    used: tuple[str, ...]
    gives: str = ""


KINDS: dict[str, FileKind] = {
    "mark": FileKind("artifacts/xclipt.yaml", _MEASURE),
    "current": FileKind("artifacts/deltas/fr/current", _CURRENT),
    "manifest": FileKind("artifacts/deltas/fr/earlier/manifest.yaml", _MEASURE),
    "weights": FileKind("artifacts/deltas/fr/earlier/delta-*.safetensors", _MEASURE),
    "state of a training": FileKind(
        "artifacts/deltas/fr/new/training.safetensors", _TRAIN, _DELTAS
    ),
    "features of pictures": FileKind("artifacts/features/images-*/*.safetensors", _MEASURE),
    "features of captions": FileKind("artifacts/features/texts-*/*.safetensors", _MEASURE),
    "features of sentences": FileKind("artifacts/features/pairs-*/*.npy", _SENTENCES, _DELTAS),
    "index": FileKind("artifacts/indexes/*.safetensors", _SEARCH),
    "translator": FileKind("artifacts/translations/*/*/translator.yaml", _TO_ENGLISH, _ALIGNMENTS),
    "translations": FileKind("artifacts/translations/*/*/*.jsonl", _TO_ENGLISH, _ALIGNMENTS),
    "alignment's manifest": FileKind(
        "artifacts/alignments/*/*routine1*/manifest.yaml", _ALIGN, _ALIGNMENTS
    ),
    "alignment's pairs": FileKind("artifacts/alignments/*/*routine1*/*.jsonl", _ALIGN, _ALIGNMENTS),
    "sentences' card": FileKind("artifacts/parallel/*/*/pairs.yaml", _SENTENCES, _DELTAS),
    "sentences": FileKind("artifacts/parallel/*/*/pairs.tsv", _SENTENCES, _DELTAS),
    "sentences' offsets": FileKind("artifacts/parallel/*/*/offsets.npy", _SENTENCES, _DELTAS),
    "export's weights": FileKind(
        "artifacts/exports/peft/fr/earlier/*.safetensors", _IMPORT, _DELTAS
    ),
    "export's settings": FileKind(
        "artifacts/exports/peft/fr/earlier/adapter_config.json", _IMPORT, _DELTAS
    ),
    "export's manifest": FileKind(
        "artifacts/exports/peft/fr/earlier/manifest.yaml", _IMPORT, _DELTAS
    ),
}


def _flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _permuted(data: bytes, draw: random.Random) -> bytes:
    """Lines of text in another order, or rows of numbers."""
    if b"\0" not in data:
        lines = data.splitlines(keepends=True)
        draw.shuffle(lines)
        return b"".join(lines)
    size = 32
    first = draw.randrange(max(1, len(data) // 2))
    second = draw.randrange(first, max(first + 1, len(data) - size))
    one, other = data[first : first + size], data[second : second + size]
    if second < first + size:
        return data
    return data[:first] + other + data[first + size : second] + one + data[second + size :]


HARMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped": _flipped,
    "cut": _cut,
    "emptied": lambda data, draw: b"",
    "permuted": _permuted,
}


class Damage:
    """Cases of damage in a directory that has a file of every kind.

    Args:
        world: The world.
        seed: What is drawn with.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self._world, self._random = world, random.Random(seed)
        self._rich = world.fresh()
        self._fill()
        self._expected: dict[tuple[str, ...], object] = {}

    def _fill(self) -> None:
        run, folder = self._world.run, self._rich
        for command in (
            *(_MEASURE, _SEARCH, COMMANDS["translate"].arguments, _TO_ENGLISH, _ALIGN, _SENTENCES),
            (*COMMANDS["export-delta peft"].arguments, "--delta", "earlier"),
        ):
            ran = run(self._world.arguments(command), folder=folder)
            assert ran.done[0].code == 0, ran
        train = self._world.arguments(_TRAIN)
        probe = self._world.copy(folder)
        events = run(train, folder=probe).events
        self._world.discard(probe)
        state = ("rename", KINDS["state of a training"].pattern)
        saved = [n for n, event in enumerate(events) if (event.kind, event.path) == state]
        run(train, folder=folder, fault=Fault("SIGKILL", saved[-1] + 1))

    def of(self, kind: str, harm: str, count: int) -> Tally:
        """So many cases of one harm to one kind of file."""
        tally, what = Tally(), KINDS[kind]
        wanted = self._expect(what)
        for _ in range(1 if harm == "emptied" else count):
            folder = self._world.copy(self._rich)
            path = self._random.choice(sorted(folder.glob(what.pattern)))
            before = path.read_bytes()
            after = HARMS[harm](before, self._random)
            if after == before:
                tally.counts["as it was"] += 1
                self._world.discard(folder)
                continue
            path.write_bytes(after)
            fault = self._judged(tally, what, folder, wanted)
            if fault:
                tally.broken.append(f"{kind} {harm} ({path.relative_to(folder)}): {fault}")
            else:
                self._world.discard(folder)
        return tally

    def _expect(self, what: FileKind) -> object:
        if what.used not in self._expected:
            folder = self._world.copy(self._rich)
            done = self._world.run(self._world.arguments(what.used), folder=folder).done[0]
            assert done.code == 0, done
            self._expected[what.used] = _result(done, folder, what)
            self._world.discard(folder)
        return self._expected[what.used]

    def _judged(self, tally: Tally, what: FileKind, folder: Path, wanted: object) -> str:
        """What is wrong with how the damage was met; empty where nothing is."""
        tally.counts["cases"] += 1
        run = self._world.run
        found = run(VERIFY, folder=folder).done
        used = run(self._world.arguments(what.used), folder=folder).done
        if not found or not used:
            return "died"
        verified, done = found[0], used[0]
        for one in (verified, done):
            if "Traceback" in one.err or "xclipt: unexpected" in one.err:
                return f"a bug: {one.err!r}"
        tally.counts["verify tells"] += verified.code != 0
        if done.code:
            tally.counts["refused at use"] += 1
            if sum(line.startswith("xclipt: ") for line in done.err.splitlines()) != 1:
                return f"no single line: {done.err!r}"
            return "" if verified.code else f"verify tells nothing, and use: {done.err!r}"
        if _result(done, folder, what) != wanted:
            return f"exit 0 and another result (verify {verified.code}): {done.err!r}"
        tally.counts["the same result"] += 1
        return ""


def _result(done: Done, folder: Path, what: FileKind) -> object:
    printed = _without(json.loads(done.out), {"seconds", "created", "path", "encoded"})
    return printed, matching(contents(folder), (what.gives,) if what.gives else ())


def _without(plain: object, keys: set[str]) -> object:
    """JSON without what tells of time and place, or of how much had to be done again."""
    if isinstance(plain, dict):
        return {key: _without(value, keys) for key, value in plain.items() if key not in keys}
    return [_without(value, keys) for value in plain] if isinstance(plain, list) else plain
