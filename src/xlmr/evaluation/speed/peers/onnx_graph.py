"""The encoder as an ONNX graph, built from our arrays: what two of the peers read.

Written as an export of transformers' XLMRobertaModel comes out after constant folding, from
operators that both peers know how to fuse: LayerNormalization, the erf form of GELU, and attention
as matmul, add, softmax, matmul.

Shapes: B texts, L padded length, D hidden width, A heads, H width of one head.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import Subject

_OPSET = 17


def write_onnx(subject: Subject, path: Path, *, byte_weights: bool = False) -> None:
    """Writes `path` and, beside it, `path`.data with the arrays.

    Inputs `ids` and `mask`, int64 [B, L]; output `hidden`, float32 [B, L, D].

    Args:
        subject: the model.
        path: file to write.
        byte_weights: store matrices as int8 with one scale per output column, to be widened by the
            runtime as it sees fit.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelRefusedError: the model is of XLM-R XL's kind.
    """
    onnx = vendor("onnx")
    if subject.config.pre_norm:
        raise ModelRefusedError("the peers compute post-norm models only", field="model_type")
    graph = _Graph(onnx, subject, byte_weights=byte_weights)
    hidden = graph.embed()
    for layer in range(subject.config.layers):
        hidden = graph.layer(hidden, f"layers.{layer}.")
    graph.node("Identity", hidden, name="hidden")
    onnx.save(
        graph.model(),
        path,
        save_as_external_data=True,
        location=path.name + ".data",
        size_threshold=1024,
    )


class _Graph:
    """A graph under construction. Methods take and return names of values."""

    def __init__(self, onnx: Any, subject: Subject, *, byte_weights: bool) -> None:
        self._onnx = onnx
        self._subject = subject
        self._byte_weights = byte_weights
        self._nodes: list[Any] = []
        self._arrays: dict[str, Any] = {}
        self._count = 0

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds one node; returns its output."""
        self._count += 1
        output = name or f"{kind}_{self._count}"
        made = self._onnx.helper.make_node(
            kind, list(inputs), [output], name=f"n{self._count}", **attributes
        )
        self._nodes.append(made)
        return output

    def array(self, name: str, value: NDArray[Any]) -> str:
        """Adds one constant, once."""
        if name not in self._arrays:
            self._arrays[name] = self._onnx.numpy_helper.from_array(
                np.ascontiguousarray(value), name
            )
        return name

    def weight(self, name: str) -> str:
        """One of the subject's arrays as it is."""
        return self.array(name, self._subject.read(name))

    def dense(self, value: str, name: str) -> str:
        """A matrix product and its bias; ONNX wants matrices as [in, out]."""
        matrix_DE = self._subject.read(f"{name}.weight").T
        if self._byte_weights:
            scale_E = np.maximum(np.abs(matrix_DE).max(axis=0), 1e-30) / np.float32(127)
            rounded_DE = np.rint(matrix_DE / scale_E).astype(np.int8)
            matrix = self.node(
                "DequantizeLinear",
                self.array(f"{name}.bytes", rounded_DE),
                self.array(f"{name}.scale", scale_E.astype(np.float32)),
                axis=1,
            )
        else:
            matrix = self.array(f"{name}.matrix", matrix_DE)
        return self.node("Add", self.node("MatMul", value, matrix), self.weight(f"{name}.bias"))

    def norm(self, value: str, name: str) -> str:
        """Layer norm over the last axis."""
        return self.node(
            "LayerNormalization",
            value,
            self.weight(f"{name}.weight"),
            self.weight(f"{name}.bias"),
            axis=-1,
            epsilon=self._subject.config.norm_epsilon,
        )

    def embed(self) -> str:
        """Word, position and type vectors; positions count real tokens, as transformers does."""
        config = self._subject.config
        counted = self.node("CumSum", "mask", self.array("one", np.array(1, np.int64)))
        positions = self.node(
            "Add",
            self.node("Mul", counted, "mask"),
            self.array("pad", np.array(config.pad_id, np.int64)),
        )
        words = self.node("Gather", self.weight("embeddings.word"), "ids")
        places = self.node("Gather", self.weight("embeddings.position"), positions)
        kind_D = self.array("type", self._subject.read("embeddings.type")[0])
        total = self.node("Add", self.node("Add", words, kind_D), places)
        # 0 for a token, a large negative number for padding: added to every attention score.
        absent = self.node(
            "Sub",
            self.array("1.0", np.array(1, np.float32)),
            self.node("Cast", "mask", to=self._onnx.TensorProto.FLOAT),
        )
        axes = self.array("axes", np.array([1, 2], np.int64))
        self._bias_B11L = self.node(
            "Mul",
            self.node("Unsqueeze", absent, axes),
            self.array("lowest", np.array(np.finfo(np.float32).min, np.float32)),
        )
        return self.norm(total, "embeddings.norm")

    def layer(self, hidden: str, layer: str) -> str:
        """Attention, feed-forward, and a norm after each."""
        attended = self.dense(self.attend(hidden, layer), f"{layer}output")
        hidden = self.norm(self.node("Add", attended, hidden), f"{layer}attention_norm")
        widened = self.gelu(self.dense(hidden, f"{layer}up"))
        narrowed = self.dense(widened, f"{layer}down")
        return self.norm(self.node("Add", narrowed, hidden), f"{layer}output_norm")

    def attend(self, hidden: str, layer: str) -> str:
        """Multi-head attention before its output projection."""
        config = self._subject.config
        shape = np.array([0, 0, config.heads, config.head_width], np.int64)
        split = self.array("split", shape)

        def heads(name: str, order: list[int]) -> str:
            value = self.node("Reshape", self.dense(hidden, f"{layer}{name}"), split)
            return self.node("Transpose", value, perm=order)

        query_BALH, key_BAHL = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1])
        scores = self.node("MatMul", query_BALH, key_BAHL)
        root = self.array("root", np.array(np.sqrt(config.head_width), np.float32))
        scores = self.node("Add", self.node("Div", scores, root), self._bias_B11L)
        shares = self.node("Softmax", scores, axis=-1)
        mixed = self.node("MatMul", shares, heads("value", [0, 2, 1, 3]))
        joined = self.array("join", np.array([0, 0, config.hidden], np.int64))
        return self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), joined)

    def gelu(self, value: str) -> str:
        """x (1 + erf(x / √2)) / 2, in the order that both peers recognise."""
        root = self.array("root of 2", np.array(np.sqrt(2), np.float32))
        half = self.array("0.5", np.array(0.5, np.float32))
        one = self.array("1.0", np.array(1, np.float32))
        error = self.node("Erf", self.node("Div", value, root))
        return self.node("Mul", self.node("Mul", value, self.node("Add", error, one)), half)

    def model(self) -> Any:
        """The finished model."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        described: Callable[..., Any] = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [described(name, types.INT64, ["batch", "length"]) for name in ("ids", "mask")],
            [described("hidden", types.FLOAT, ["batch", "length", self._subject.config.hidden])],
            list(self._arrays.values()),
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9)
