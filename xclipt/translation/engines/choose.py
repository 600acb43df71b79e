"""Which engine: the one that is named, or the best of what is there."""

from dataclasses import dataclass
from pathlib import Path

from xclipt.data.dataset import Dataset
from xclipt.errors import XcliptError
from xclipt.translation.engines import apertium, ctranslate2
from xclipt.translation.engines.engine import Engine
from xclipt.translation.engines.file import from_file, published
from xclipt.translation.engines.hub_model import HubModel, fetch_model, find_model, models_for

ENGINES = ("auto", "file", "ctranslate2", "transformers", "apertium")


@dataclass(frozen=True)
class EngineRequest:
    """What the user asked for.

    Attributes:
        engine: One of ``ENGINES``.
        model: A hub id, a folder, or Apertium's chain of pairs.
        file: Translations that exist, for ``file``.
        beams: Width of the beam search; the engine's own choice without.
        batch_size: Texts at once; the engine's own choice without.
        device: As in ``--device``.
        dtype: As in ``--dtype``.
    """

    engine: str = "auto"
    model: str | None = None
    file: Path | None = None
    beams: int | None = None
    batch_size: int | None = None
    device: str = "auto"
    dtype: str = "float32"


def open_engine(
    request: EngineRequest,
    dataset: Dataset,
    captions: list[str],
    source: str,
    target: str,
    *,
    fetch: bool = True,
) -> Engine:
    """The engine for one pair of languages.

    ``auto`` takes, in this order: the translations beside the data set; a hub model that is in
    the cache, by CTranslate2 where it is installed; Apertium where its pairs lead there.

    Args:
        request: What the user asked for.
        dataset: The data set whose captions are translated.
        captions: All of them, in its order.
        source: ISO 639-1 code of the captions.
        target: ISO 639-1 code of the translations.
        fetch: Whether a model may be fetched from the hub.

    Raises:
        XcliptError: There is none, or options do not go together.
    """
    kind = request.engine
    if kind not in ENGINES:
        raise XcliptError(f"--engine {kind}: choose {', '.join(ENGINES)}")
    if request.file is not None:
        if kind not in ("auto", "file") or request.model:
            raise XcliptError("--file: goes with --engine file and without --model")
        return from_file(request.file, captions)
    if kind == "file":
        if request.model:
            raise XcliptError("--model: goes with the engines that run one, not with file")
        if engine := published(dataset, source, target):
            return engine
        raise XcliptError(
            f"--engine file: no translations from {source} to {target} lie beside {dataset.name}; "
            "name a --file"
        )
    if kind == "apertium":
        return _apertium(request, source, target)
    if kind == "auto":
        return _best(request, dataset, source, target, fetch=fetch)
    if request.model:
        model = _model(request.model, fetch=fetch)
    else:
        model = _cached(source, target) or _model(models_for(source, target)[0], fetch=fetch)
    return _neural(kind, request, model, source, target)


def _best(
    request: EngineRequest, dataset: Dataset, source: str, target: str, *, fetch: bool
) -> Engine:
    neural = "ctranslate2" if ctranslate2.is_installed() else "transformers"
    if request.model:
        model = _model(request.model, fetch=fetch)
        return _neural(neural, request, model, source, target, " (auto: --model names it)")
    if engine := published(dataset, source, target):
        engine.about += f" (auto: they lie beside {dataset.name})"
        return engine
    if cached := _cached(source, target):
        why = " (auto: no translations beside the data set; this model is in the hub's cache)"
        return _neural(neural, request, cached, source, target, why)
    if apertium.is_installed() and apertium.find_chain(apertium.list_modes(), source, target):
        why = " (auto: no translations beside the data set, no model in the hub's cache)"
        return _apertium(request, source, target, why)
    raise XcliptError(
        f"--engine auto: nothing here translates from {source} to {target}: no translations "
        f"beside {dataset.name}, no model in the hub's cache, no pairs of apertium; take --engine "
        f"transformers, which fetches {models_for(source, target)[0]}, or name a --file"
    )


def _cached(source: str, target: str) -> HubModel | None:
    return next(filter(None, map(find_model, models_for(source, target))), None)


def _model(name: str, *, fetch: bool) -> HubModel:
    if fetch:
        return fetch_model(name)
    return find_model(name) or HubModel(name, "not fetched yet", Path(name))


def _apertium(request: EngineRequest, source: str, target: str, why: str = "") -> Engine:
    if request.beams is not None:
        raise XcliptError("--beams: goes with transformers and ctranslate2, not with apertium")
    return apertium.ApertiumEngine(
        source, target, request.model, batch_size=request.batch_size or 200, why=why
    )


def _neural(
    kind: str, request: EngineRequest, model: HubModel, source: str, target: str, why: str = ""
) -> Engine:
    from xclipt.translation.engines.transformers import TransformersEngine
    from xclipt.workspace import choose_device, choose_dtype

    make = ctranslate2.CTranslate2Engine if kind == "ctranslate2" else TransformersEngine
    return make(
        model,
        source,
        target,
        device=choose_device(request.device),
        dtype=choose_dtype(request.dtype),
        beams=request.beams or 4,
        batch_size=request.batch_size or 32,
        why=why,
    )
