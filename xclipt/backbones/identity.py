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
    """

    id: str
    revision: str
    fingerprint: str
