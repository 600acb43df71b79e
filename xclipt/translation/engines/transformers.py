"""Hub models run by transformers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from xclipt.translation.engines.hub_model import (
    HubModel,
    ModelTokenizer,
    load_model,
    longest_translation,
)
from xclipt.translation.store import Translator


class TransformersEngine:
    """Marian, M2M-100 and NLLB-200 models. Loaded when the first text comes.

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
        self.batch_size = batch_size
        self.translator = Translator(
            "transformers", model.name, model.revision, decoding_setting(beams, dtype)
        )
        self.about = f"transformers: {model.name} ({model.revision[:12]}), {beams} beams{why}"
        self._model, self._source, self._target = model, source, target
        self._device, self._dtype, self._beams = device, dtype, beams

    def covers(self, text: str) -> bool:
        return True

    def translate(self, texts: Sequence[str]) -> list[str]:
        encoded = self._tokenizer.encode(texts)
        batch = self._tokenizer.pieces.pad({"input_ids": encoded}, return_tensors="pt")
        with torch.inference_mode():
            generated = self._loaded.generate(
                **batch.to(self._device),
                num_beams=self._beams,
                do_sample=False,
                max_new_tokens=longest_translation(encoded),
                forced_bos_token_id=self._forced,
            )
        return self._tokenizer.decode(generated.tolist())

    @cached_property
    def _tokenizer(self) -> ModelTokenizer:
        return ModelTokenizer(self._model, self._source, self._target)

    @cached_property
    def _forced(self) -> int | None:
        token = self._tokenizer.languages.forced
        return None if token is None else int(self._tokenizer.pieces.convert_tokens_to_ids(token))

    @cached_property
    def _loaded(self) -> Any:
        model = load_model(self._model).to(device=self._device, dtype=self._dtype)
        # It says how long and how wide to search; we do.
        model.generation_config.max_length = None
        return model


def decoding_setting(beams: int, dtype: torch.dtype) -> str:
    """What decides the output beside the model, as a translator's setting."""
    number = str(dtype).removeprefix("torch.")
    return f"beams={beams}" if dtype == torch.float32 else f"beams={beams} dtype={number}"
