"""What is said of translations that the guards dropped: what they look like, and the ways out."""

from collections import Counter
from collections.abc import Sequence

from xclipt.detection import detect
from xclipt.errors import XcliptError, recommended
from xclipt.languages import name
from xclipt.translation.store import FROM_FILE, Direction, Translation, Translator

_SAMPLE = 100
_SURE = 0.9


def look_of(dropped: Sequence[Translation], total: int, target: str) -> str:
    """``all 1,000 translations look like Italian, not Korean``, or which faults they have.

    Args:
        dropped: Some of the translations.
        total: Of how many.
        target: ISO 639-1 code of the language that they should be in.
    """
    count = f"{'all' if len(dropped) == total else f'{len(dropped):,} of'} {total:,} translations"
    language = _language(dropped)
    if language and language != target:
        return f"{count} look like {name(language)}, not {name(target)}"
    faults = Counter(flag for translation in dropped for flag in translation.flags)
    told = ", ".join(f"{fault} {number:,}" for fault, number in faults.most_common())
    return f"{count} have faults ({told})"


def dropped_error(
    what: str,
    direction: Direction,
    dataset: str,
    dropped: Sequence[Translation],
    total: int,
    translator: Translator,
) -> XcliptError:
    """The refusal where too few translations are left: ``what`` is lacking, and the two ways out.

    Translating again as before would drop the same ones.
    """
    # Translations that lie beside the captions are found again by themselves.
    beside = translator.engine == FROM_FILE and translator.model.startswith(f"{dataset}-")
    made_by = {"file" if translator.engine == FROM_FILE else "model": translator.model}
    again = recommended(
        "translate",
        lang=direction.language,
        direction=direction.name,
        dataset=dataset,
        engine=translator.engine,
        **({} if beside else made_by),
        on_bad="keep",
    )
    return XcliptError(
        f"{what}: {look_of(dropped, total, direction.target)}, and were dropped; translate by "
        f"another `engine` or from a `file`, or keep them: {again}"
    )


def _language(dropped: Sequence[Translation]) -> str | None:
    """The language that they are in together: one short text alone is easily mistaken."""
    texts = [translation.text for translation in dropped if translation.text][:_SAMPLE]
    try:
        found = detect([" ".join(texts)] if texts else [])
    except XcliptError:  # the detector is an extra
        return None
    return found[0].language if found and found[0].confidence > _SURE else None
