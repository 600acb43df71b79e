"""Which backbone something stands on."""

from dataclasses import dataclass

BUILTIN = "builtin"
"""The backbone that comes with xclipt."""


@dataclass(frozen=True)
class BackboneIdentity:
    """Which backbone this is.

    Attributes:
        id: ``builtin``, a hub id or a directory.
        revision: The version of what the weights came from.
        fingerprint: SHA-256 over weights, tokenizer and preprocessing.
        image_tower: The hub id or folder of the image tower, where one was named.
    """

    id: str
    revision: str
    fingerprint: str
    image_tower: str | None = None

    @property
    def named(self) -> str:
        """What the user called it by."""
        return self.id + (f" with the images of {self.image_tower}" if self.image_tower else "")

    def plain(self) -> dict[str, str]:
        """What files say of it: nothing of what was not named."""
        return {name: value for name, value in vars(self).items() if value is not None}
