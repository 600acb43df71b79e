"""Put what xclipt promises to the test, all of it or a sample, and print counts.

``python -m tests.reliability`` runs all of it; ``--share 0.02`` a sample that a seed draws.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.reliability import kernel
from tests.reliability.crowds import Crowds
from tests.reliability.damage import HARMS, KINDS, Damage
from tests.reliability.processes import Forks, prepared
from tests.reliability.readers import READERS, Files, fuzz
from tests.reliability.surroundings import Surroundings, cannot_mount
from tests.reliability.trials import ERRORS, Tally, Trials
from tests.reliability.worlds import COMMANDS, Command, World

MOMENTS, DAMAGED, FUZZED = 200, 20, 500
_LEAST_SHARE = 0.3
Part = tuple[str, Callable[[], Tally]]
Commands = dict[str, Command]


def kills(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """SIGKILL at write events."""
    trials = Trials(world, seed, share)
    for name in commands:
        yield f"SIGKILL, {name}", partial(trials.kills, name)


def signals(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """SIGINT and SIGTERM at write events."""
    trials = Trials(world, seed, share)
    for name in commands:
        yield f"SIGINT or SIGTERM, {name}", partial(trials.signals, name)


def moments(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """SIGKILL, SIGINT and SIGTERM at any moment."""
    trials = Trials(world, seed, share)
    yield "any moment", partial(trials.moments, round(max(1, share * MOMENTS)))


def errors(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """Calls that fail; of a sample's commands each has one of the errors."""
    trials, draw = Trials(world, seed, share), random.Random(seed)
    for name in commands:
        for error in ERRORS if share == 1 else (draw.choice(ERRORS),):
            yield f"{error}, {name}", partial(trials.faults, name, error)
        yield (
            f"ENOSPC from there on, {name}",
            partial(trials.faults, name, "ENOSPC", lasting=True),
        )


def surroundings(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """A file system that is full or read-only, and a directory that goes away."""
    around, trials, draw = Surroundings(world), Trials(world, seed, share), random.Random(seed)
    for name, command in commands.items():
        if command.alone or command.slow or draw.random() > max(share, _LEAST_SHARE):
            continue
        if not cannot_mount():
            yield f"full file system, {name}", partial(around.full, name, share)
            yield f"read-only, {name}", partial(around.read_only, name)
        yield f"vanishes, {name}", partial(_vanishing, around, trials, name)


def _vanishing(around: Surroundings, trials: Trials, name: str) -> Tally:
    return around.vanishing(name, trials.sample(name))


def damage(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """Damaged files."""
    damaged, count = Damage(world, seed), max(1, round(share * DAMAGED))
    for kind in KINDS:
        for harm in HARMS:
            yield f"{kind}, {harm}", partial(damaged.of, kind, harm, count)


def crowds(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """Eight processes at once."""
    crowd = Crowds(world, seed)
    yield "a language each", crowd.different_languages
    yield "one request", crowd.one_request
    yield "one name, many requests", crowd.one_name
    yield "readers and writers", lambda: crowd.readers(3 if share < 1 else 10)
    yield "locks of the dead", crowd.dead


def fuzzing(world: World, seed: int, share: float, commands: Commands) -> Iterator[Part]:
    """Files that are not what they should be, for every reader."""
    files, examples = Files(world.root / "files"), max(1, round(share * FUZZED))

    def fuzzed(name: str) -> Tally:
        wrong = fuzz(name, files, examples, seed)
        return Tally(Counter(cases=examples), [wrong] if wrong else [])

    for name in READERS:
        yield name, partial(fuzzed, name)


PARTS: dict[str, Callable[[World, int, float, Commands], Iterator[Part]]] = {
    part.__name__: part
    for part in (kills, signals, moments, errors, surroundings, damage, crowds, fuzzing)
}


def run(
    world: World,
    parts: list[str],
    seed: int,
    share: float,
    commands: Commands = COMMANDS,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Tally]:
    """Run parts in a world; what came of each, by its name.

    Args:
        world: The world.
        parts: Of :data:`PARTS`.
        seed: What samples are drawn with.
        share: Of the cases so many are tried; 1 is all.
        commands: Which of them.
        tell: Told of every command or kind of file that is done with.
    """
    tallies: dict[str, Tally] = {}
    for part in parts:
        whole, began = Tally(), time.monotonic()
        for name, cases in PARTS[part](world, seed, share, commands):
            found = cases()
            whole += found
            counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
            tell(f"{name}: {counts}; broken: {len(found.broken)}")
            for broken in found.broken:
                tell(f"  BROKEN {broken}")
        tallies[part] = whole
        tell(f"== {part}: {dict(whole.counts)}, {time.monotonic() - began:.0f} s")
    return tallies


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ", ".join(PARTS))
    parser.add_argument(
        "--commands", default="", help="some alone, parted by semicolons: " + "; ".join(COMMANDS)
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the cases so many (1: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; in memory is quickest")
    given = parser.parse_args()
    if reason := kernel.unavailable():
        sys.stderr.write(f"{reason}\n")
        return 2
    if reason := cannot_mount():
        sys.stderr.write(f"no file systems that are full or read-only: {reason}\n")
    with (
        tempfile.TemporaryDirectory(dir=given.folder, prefix="reliability-") as folder,
        Forks(prepared) as forks,
    ):
        world = World(Path(folder), forks)
        tallies = run(
            world,
            given.parts.split(","),
            given.seed,
            given.share,
            {name: COMMANDS[name] for name in filter(None, given.commands.split(";"))} or COMMANDS,
            lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush(),
        )
    broken = sum(len(tally.broken) for tally in tallies.values())
    cases = sum(tally.counts["cases"] + tally.counts["processes"] for tally in tallies.values())
    sys.stdout.write(f"{cases} cases, {broken} promises broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
