"""ONNX Runtime: float32, or its own dynamic quantisation to int8."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xlmr.evaluation.speed.contestant import Array, pad, unpad
from xlmr.evaluation.speed.peers.onnx_graph import write_onnx
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import Subject
from xlmr.types import Batch


class OnnxRuntime:
    """One session on the CPU provider."""

    def __init__(self, session: Any, name: str, version: str, pad_id: int) -> None:
        self.name = name
        self.version = version
        self._session = session
        self._pad_id = pad_id

    def prepare(self, batch: Batch) -> Callable[[], Array]:
        """See `Contestant.prepare`: pads."""
        ids_BL, mask_BL = pad(batch, self._pad_id)
        session, inputs = self._session, {"ids": ids_BL, "mask": mask_BL}

        def compute() -> Array:
            hidden_BLD: Array = session.run(None, inputs)[0]
            return hidden_BLD

        return compute

    def texts(self, output: Array, batch: Batch) -> list[Array]:
        """See `Contestant.texts`."""
        return unpad(output, batch)

    def close(self) -> None:
        """See `Contestant.close`."""
        self._session = None


def open_contestant(
    subject: Subject, scratch: Path, *, precision: str, threads: int
) -> OnnxRuntime:
    """Opens the subject in `fp32` or `int8`.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ModelRefusedError: a pre-norm model.
    """
    runtime = vendor("onnxruntime")
    path = scratch / "encoder.onnx"
    write_onnx(subject, path)
    if precision == "int8":
        path = _quantise(path)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return OnnxRuntime(
        session, f"onnxruntime {precision}", runtime.__version__, subject.config.pad_id
    )


def _quantise(path: Path) -> Path:
    quantization = vendor("onnxruntime.quantization")
    quantised = path.with_name("encoder-int8.onnx")
    # It advises on the root logger to run a pass that our graph does not need.
    logging.disable(logging.WARNING)
    try:
        quantization.quantize_dynamic(path, quantised, use_external_data_format=True)
    finally:
        logging.disable(logging.NOTSET)
    return quantised
