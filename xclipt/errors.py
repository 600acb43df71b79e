"""What xclipt raises for anything a user can put right, and what it warns of."""


class XcliptError(Exception):
    """One line that names the file or option at fault and what to do about it."""


class UsageError(XcliptError):
    """The same of options that contradict each other: wrong usage whatever the data."""


class FallbackWarning(UserWarning):
    """A language has no delta, and its texts are encoded with the frozen base instead."""
