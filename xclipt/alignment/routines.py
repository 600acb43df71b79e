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

from xclipt.errors import UsageError, XcliptError
from xclipt.translation.store import Direction

ROUTINES: dict[str, int | None] = {"1": 1, "2": 2, "3": 3, "none": None}
"""Routines by name."""

TARGET, TO_EN = "target", "to-en"
TEXTS = (TARGET, TO_EN)
"""What is embedded: the text as it is, or its English translation."""


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
        raise XcliptError(f"choose {', '.join(ROUTINES)}", field="routine", value=routine)
    if asked not in (None, *TEXTS):
        raise XcliptError(f"choose {', '.join(TEXTS)}", field="text", value=asked)
    if routine is None:
        return asked or TARGET
    own = TO_EN if routine == 3 else TARGET
    if asked not in (None, own):
        advice = (
            "text translated into English; leave `text` out"
            if own == TO_EN
            else "the target text; use `routine=3`, or `routine=none` for the baseline"
        )
        raise UsageError(
            f"routine {routine} trains and searches with {advice}", field="text", value=asked
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
        raise XcliptError(
            f"routine {routine} aligns with English; use `routine=none`",
            field="language",
            value=language,
        )
    if text == TO_EN:
        raise XcliptError(
            "English needs no translation; use `text=target`", field="language", value=language
        )
