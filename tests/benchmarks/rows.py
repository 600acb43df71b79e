"""The rows of the table, in its order."""

from tests.benchmarks import (
    chip,
    evaluating,
    growth,
    memory,
    pictures,
    searching,
    serving,
    startup,
    swapping,
    texts,
    training,
)

ROWS = (
    *training.ROWS,
    *texts.ROWS,
    *pictures.ROWS,
    *swapping.ROWS,
    *evaluating.ROWS,
    *searching.ROWS,
    *serving.ROWS,
    *startup.ROWS,
    *memory.ROWS,
    *chip.ROWS,
    *growth.ROWS,
)
