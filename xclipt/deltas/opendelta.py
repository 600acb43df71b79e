"""OpenDelta 0.3.2, made to import on current transformers.

OpenDelta is no longer maintained. It imports names that transformers has since moved or dropped,
a client of a model hub that is gone, and ``turtle``, which needs Tk. None of them is used by what
xclipt asks of it, so stand-ins are there while it is imported, and only then.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


@cache
def import_opendelta() -> Any:
    """The ``opendelta`` module, imported once.

    Returns:
        The module. Its classes wrap ``forward`` of the modules that they are put into.
    """
    with _stand_ins():
        import opendelta
    # It announces every module that it inserts through a handler of its own.
    logging.getLogger("opendelta").setLevel(logging.ERROR)
    return opendelta


@contextmanager
def _stand_ins() -> Iterator[None]:
    distilbert: Any = import_module("transformers.models.distilbert.modeling_distilbert")
    modules: dict[str, dict[str, Any]] = {
        "transformers.deepspeed": {
            "deepspeed_config": lambda: None,
            "is_deepspeed_zero3_enabled": lambda: False,
        },
        "transformers.file_utils": {"PushToHubMixin": type("PushToHubMixin", (), {})},
        "DeltaCenter": {"OssClient": type("OssClient", (), {})},
        "turtle": {"back": None},
    }
    before = {name: sys.modules.get(name) for name in modules}
    for name, attributes in modules.items():
        stand_in = ModuleType(name)
        vars(stand_in).update(attributes)
        sys.modules[name] = stand_in
    renamed = not hasattr(distilbert, "MultiHeadSelfAttention")
    if renamed:
        distilbert.MultiHeadSelfAttention = distilbert.DistilBertSelfAttention
    try:
        yield
    finally:
        if renamed:
            del distilbert.MultiHeadSelfAttention
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
