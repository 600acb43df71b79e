"""The one exception that xclipt raises for anything a user can put right."""


class XcliptError(Exception):
    """One line that names the file or option at fault and what to do about it."""
