"""Which engine: the one that is named, or the best of what is there."""

from collections.abc import Sequence

from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError
from xclipt.translation.engines.apertium import APERTIUM
from xclipt.translation.engines.ctranslate2 import CTRANSLATE2
from xclipt.translation.engines.engine import (
    AUTO,
    Engine,
    EngineKind,
    EngineRequest,
    TranslationTask,
)
from xclipt.translation.engines.file import FILE
from xclipt.translation.engines.hub_model import models_for
from xclipt.translation.engines.transformers import TRANSFORMERS

ENGINES: tuple[EngineKind, ...] = (FILE, CTRANSLATE2, TRANSFORMERS, APERTIUM)
"""Every engine, in the order in which ``auto`` takes what is at hand: a row an engine."""


def open_engine(
    request: EngineRequest,
    dataset: Dataset,
    captions: Sequence[str],
    source: str,
    target: str,
    *,
    fetch: bool = True,
) -> Engine:
    """The engine for one pair of languages.

    ``auto`` takes, in this order: the translations beside the data set; a hub model that is named
    or in the cache, by CTranslate2 where it is installed; Apertium where its pairs lead there.

    Args:
        request: What the user asked for.
        dataset: The data set whose captions are translated.
        captions: All of them, in its order.
        source: ISO 639-1 code of the captions.
        target: ISO 639-1 code of the translations.
        fetch: Whether a model may be fetched from the hub.

    Raises:
        XcliptError: There is none, or settings do not go together.
    """
    task = TranslationTask(dataset, captions, source, target, fetch)
    if request.engine == AUTO:
        return _best(request, task)
    for kind in ENGINES:
        if kind.name == request.engine:
            return kind.open(request, task)
    names = ", ".join((AUTO, *(kind.name for kind in ENGINES)))
    raise XcliptError(f"choose {names}", field="engine", value=request.engine)


def _best(request: EngineRequest, task: TranslationTask) -> Engine:
    for kind in ENGINES:
        if engine := kind.at_hand(request, task):
            return engine
    raise XcliptError(
        f"nothing here translates from {task.source} to {task.target}: no translations beside "
        f"{task.dataset.name}, no model in the hub's cache, no pairs of apertium; take "
        f"`engine={TRANSFORMERS.name}`, which fetches {models_for(task.source, task.target)[0]}, "
        "or name a `file`",
        field="engine",
        value=AUTO,
    )
