"""Apertium, the rule-based translator that Debian packages: one pair of languages, or a chain.

The program is fed its own stream format, each text ended by a NUL that makes every stage start
anew. Lines would not do: words move from one to the next, and a translation depends on its
neighbours.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from xclipt.errors import FailedError, XcliptError
from xclipt.languages import name as language_name
from xclipt.languages import resolve
from xclipt.translation.engines.engine import EngineKind, EngineRequest, TranslationTask
from xclipt.translation.store import Translator

NAME = "apertium"
PROGRAM = NAME
BATCH_SIZE = 200
SECONDS_A_TEXT = 5.0
"""What a text may take before the program is stopped; a minute is added. It takes milliseconds."""

_MODE = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")
_SPECIAL = re.compile(r"([\[\]{}^$/\\@<>])")
_ESCAPED = re.compile(r"\\(.)")
_MODES_FOLDER = Path("/usr/share/apertium/modes")
# As apertium-destxt ends a paragraph: a full stop for the rules to see, and a mark to find it by.
_END = ".[]"


def is_installed() -> bool:
    """Whether the program is there."""
    return shutil.which(PROGRAM) is not None


def list_modes() -> dict[str, tuple[str, str]]:
    """The pairs that are installed: two ISO 639-1 codes by the program's name of the pair.

    Variants, such as ``spa-eng_US``, are left out.

    Raises:
        XcliptError: The program is not there, or fails.
    """
    if not is_installed():
        raise _failure(
            "the program is not installed; apt install apertium and a pair such as apertium-eng-spa"
        )
    modes = {}
    for line in _run([PROGRAM, "-l"], b"", 60).decode(errors="replace").split():
        if match := _MODE.fullmatch(line):
            try:
                modes[line] = (resolve(match[1]), resolve(match[2]))
            except XcliptError:
                continue
    return modes


def find_chain(modes: dict[str, tuple[str, str]], source: str, target: str) -> tuple[str, ...]:
    """The shortest chain of pairs from one language to another; of equal ones the first by name.

    Empty where there is none.
    """
    chains: deque[tuple[str, tuple[str, ...]]] = deque([(source, ())])
    seen = {source}
    while chains:
        reached, chain = chains.popleft()
        if reached == target:
            return chain
        for mode in sorted(modes):
            reads, writes = modes[mode]
            if reads == reached and writes not in seen:
                seen.add(writes)
                chains.append((writes, (*chain, mode)))
    return ()


class ApertiumEngine:
    """The program with one chain of pairs, started anew for every batch.

    Args:
        source: ISO 639-1 code of the texts.
        target: ISO 639-1 code of the translations.
        chain: Names of pairs with spaces between them, such as ``fra-cat cat-eng``; found without.
        batch_size: Texts a start.
        why: Why it was taken, for the user.

    Raises:
        XcliptError: The program or a pair is not there.
    """

    by_length = False

    def __init__(
        self,
        source: str,
        target: str,
        chain: str | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        why: str = "",
    ) -> None:
        modes = list_modes()
        self._chain = tuple(chain.split()) if chain else find_chain(modes, source, target)
        installed = ", ".join(sorted(modes)) or "none"
        if not self._chain:
            raise _failure(
                f"no pairs lead from {language_name(source)} to {language_name(target)} "
                f"(installed: {installed}); apt install apertium-X-Y, see apt-cache search "
                "apertium"
            )
        reached = source
        for mode in self._chain:
            reads, writes = modes.get(mode, ("", ""))
            if reads != reached:
                raise XcliptError(
                    f"'{mode}' does not lead on from '{reached}'; installed are {installed}",
                    field="model",
                    value=chain,
                )
            reached = writes
        if reached != target:
            raise XcliptError(
                f"leads to '{reached}', not to '{target}'", field="model", value=chain
            )
        self.batch_size = batch_size
        self.translator = Translator(NAME, " ".join(self._chain), _revision(self._chain))
        self.about = f"{NAME}: {', then '.join(self._chain)}{why}"

    def covers(self, text: str) -> bool:
        return True

    def translate(self, texts: Sequence[str]) -> list[str]:
        translated = [" ".join(text.replace("\0", " ").split()) for text in texts]
        for mode in self._chain:
            translated = _translate_once(mode, translated)
        return translated


def _open(request: EngineRequest, task: TranslationTask, why: str = "") -> ApertiumEngine:
    if request.beams is not None:
        raise XcliptError(f"goes with transformers and ctranslate2, not with {NAME}", field="beams")
    return ApertiumEngine(
        task.source,
        task.target,
        request.model,
        batch_size=request.batch_size or BATCH_SIZE,
        why=why,
    )


def _at_hand(request: EngineRequest, task: TranslationTask) -> ApertiumEngine | None:
    if not is_installed() or not find_chain(list_modes(), task.source, task.target):
        return None
    why = " (auto: no translations beside the data set, no model in the hub's cache)"
    return _open(request, task, why)


APERTIUM = EngineKind(NAME, _open, _at_hand)


def _translate_once(mode: str, texts: Sequence[str]) -> list[str]:
    stream = "".join(_SPECIAL.sub(r"\\\1", text) + _END + "\0" for text in texts)
    command = [PROGRAM, "-f", "none", "-z", "-u", mode]
    output = _run(command, stream.encode(), 60 + SECONDS_A_TEXT * len(texts))
    # The stages may end with NULs of their own.
    parts = output.decode(errors="replace").split("\0")
    made, rest = parts[: len(texts)], "".join(parts[len(texts) :])
    if len(made) < len(texts) or rest.strip() or not all(part.endswith("[]") for part in made):
        raise _failure(
            f"{mode} did not give one translation a text for {len(texts)} texts; take another "
            "`engine`, or a smaller `batch_size` to find out which text"
        )
    return [_ESCAPED.sub(r"\1", part.removesuffix("[]").removesuffix(".")).strip() for part in made]


def _run(command: Sequence[str], data: bytes, seconds: float) -> bytes:
    # A session of its own: the program is a shell script, and stopping that leaves its pipeline.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output, remarks = process.communicate(data, seconds)
        except subprocess.TimeoutExpired:
            raise _failure(
                f"{' '.join(command)} did not end within {seconds:.0f} s; take a smaller "
                "`batch_size`"
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        line = remarks.decode(errors="replace").strip().split("\n")[0] or "no message"
        raise _failure(f"{' '.join(command)} failed with {process.returncode} ({line})")
    return output


def _failure(what: str) -> XcliptError:
    return FailedError(what, field="engine", value=NAME)


def _revision(chain: Sequence[str]) -> str:
    # The packages' data decide the output, so their content is the revision.
    digest = hashlib.sha256(_run([PROGRAM, "-V"], b"", 60))
    for mode in chain:
        try:
            recipe = (_MODES_FOLDER / f"{mode}.mode").read_bytes()
        except OSError:
            continue
        digest.update(recipe)
        for name in re.findall(rb"'(/[^']+)'", recipe):
            path = Path(os.fsdecode(name))
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
