"""A model as a service over HTTP: what it answers, and how requests share passes of the tower."""

from importlib.util import find_spec

from xclipt.errors import XcliptError

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def require_extra() -> None:
    """Refuse to go on without the libraries of the extra; it imports none of them.

    Raises:
        XcliptError: Names the first that is missing.
    """
    for module in _NEEDED:
        if find_spec(module) is None:
            raise XcliptError(f"{module} is not installed: pip install 'xclipt[serve]'")
