"""What every engine is to the rest of xclipt."""

from collections.abc import Sequence
from typing import Protocol

from xclipt.translation.store import Translator


class Engine(Protocol):
    """Translates texts of one language into one other.

    Attributes:
        translator: Who makes the translations; the key that they are kept under.
        about: One line for the user: what it is, and why it was taken if it was chosen.
        batch_size: How many texts it likes to be given at once.
        by_length: Whether it works faster on texts of about one length.
    """

    @property
    def translator(self) -> Translator: ...
    @property
    def about(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def by_length(self) -> bool: ...

    def covers(self, text: str) -> bool:
        """Whether it has a translation of ``text`` to give."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation a text, in order. The first call may load a model.

        Raises:
            XcliptError: It failed, or gave more or fewer translations than texts.
        """
