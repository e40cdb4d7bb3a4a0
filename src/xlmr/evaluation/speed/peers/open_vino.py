"""OpenVINO: bfloat16, or int8 weights with activations quantised as they come, in groups of 64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.evaluation.speed.contestant import Array, pad, unpad
from xlmr.evaluation.speed.peers.onnx_graph import write_onnx
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import Subject
from xlmr.types import Batch


class OpenVino:
    """One compiled model with one stream."""

    def __init__(self, request: Any, name: str, version: str, pad_id: int) -> None:
        self.name = name
        self.version = version
        self._request = request
        self._pad_id = pad_id

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        """See `Contestant.prepare`: pads."""
        ids_BL, mask_BL = pad(batch, self._pad_id)
        request, inputs = self._request, {"ids": ids_BL, "mask": mask_BL}

        def compute() -> Any:
            request.infer(inputs, share_inputs=True, share_outputs=True)
            return request

        return compute

    def texts(self, output: Any, batch: Batch) -> list[Array]:
        """See `Contestant.texts`."""
        hidden_BLD = np.array(output.get_output_tensor(0).data, np.float32)
        return unpad(hidden_BLD, batch)

    def close(self) -> None:
        """See `Contestant.close`."""
        self._request = None


def open_contestant(subject: Subject, scratch: Path, *, precision: str, threads: int) -> OpenVino:
    """Opens the subject in `bf16` or `int8`.

    Raises:
        MissingExtraError: onnx or openvino is not installed.
        ModelRefusedError: a pre-norm model.
    """
    openvino = vendor("openvino")
    path = scratch / f"openvino-{precision}.onnx"
    write_onnx(subject, path, byte_weights=precision == "int8")
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if precision == "int8":
        options |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64, "INFERENCE_PRECISION_HINT": "f32"}
    else:
        options["INFERENCE_PRECISION_HINT"] = "bf16"
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return OpenVino(
        compiled.create_infer_request(),
        f"openvino {precision}",
        openvino.__version__.partition("-")[0],
        subject.config.pad_id,
    )
