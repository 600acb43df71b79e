"""How near translations come to what people wrote."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_SCORED = 2000
"""More translations than that are scored by a sample of so many, evenly spaced: chrF takes about a
millisecond each, and the scores of a sample are within a few tenths."""

_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}


@dataclass(frozen=True)
class Scores:
    """Corpus scores of sacrebleu, 0 to 100.

    Attributes:
        chrf: chrF2 (Popović 2015): F-score of character n-grams up to 6.
        bleu: BLEU (Papineni et al. 2002) up to 4-grams.
        bleu_tokens: sacrebleu's name of the tokenizer that BLEU counted with.
        texts: How many translations were compared.
    """

    chrf: float
    bleu: float
    bleu_tokens: str
    texts: int


def score(
    translations: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> Scores | None:
    """chrF and BLEU of translations into ``language``; ``None`` where there are none.

    Args:
        translations: One a text.
        references: For each text what people wrote, at least one.
        language: ISO 639-1 code.
    """
    if not translations:
        return None
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    step = max(1, len(translations) / MOST_SCORED)
    rows = [int(i * step) for i in range(min(len(translations), MOST_SCORED))]
    references = [references[row] for row in rows]
    widest = max(map(len, references))
    # sacrebleu takes an empty one for none.
    streams = [
        [several[i] if i < len(several) else "" for several in references] for i in range(widest)
    ]
    tokens = _TOKENIZERS.get(language, "13a")
    hypotheses = [translations[row] for row in rows]
    return Scores(
        chrf=CHRF().corpus_score(hypotheses, streams).score,
        bleu=BLEU(tokenize=tokens, force=True).corpus_score(hypotheses, streams).score,
        bleu_tokens=tokens,
        texts=len(hypotheses),
    )
