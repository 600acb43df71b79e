"""Hub models run by transformers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from xclipt.translation.engines.hub_engine import HubEngine, hub_engine_kind
from xclipt.translation.engines.hub_model import load_model, longest_translation


class TransformersEngine(HubEngine):
    """Runs the models by the library that they are published for, on any device."""

    name = "transformers"

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
    def _forced(self) -> int | None:
        token = self._tokenizer.languages.forced
        return None if token is None else int(self._tokenizer.pieces.convert_tokens_to_ids(token))

    @cached_property
    def _loaded(self) -> Any:
        model = load_model(self._model).to(device=self._device, dtype=self._dtype)
        # It says how long and how wide to search; we do.
        model.generation_config.max_length = None
        return model


TRANSFORMERS = hub_engine_kind(TransformersEngine, usable=lambda: True)
