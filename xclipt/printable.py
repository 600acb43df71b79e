"""Text of others made fit to be shown: it may hold what steers a terminal."""

import re

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: ESC and what else begins a sequence
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text
    "\u2028\u2029\ud800-\udfff]"  # ends of lines, and bytes of a name that are no UTF-8
)


def visible(text: str) -> str:
    r"""``text`` in one line, with ``\x1b`` and the like for what would act instead of being read.

    Marks that letters need, such as the joiners of Persian and of Indian scripts, stay.
    """
    return _UNSEEN.sub(lambda match: _escaped(match[0]), text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which it stays."""
    return "\n".join(map(visible, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
