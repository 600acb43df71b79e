"""Running the backbone with a stored delta."""

from collections.abc import Iterator
from contextlib import contextmanager

from xclipt.artifacts.directory import StoredDelta
from xclipt.backbones.backbone import Backbone
from xclipt.deltas.injection import InjectedDelta
from xclipt.deltas.spec import spec_from


@contextmanager
def applied(backbone: Backbone, delta: StoredDelta | None) -> Iterator[None]:
    """Within the block the backbone's text tower has the delta; ``None`` leaves it frozen.

    Raises:
        XcliptError: The delta's file is damaged or does not fit the tower.
    """
    if delta is None:
        yield
        return
    tensors = delta.tensors()
    spec = spec_from(delta.manifest.kind, delta.manifest.setting)
    injected = InjectedDelta(
        backbone.text_tower, spec, backbone.family, tokenizer=backbone.tokenizer
    )
    try:
        injected.load(tensors)
        yield
    finally:
        injected.remove()
