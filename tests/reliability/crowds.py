"""Eight processes on one directory."""

import random
from pathlib import Path

from tests.reliability.processes import Fault
from tests.reliability.trials import VERIFY, Tally
from tests.reliability.worlds import LANGUAGES, TRAIN, World, contents, matching

_DATA = ("--dataset", "{data}", "--shots", "4")


class Crowds:
    """Many at once in one world.

    Args:
        world: The world.
        seed: What is drawn with.
    """

    def __init__(self, world: World, seed: int = 0) -> None:
        self._world, self._random = world, random.Random(seed)

    def different_languages(self) -> Tally:
        """Eight trainings, a language each: the deltas are those of eight one after the other."""
        commands = [self._train(language, "many") for language in LANGUAGES]
        alone = self._world.fresh()
        for command in commands:
            assert self._world.run(command, folder=alone).done[0].code == 0
        return self._at_once(commands, contents(alone))

    def one_request(self) -> Tally:
        """Eight trainings of the same request: all end well with the same delta."""
        command = self._train("fr", "many")
        alone = self._world.fresh()
        assert self._world.run(command, folder=alone).done[0].code == 0
        return self._at_once([command] * 8, contents(alone))

    def one_name(self) -> Tally:
        """Eight requests that ask for one name: the delta is one of theirs, whole."""
        tally = Tally()
        folder = self._world.fresh()
        commands = [(*self._train("fr", "many"), "--seed", f"{seed}") for seed in range(8)]
        for ran in self._world.at_once(commands, folder):
            tally.counts["processes"] += 1
            (done,) = ran.done
            if done.code and "is another delta of fr" not in done.err:
                tally.broken.append(f"one name: {done.err!r}")
        self._sound(tally, "one name", folder)
        return tally

    def readers(self, rounds: int = 3) -> Tally:
        """Five read over and over what three write."""
        tally = Tally()
        folder = self._world.fresh()
        reading = [
            ("status", "--artifacts", "artifacts"),
            VERIFY,
            self._world.arguments(("eval", "--lang", "fr", "--split", "full", *_DATA[:2])),
            self._world.arguments(
                ("search", "un chat", "--lang", "fr", "--images", "{data}/images")
            ),
            self._world.arguments(("export-delta", "--lang", "fr")),
        ]
        writing = [
            [(*self._train("fr", f"{n}"), "--seed", f"{seed}", "--force") for seed in range(rounds)]
            for n in range(3)
        ]
        cases = [(command,) * (2 * rounds) for command in reading] + [tuple(w) for w in writing]
        for ran in self._world.forks.run(*(self._world.case(steps, folder) for steps in cases)):
            tally.counts["processes"] += 1
            tally.counts["commands"] += len(ran.done)
            for done in ran.done:
                overtaken = "cannot read the delta (No such file" in done.err
                tally.counts["overtaken"] += overtaken
                if done.code and not overtaken:
                    tally.broken.append(f"readers: {done.err!r} {done.out}")
        self._sound(tally, "readers", folder)
        return tally

    def dead(self) -> Tally:
        """Eight are killed while they write; the next is hindered by none of their locks."""
        tally = Tally()
        folder = self._world.fresh()
        cases = [
            self._world.case(
                (self._train(language, "many"),),
                folder,
                Fault("SIGKILL", at=self._random.randrange(60)),
            )
            for language in LANGUAGES
        ]
        for ran in self._world.forks.run(*cases):
            tally.counts["processes"] += 1
            tally.counts["killed"] += ran.signal == 9
        alone = self._world.fresh()
        commands = [self._train(language, "many") for language in LANGUAGES]
        for command in commands:
            for where in (folder, alone):
                done = self._world.run(command, folder=where).done[0]
                if done.code:
                    tally.broken.append(f"dead: {done.err!r}")
        if _deltas(contents(folder)) != _deltas(contents(alone)):
            tally.broken.append("dead: the deltas differ")
        self._sound(tally, "dead", folder)
        return tally

    def _train(self, language: str, name: str) -> tuple[str, ...]:
        command = (*TRAIN, "--lang", language, "--name", name, *_DATA)
        return self._world.arguments(command)

    def _at_once(self, commands: list[tuple[str, ...]], wanted: dict[str, bytes]) -> Tally:
        tally = Tally()
        folder = self._world.fresh()
        for ran in self._world.at_once(commands, folder):
            tally.counts["processes"] += 1
            (done,) = ran.done
            if done.code:
                tally.broken.append(f"at once: {done.err!r}")
        if _deltas(contents(folder)) != _deltas(wanted):
            tally.broken.append("at once: the deltas are not those of one after the other")
        self._sound(tally, "at once", folder)
        return tally

    def _sound(self, tally: Tally, what: str, folder: Path) -> None:
        (done,) = self._world.run(VERIFY, folder=folder).done
        litter = sorted(path.name for path in folder.rglob(".*"))
        if done.code or litter:
            tally.broken.append(f"{what}: verify {done.out or done.err}, litter {litter}")


def _deltas(found: dict[str, bytes]) -> dict[str, bytes]:
    return matching(found, ("artifacts/deltas/*",))
