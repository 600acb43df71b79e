"""Text of others made fit to be shown: it may hold what steers a terminal."""

import re
import unicodedata

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: ESC and what else begins a sequence
    "\u202a-\u202e\u2066-\u2069"  # what turns the direction of the text around it
    "\u2028\u2029\ud800-\udfff]"  # ends of lines, and bytes of a name that are no UTF-8
)


def visible(text: str) -> str:
    r"""``text`` in one line, with ``\x1b`` and the like for what would act instead of being read.

    Marks that writing needs stay: the joiners of Persian and of Indian scripts, and the three that
    stand for a letter of one direction (U+200E, U+200F, U+061C). In Arabic and Hebrew they keep a
    full stop or a bracket where it belongs, and no letter of another text is moved by them.
    """
    return _UNSEEN.sub(lambda match: _escaped(match[0]), text)


def spreadsheet_cell(text: str) -> str:
    """A cell of text that is of one line, and that no spreadsheet calculates."""
    shown = visible(text)
    # Spreadsheets pass over blanks before a formula, and take fullwidth signs for theirs.
    begins = unicodedata.normalize("NFKC", shown.lstrip(" ")[:1])
    return f"'{shown}" if begins and begins in "=+-@" else shown


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which it stays."""
    return "\n".join(map(visible, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
