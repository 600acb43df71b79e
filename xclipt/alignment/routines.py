"""The routines: which two texts are aligned, and what text is embedded at inference.

=========== ================================== ================================== =========
routine     trained text                       partner                            inference
=========== ================================== ================================== =========
1           human target caption               human English caption              target
2           human target caption               English caption, machine-          target
                                               translated into the language
3           target caption, machine-           human English caption              to-en
            translated into English
none        human target caption               -                                  target
            ("baseline 1")
none, to-en target caption, machine-           -                                  to-en
            translated into English
            ("baseline 2")
=========== ================================== ================================== =========

(Zhang, Wang & Wang, Findings of EMNLP 2023; training and inference always see the same kind of
text.)
"""

from dataclasses import dataclass

from xclipt.errors import UsageError, XcliptError

ROUTINES: dict[str, int | None] = {"1": 1, "2": 2, "3": 3, "none": None}
"""Routines by the name that ``--routine`` knows."""

TARGET, TO_EN = "target", "to-en"
TEXTS = (TARGET, TO_EN)
"""What ``--text`` knows: the text as it is, or its English translation."""


@dataclass(frozen=True)
class Direction:
    """A way to translate: from one language into another, ISO 639-1 codes."""

    source: str
    target: str

    @property
    def option(self) -> str:
        """As ``xclipt translate --direction`` calls it."""
        return "to-en" if self.target == "en" else "from-en"

    @property
    def language(self) -> str:
        """The one of the two that is not English."""
        return self.source if self.target == "en" else self.target


def inference_text(routine: int | None, asked: str | None = None) -> str:
    """What a delta of the routine embeds: ``target`` or ``to-en``.

    Args:
        routine: 1, 2, 3 or ``None``.
        asked: What the user wants; only ``None`` of the routines leaves a choice.

    Raises:
        UsageError: The routine embeds the other one.
        XcliptError: There is no such text or routine.
    """
    if routine not in ROUTINES.values():
        raise XcliptError(f"--routine {routine}: choose {', '.join(ROUTINES)}")
    if asked not in (None, *TEXTS):
        raise XcliptError(f"--text {asked}: choose {', '.join(TEXTS)}")
    if routine is None:
        return asked or TARGET
    own = TO_EN if routine == 3 else TARGET
    if asked not in (None, own):
        raise UsageError(
            f"--text {asked}: routine {routine} trains and searches with "
            + (
                "text translated into English; leave --text out"
                if own == TO_EN
                else "the target text; use --routine 3, or --routine none for the baseline"
            )
        )
    return own


def translated_direction(routine: int | None, text: str, language: str) -> Direction | None:
    """What training needs translated: ``None`` where human captions are all."""
    if text == TO_EN:
        return Direction(language, "en")
    return Direction("en", language) if routine == 2 else None


def check_language(routine: int | None, text: str, language: str) -> None:
    """Refuse English where it would be aligned with, or translated into, itself.

    Raises:
        XcliptError: It is English, and the routine needs another language.
    """
    if language != "en":
        return
    if routine is not None:
        raise XcliptError(f"--lang en: routine {routine} aligns with English; use --routine none")
    if text == TO_EN:
        raise XcliptError("--lang en: English needs no translation; use --text target")
