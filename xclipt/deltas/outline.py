"""Which tensors a delta has on a backbone: remembered, since it takes torch to work it out."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict

import xclipt
from xclipt.deltas.kind import DeltaSpec
from xclipt.documents import read_json
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, content_hash, write_text

Shapes = dict[str, tuple[int, ...]]
"""Of tensors by name."""


def outline(
    fingerprint: str, spec: DeltaSpec, work_out: Callable[[], Shapes | None]
) -> Shapes | None:
    """The tensors of a delta of these settings on the backbone of that fingerprint.

    Args:
        fingerprint: It is over names and shapes too, so that the same backbone has the same.
        spec: Kind and settings.
        work_out: Asks the tower, where this machine has not been told yet; ``None`` cannot tell.

    Raises:
        XcliptError: From ``work_out``.
    """
    facts = [xclipt.__version__, fingerprint, spec.kind, asdict(spec)]
    name = content_hash(json.dumps(facts, sort_keys=True).encode())[:32]
    memory = cache_dir() / "outlines" / f"{name}.json"
    try:
        return {name: tuple(shape) for name, shape in read_json(memory).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    shapes = work_out()
    if shapes is not None:
        with suppress(XcliptError):  # no cache to write to: it is worked out again
            write_text(memory, json.dumps(shapes))
    return shapes


def require_shapes(
    where: object, wanted: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse tensors whose names or shapes a tower has no place for.

    Args:
        where: The delta's folder, for the message.
        wanted: What :func:`outline` gives.
        there: What the delta has.

    Raises:
        XcliptError: Names the first tensor that does not fit.
    """
    names = wanted.keys() | there.keys()
    differing = sorted(name for name in names if wanted.get(name) != there.get(name))
    if differing:
        first = differing[0]
        raise XcliptError(
            f"{where}: {len(differing)} tensors do not fit this backbone, first {first}: "
            f"{there.get(first, 'missing')}, the tower wants {wanted.get(first, 'none')}"
        )


def not_finite(where: object, name: str) -> XcliptError:
    """The refusal of a tensor that holds what is no number."""
    return XcliptError(f"{where}: {name} holds values that are not finite; train it again")
