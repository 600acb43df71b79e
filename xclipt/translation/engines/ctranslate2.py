"""Hub models run by CTranslate2, converted once into the user's cache."""

import shutil
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from xclipt.artifacts.cache import cache_dir
from xclipt.errors import XcliptError
from xclipt.translation.engines.hub_model import HubModel, ModelTokenizer, longest_translation
from xclipt.translation.engines.transformers import decoding_setting
from xclipt.translation.store import Translator


def is_installed() -> bool:
    """Whether the optional package is there."""
    return find_spec("ctranslate2") is not None


class CTranslate2Engine:
    """The models of :class:`TransformersEngine`, faster. Converted and loaded at the first text.

    The arguments are those of :class:`TransformersEngine`; ``device`` is the CPU or CUDA.

    Raises:
        XcliptError: The package is not installed.
    """

    by_length = True

    def __init__(
        self,
        model: HubModel,
        source: str,
        target: str,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        beams: int = 4,
        batch_size: int = 32,
        why: str = "",
    ) -> None:
        if not is_installed():
            raise XcliptError(
                "--engine ctranslate2: not installed; pip install 'xclipt[ctranslate2]', or take "
                "--engine transformers, which runs the same models"
            )
        self.batch_size = batch_size
        self.translator = Translator(
            "ctranslate2", model.name, model.revision, decoding_setting(beams, dtype)
        )
        self.about = f"ctranslate2: {model.name} ({model.revision[:12]}), {beams} beams{why}"
        self._model, self._source, self._target = model, source, target
        self._device = "cuda" if device.type == "cuda" else "cpu"
        self._numbers, self._beams = str(dtype).removeprefix("torch."), beams

    def covers(self, text: str) -> bool:
        return True

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
    def _tokenizer(self) -> ModelTokenizer:
        return ModelTokenizer(self._model, self._source, self._target)

    @cached_property
    def _loaded(self) -> Any:
        import ctranslate2

        folder = converted(self._model)
        try:
            return ctranslate2.Translator(
                str(folder), device=self._device, compute_type=self._numbers
            )
        except (ValueError, RuntimeError) as error:
            raise XcliptError(
                f"--engine ctranslate2: {str(error).splitlines()[0]} (--device {self._device}, "
                f"--dtype {self._numbers}; converted files: {folder})"
            ) from None


def converted(model: HubModel) -> Path:
    """The folder of the model in CTranslate2's format, made at the first time.

    Raises:
        XcliptError: The model cannot be converted.
    """
    name = f"{model.name.replace('/', '--')}-{model.revision[:12]}"
    folder = cache_dir() / "ctranslate2" / name
    if (folder / "model.bin").is_file():
        return folder
    from ctranslate2.converters import TransformersConverter

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
    try:
        TransformersConverter(str(model.folder)).convert(str(aside), force=True)
        aside.replace(folder)
    except Exception as error:  # files of others: anything can be wrong with them
        if not (folder / "model.bin").is_file():  # else another process was faster
            line = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
            raise XcliptError(
                f"{model.folder}: CTranslate2 cannot convert it ({line}); take --engine "
                "transformers"
            ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
