"""What the engines have in common that run models of the hub."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from xclipt.devices import choose_device, choose_dtype, dtype_name
from xclipt.errors import XcliptError
from xclipt.translation.engines.engine import EngineKind, EngineRequest, TranslationTask
from xclipt.translation.engines.hub_model import (
    HubModel,
    ModelTokenizer,
    fetch_model,
    find_model,
    models_for,
)
from xclipt.translation.store import Translator

BEAMS, BATCH_SIZE = 4, 32


class HubEngine(ABC):
    """Translates by a Marian, M2M-100 or NLLB-200 model, loaded when the first text comes.

    Args:
        model: Its files.
        source: ISO 639-1 code of the texts.
        target: ISO 639-1 code of the translations.
        device: Where it runs.
        dtype: In which numbers.
        beams: Width of the beam search; 1 is greedy.
        batch_size: Texts at once.
        why: Why it was taken, for the user.
    """

    name: ClassVar[str]
    by_length = True

    def __init__(
        self,
        model: HubModel,
        source: str,
        target: str,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        beams: int = BEAMS,
        batch_size: int = BATCH_SIZE,
        why: str = "",
    ) -> None:
        self.batch_size = batch_size
        self.translator = Translator(
            self.name, model.name, model.revision, _decoding_setting(beams, dtype)
        )
        self.about = f"{self.name}: {model.name} ({model.revision[:12]}), {beams} beams{why}"
        self._model, self._source, self._target = model, source, target
        self._device, self._dtype, self._beams = device, dtype, beams

    def covers(self, text: str) -> bool:
        return True

    @abstractmethod
    def translate(self, texts: Sequence[str]) -> list[str]: ...

    @property
    def cut(self) -> int:
        return self._tokenizer.cut

    @cached_property
    def _tokenizer(self) -> ModelTokenizer:
        return ModelTokenizer(self._model, self._source, self._target)


def hub_engine_kind(make: type[HubEngine], usable: Callable[[], bool]) -> EngineKind:
    """The row of an engine that runs models of the hub.

    Args:
        make: The engine.
        usable: Whether the package that it needs is installed.
    """

    def made(
        request: EngineRequest, task: TranslationTask, model: HubModel, why: str = ""
    ) -> HubEngine:

        return make(
            model,
            task.source,
            task.target,
            device=choose_device(request.device),
            dtype=choose_dtype(request.dtype),
            beams=request.beams or BEAMS,
            batch_size=request.batch_size or BATCH_SIZE,
            why=why,
        )

    def open_named(request: EngineRequest, task: TranslationTask) -> HubEngine:
        if not usable():
            raise XcliptError(
                f"not installed; pip install 'xclipt[{make.name}]', or take "
                "`engine=transformers`, which runs the same models",
                field="engine",
                value=make.name,
            )
        if request.model:
            model = _model(request.model, task)
        else:
            model = _cached(task) or _model(models_for(task.source, task.target)[0], task)
        return made(request, task, model)

    def at_hand(request: EngineRequest, task: TranslationTask) -> HubEngine | None:
        if not usable():
            return None
        if request.model:
            return made(request, task, _model(request.model, task), " (auto: its model is named)")
        model = _cached(task)
        why = " (auto: no translations beside the data set; this model is in the hub's cache)"
        return made(request, task, model, why) if model else None

    return EngineKind(make.name, open_named, at_hand)


def _cached(task: TranslationTask) -> HubModel | None:
    return next(filter(None, map(find_model, models_for(task.source, task.target))), None)


def _model(name: str, task: TranslationTask) -> HubModel:
    if task.fetch:
        return fetch_model(name)
    return find_model(name) or HubModel(name, "not fetched yet", Path(name))


def _decoding_setting(beams: int, dtype: torch.dtype) -> str:
    """What decides the output beside the model, as a translator's setting."""
    number = dtype_name(dtype)
    return f"beams={beams}" if dtype == torch.float32 else f"beams={beams} dtype={number}"
