"""Changing the language of a tower against PEFT with the same delta."""

import copy

from tests.benchmarks.material import builtin
from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.factories.deltas import store_noise
from tests.factories.tiny import workspace_in
from xclipt.backbones.builtin.train_warm_start import WARM_START_SPEC
from xclipt.export.formats import export_delta
from xclipt.model import Model

_LANGUAGES = ("fr", "de")


def swapping(setting: Setting) -> Measured:
    """Two deltas that take turns: in memory, and read from disk each time."""
    from peft import PeftModel

    backbone, often = builtin(setting.device), setting.size(20, least=2)
    there = workspace_in(setting.folder / "swapping", backbone)
    stored = [
        store_noise(there, code, "noise", 0.01, seed=seed, spec=WARM_START_SPEC)
        for seed, code in enumerate(_LANGUAGES)
    ]
    folders = [export_delta(one, "peft", setting.folder / "peft").path for one in stored]
    model, reading = Model(there), Model(there)
    model.warm(_LANGUAGES)
    encoder = copy.deepcopy(backbone.text_tower.encoder)
    theirs = PeftModel.from_pretrained(encoder, folders[0], adapter_name=_LANGUAGES[0])
    theirs.load_adapter(folders[1], adapter_name=_LANGUAGES[1])

    def swap() -> None:
        for i in range(often):
            model.warm([_LANGUAGES[i % 2]])

    def read_and_swap() -> None:
        for i in range(often):
            reading.refresh()
            reading.warm([_LANGUAGES[i % 2]])

    def set_adapter() -> None:
        for i in range(often):
            theirs.set_adapter(_LANGUAGES[i % 2])

    def load_adapter() -> None:
        for i in range(often):
            name = f"read {i}"
            theirs.load_adapter(folders[i % 2], adapter_name=name)
            theirs.set_adapter(name)
        for i in range(often):
            theirs.delete_adapter(f"read {i}")
        theirs.set_adapter(_LANGUAGES[0])

    taken = interleaved(
        {
            "from memory": swap,
            "PEFT, set_adapter": set_adapter,
            "from disk": read_and_swap,
            "PEFT, load and set": load_adapter,
        },
        setting,
    )
    milliseconds = taken.median("from memory") / often * 1e3
    return Measured(
        (
            Figure("from memory", "", milliseconds, unit="ms", target=at_most(1)),
            taken.times_as_fast("from memory", "PEFT, load and set", at_least(10)),
            taken.times_as_fast("from memory", "PEFT, set_adapter"),
            taken.times_as_fast("from disk", "PEFT, load and set"),
        )
    )


ROWS = (Row("swapping", "from one language to another", swapping),)
