"""How every page is made: from a template, into one file that needs nothing else."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from xclipt.languages import is_right_to_left
from xclipt.languages import name as language_name


def page_environment() -> Environment:
    """Templates of ``xclipt/report/templates``; what is put into them is escaped.

    All know ``language_name(code)`` and ``direction(code)``: ``rtl`` or ``ltr``, also of ``None``.
    """
    environment = Environment(
        loader=PackageLoader("xclipt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "language_name": language_name,
        "direction": lambda code: "rtl" if code and is_right_to_left(code) else "ltr",
    }
    return environment
