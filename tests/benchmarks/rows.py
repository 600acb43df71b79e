"""The rows of the table, in its order."""

from tests.benchmarks import (
    evaluating,
    growth,
    memory,
    pictures,
    searching,
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
    *startup.ROWS,
    *memory.ROWS,
    *growth.ROWS,
)
