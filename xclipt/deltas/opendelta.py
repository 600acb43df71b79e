"""OpenDelta 0.3.2, made to import on current transformers.

OpenDelta is no longer maintained. It imports names that transformers has since moved or dropped,
a client of a model hub that is gone, and ``turtle``, which needs Tk; and models that its prefixes
tell apart, which take a second to import. None of them is used by what xclipt asks of it, so
stand-ins are there while it is imported, and only then.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

_MODELS = (
    ("transformers.models.bart.modeling_bart", ["BartAttention"]),
    ("transformers.models.distilbert.modeling_distilbert", ["MultiHeadSelfAttention"]),
    ("transformers.models.gpt2.modeling_gpt2", ["GPT2Attention"]),
    ("transformers.models.roberta.modeling_roberta", ["RobertaAttention"]),
    ("transformers.models.t5", ["T5ForConditionalGeneration"]),
    ("transformers.models.t5.modeling_t5", ["T5Attention", "T5LayerSelfAttention"]),
)


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
    modules: dict[str, dict[str, Any]] = {
        **{module: {name: type(name, (), {}) for name in names} for module, names in _MODELS},
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
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
