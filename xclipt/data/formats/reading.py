"""What a user says of own data that the data do not say themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xclipt.errors import UsageError, XcliptError
from xclipt.languages import find


@dataclass(frozen=True)
class Reading:
    """How to read data where more than one way is possible.

    Attributes:
        caption_lang: The language of captions that nothing else names one for.
        encoding: The code page of text that is not Unicode.
        columns: Which column is what: by ``image``, ``caption``, ``language`` or ``split``, or by
            the code of the language whose captions a column holds.
    """

    caption_lang: str | None = None
    encoding: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def language(self) -> str | None:
        """:attr:`caption_lang` as an ISO 639-1 code.

        Raises:
            UsageError: It is no language.
        """
        if self.caption_lang is None:
            return None
        try:
            return find(self.caption_lang)
        except XcliptError as error:
            raise UsageError(
                error.message, field="caption_lang", value=self.caption_lang
            ) from error

    def require_language(self, where: object) -> str:
        """:attr:`language`, which ``where`` cannot do without.

        Raises:
            UsageError: It was not said, or is no language.
        """
        language = self.language
        if language is None:
            raise UsageError(
                f"{where}: nothing says which language its captions are in; "
                "`caption_lang=CODE` does"
            )
        return language

    def refuse(self, where: str, *names: str) -> None:
        """Refuse what was said and has no use: ``names`` of this class's fields.

        Raises:
            UsageError: One of them is set.
        """
        for name in names:
            if value := getattr(self, name):
                said = value if isinstance(value, str) else "=".join(next(iter(value.items())))
                raise UsageError(f"{where} needs none; leave it out", field=name, value=said)
