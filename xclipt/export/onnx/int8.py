"""The text tower with its delta in int8, refused where that costs recall."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from xclipt.backbones.model_files import first_line
from xclipt.errors import FailedError, XcliptError
from xclipt.export.exchange import ExportJob
from xclipt.export.onnx import graph
from xclipt.export.onnx.texts import TextSide
from xclipt.export.onnx.whole import write_beside, write_graph
from xclipt.export.recall import Encode, measure_loss

NAME = "onnx-int8"
GRAPH = "model.int8.onnx"
_BATCH = 32
_BLOCK = 32
_IN_INT8 = 4  # onnxruntime's number for products in int8
_CHECKED = """

Weights are int8, and so are the products with them. Measured at export:
{loss}."""


def write_int8(job: ExportJob) -> list[Path]:
    """Write ``model.int8.onnx``, as ``onnx`` writes its graph, with ``recall.json`` beside it.

    Raises:
        XcliptError: As :func:`~xclipt.export.onnx.whole.write_onnx`; nothing says what recall is to
            be measured on, or it does not hold what is needed.
        FailedError: More recall is lost than may be.
    """
    graph.require_packages(NAME)
    check = job.check
    if check is None:
        raise XcliptError(
            "name pictures that its recall is measured on, `check=RecallCheck(...)`",
            field="format",
            value=NAME,
        )
    tensors, side = job.delta.tensors(), TextSide.of(job)
    reduced = job.folder / GRAPH
    with TemporaryDirectory(dir=job.folder) as aside:
        full = Path(aside) / graph.GRAPH
        write_graph(job, side, side.with_delta(tensors), full, NAME)
        _quantise(full, reduced)
        loss = measure_loss(
            check, job.delta, _encoder(full, side, job), _encoder(reduced, side, job)
        )
    if not loss.loss <= check.max_loss:
        raise FailedError(
            f"{loss}; more than {check.max_loss:g} may not be lost: export {job.manifest.name} as "
            f"onnx, or take it with `max_loss={_above(loss.loss):g}`",
            field="format",
            value=NAME,
        )
    loss.write(job.folder)
    return write_beside(job, side, GRAPH, _CHECKED.format(loss=loss))


def _above(loss: float) -> float:
    return math.ceil(loss * 10) / 10


def _quantise(full: Path, reduced: Path) -> None:
    """Tables of embeddings as int8 with one scale, matrices with one for each 32 weights.

    What a matrix is multiplied with is rounded to 8 bits 32 values at a time too. By onnxruntime's
    dynamic quantisation alone a whole batch has one range, which a few outliers in the blocks'
    feed-forward layers decide: features then have a cosine of 0.97 to those in float32, and with
    this of 0.9996, in a file of the same size.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    embedded = full.with_name("embedded.onnx")
    loggers = [logging.getLogger(name) for name in (None, MatMulNBitsQuantizer.__module__)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            full, embedded, op_types_to_quantize=["Gather"], use_external_data_format=True
        )
        by_blocks = DefaultWeightOnlyQuantConfig(
            block_size=_BLOCK, is_symmetric=True, accuracy_level=_IN_INT8, bits=8
        )
        quantiser = MatMulNBitsQuantizer(onnx.load(embedded), algo_config=by_blocks)
        quantiser.process()
        quantiser.model.save_model_to_file(str(reduced), False)
    except OSError:
        raise
    except Exception as error:  # onnx does not notice that the disk is full until it reads again
        raise FailedError(
            f"{reduced}: onnxruntime cannot make it of the graph ({first_line(error)}); is there "
            "room on the disk?",
            field="format",
            value=NAME,
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _encoder(path: Path, side: TextSide, job: ExportJob) -> Encode:
    """A graph's features of texts, those of like length together."""
    session = graph.open_session(path)

    def encode(captions: Sequence[str], language: str) -> Tensor:
        told = replace(side, language=language)
        texts = [job.spec.prompted(caption) for caption in captions]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        features = torch.empty(len(texts), side.backbone.dim)
        for start in range(0, len(order), _BATCH):
            members = order[start : start + _BATCH]
            tokens = told.tokens([texts[i] for i in members])
            features[members] = torch.from_numpy(graph.run(session, side.feed(tokens)))
        return features

    return encode
