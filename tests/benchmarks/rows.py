"""The rows of the table, in its order."""

from tests.benchmarks import (
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
    *growth.ROWS,
)
