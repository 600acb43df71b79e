"""Teach one frozen image-text model a new language with a tiny delta.

>>> import xclipt
>>> model = xclipt.load("xclipt-artifacts")  # doctest: +SKIP
>>> model.encode_text(["un chat noir"], language="fr")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from xclipt.errors import FallbackWarning, XcliptError

if TYPE_CHECKING:
    from xclipt.serving.model import Model, load

__version__ = "0.1.0"
__all__ = ["FallbackWarning", "Model", "XcliptError", "load"]


def __getattr__(name: str) -> Any:
    # They bring torch, which takes seconds to import.
    if name in ("Model", "load"):
        from xclipt.serving import model

        return getattr(model, name)
    raise AttributeError(f"module 'xclipt' has no attribute '{name}'")
