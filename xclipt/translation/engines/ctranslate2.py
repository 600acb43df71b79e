"""Hub models run by CTranslate2, converted once into the user's cache."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xclipt.devices import dtype_name
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, placing
from xclipt.translation.engines.hub_engine import HubEngine, hub_engine_kind
from xclipt.translation.engines.hub_model import HubModel, longest_translation


def is_installed() -> bool:
    """Whether the optional package is there."""
    return find_spec(CTranslate2Engine.name) is not None


class CTranslate2Engine(HubEngine):
    """Runs the models faster, on the CPU or CUDA. Converted at the first text."""

    name = "ctranslate2"

    def translate(self, texts: Sequence[str]) -> list[str]:
        pieces = self._tokenizer.pieces
        encoded = self._tokenizer.encode(texts)
        forced = self._tokenizer.languages.forced
        results = self._loaded.translate_batch(
            [pieces.convert_ids_to_tokens(ids) for ids in encoded],
            target_prefix=[[forced] for _ in texts] if forced else None,
            beam_size=self._beams,
            max_decoding_length=longest_translation(encoded),
            max_input_length=0,
        )
        tokens = [result.hypotheses[0] for result in results]
        return self._tokenizer.decode([pieces.convert_tokens_to_ids(row) for row in tokens])

    @cached_property
    def _loaded(self) -> Any:
        import ctranslate2

        folder = converted(self._model)
        device = "cuda" if self._device.type == "cuda" else "cpu"
        numbers = dtype_name(self._dtype)
        try:
            return ctranslate2.Translator(str(folder), device=device, compute_type=numbers)
        except (ValueError, RuntimeError) as error:
            raise XcliptError(
                f"{str(error).splitlines()[0]} (`device={device}`, `dtype={numbers}`; converted "
                f"files: {folder})",
                field="engine",
                value=self.name,
            ) from None


CTRANSLATE2 = hub_engine_kind(CTranslate2Engine, usable=is_installed)


def converted(model: HubModel) -> Path:
    """The folder of the model in CTranslate2's format, made at the first time.

    Raises:
        XcliptError: The model cannot be converted.
    """
    name = f"{model.name.replace('/', '--')}-{model.revision[:12]}"
    folder = cache_dir() / CTranslate2Engine.name / name
    if (folder / "model.bin").is_file():
        return folder
    from ctranslate2.converters import TransformersConverter

    with placing(folder) as aside:
        try:
            TransformersConverter(str(model.folder)).convert(str(aside), force=True)
        except Exception as error:  # files of others: anything can be wrong with them
            line = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
            raise XcliptError(
                f"{model.folder}: CTranslate2 cannot convert it ({line}); take "
                "`engine=transformers`"
            ) from None
    return folder
