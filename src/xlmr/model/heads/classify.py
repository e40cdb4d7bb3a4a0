"""One vector becomes labels with scores.

Two kinds of head: Hugging Face's (a dense layer, tanh and the outputs, on the first token's vector)
and the linear head that training fits on frozen sentence vectors.

Shapes: C outputs, D hidden width, W windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError
from xlmr.model.encoder import softmax
from xlmr.model.heads.labels import parse_labels
from xlmr.model.pooling import Pooling, PoolingKind, normalise, pool
from xlmr.model.weights import SafetensorsFile, Weights
from xlmr.types import LabelScore

Array = NDArray[np.float32]
# How outputs become scores: labels exclude each other, or do not, or are values of their own.
Activation = Literal["softmax", "sigmoid", "none"]

_ACTIVATIONS: Mapping[str | None, Activation] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
    None: "softmax",
}


@dataclass(frozen=True)
class FirstTokenHead:
    """Hugging Face's sequence classification head: `outputs(tanh(dense(first token)))`."""

    labels: tuple[str, ...]
    activation: Activation
    dense_DD: Array
    dense_bias_D: Array
    outputs_CD: Array
    outputs_bias_C: Array

    pooling = Pooling(kind="cls", normalize=False)
    prompt = ""

    @classmethod
    def open(cls, weights: Weights, raw_config: Mapping[str, Any]) -> FirstTokenHead:
        """Reads the head.

        Raises:
            WeightsError: the checkpoint lacks it.
            ModelRefusedError: its outputs are not as many as the labels.
        """
        labels = parse_labels(raw_config)
        outputs_CD = weights.head("classifier.out_proj.weight")
        check_outputs(outputs_CD, len(labels), "classifier.out_proj.weight")
        return cls(
            labels=labels,
            activation=activation_of(raw_config, len(labels)),
            dense_DD=weights.head("classifier.dense.weight"),
            dense_bias_D=weights.head("classifier.dense.bias"),
            outputs_CD=outputs_CD,
            outputs_bias_C=weights.head("classifier.out_proj.bias"),
        )

    def logits(self, hidden_LD: Array) -> Array:
        """The outputs for one text, [C]; reads the first row only."""
        dense_D = np.tanh(self.dense_DD @ hidden_LD[0] + self.dense_bias_D)
        logits_C: Array = self.outputs_CD @ dense_D + self.outputs_bias_C
        return logits_C


@dataclass(frozen=True)
class LinearHead:
    """A linear map from the sentence vector, fitted on a frozen encoder."""

    labels: tuple[str, ...]
    activation: Activation
    pooling: Pooling
    prompt: str
    weight_CD: Array
    bias_C: Array

    @classmethod
    def open(cls, head: Mapping[str, Any], file: SafetensorsFile, *, width: int) -> LinearHead:
        """Reads the head that `xlmr.json` describes.

        Raises:
            WeightsError: the head's file lacks an array.
            ModelRefusedError: a field is missing or not what it should be; names it.
        """
        labels = head.get("labels")
        if not isinstance(labels, list) or not labels or not all(map(_is_text, labels)):
            raise ModelRefusedError("expected a list of labels", field="xlmr.json head.labels")
        _expect(head, "kind", "linear")
        _expect(head, "task", "classify")
        kind: PoolingKind = _expect(head, "pooling", "mean", "cls")
        normalize: bool = _expect(head, "normalize", True, False)
        multi_label: bool = _expect(head, "multi_label", True, False)
        prompt = head.get("prompt", "")
        if not isinstance(prompt, str):
            raise ModelRefusedError("expected a text", field="xlmr.json head.prompt")
        weight_CD, bias_C = file.read("weight"), file.read("bias")
        if weight_CD.shape != (len(labels), width) or bias_C.shape != (len(labels),):
            raise ModelRefusedError(
                f"shapes {weight_CD.shape} and {bias_C.shape}; "
                f"{len(labels)} labels on {width} wide vectors were expected",
                field=f"{file.path.name} weight",
            )
        return cls(
            labels=tuple(labels),
            activation="sigmoid" if multi_label else "softmax",
            pooling=Pooling(kind=kind, normalize=normalize),
            prompt=prompt,
            weight_CD=weight_CD,
            bias_C=bias_C,
        )

    def logits(self, hidden_LD: Array) -> Array:
        """The outputs for one text, [C]."""
        vector_D = pool(hidden_LD, self.pooling.kind)
        if self.pooling.normalize:
            vector_D = normalise(vector_D)
        logits_C: Array = self.weight_CD @ vector_D + self.bias_C
        return logits_C


ClassifyHead = FirstTokenHead | LinearHead


def activation_of(raw_config: Mapping[str, Any], outputs: int) -> Activation:
    """How a Hugging Face head's outputs become scores.

    Raises:
        ModelRefusedError: a `problem_type` that does not exist.
    """
    problem = raw_config.get("problem_type")
    if problem not in _ACTIVATIONS:
        names = ", ".join(str(name) for name in _ACTIVATIONS)
        raise ModelRefusedError(
            f"expected one of {names}, got {problem!r}", field="config.json problem_type"
        )
    # A softmax over one output is always 1 and says nothing: the output is the value itself.
    if outputs == 1 and problem != "multi_label_classification":
        return "none"
    return _ACTIVATIONS[problem]


def entropy(scores_C: Array, *, exclusive: bool) -> float:
    """How spread probabilities are, in nats: 0 where one label is certain.

    Where labels do not exclude each other each is a choice of its own, and their entropies add up.
    """
    nats = 0.0
    for score in scores_C.tolist():
        if 0.0 < score < 1.0:
            nats -= score * math.log(score)
            if not exclusive:
                nats -= (1.0 - score) * math.log1p(-score)
    return nats


def scores(logits_C: Array, activation: Activation) -> Array:
    """Outputs as probabilities, or as they are for regression; never NaN, [C]."""
    if activation == "softmax":
        return softmax(logits_C)
    return sigmoid(logits_C) if activation == "sigmoid" else logits_C


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow."""
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def document_scores(scores_WC: Sequence[Array], tokens_W: Sequence[int]) -> Array:
    """The scores of a whole text: the mean over its windows, each weighing its tokens, [C]."""
    if len(scores_WC) == 1:
        return scores_WC[0]
    mean_C: Array = np.average(np.stack(scores_WC), axis=0, weights=tokens_W).astype(np.float32)
    return mean_C


def ranked_labels(
    scores_C: Array, labels: Sequence[str], *, top: int | None = None
) -> tuple[LabelScore, ...]:
    """Labels in falling order of score, equal ones in the model's order."""
    order = np.argsort(-scores_C, kind="stable")[:top]
    return tuple(LabelScore(label=labels[i], score=float(scores_C[i])) for i in order)


def check_outputs(outputs_CD: Array, labels: int, name: str) -> None:
    """Refuses a head whose outputs are not as many as the labels.

    Raises:
        ModelRefusedError: names the weight.
    """
    if len(outputs_CD) != labels:
        raise ModelRefusedError(f"{len(outputs_CD)} outputs for {labels} labels", field=name)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _expect(head: Mapping[str, Any], name: str, *wanted: Any) -> Any:
    value = head.get(name)
    if not any(value is choice or (_is_text(choice) and value == choice) for choice in wanted):
        raise ModelRefusedError(
            f"expected {' or '.join(map(repr, wanted))}, got {value!r}",
            field=f"xlmr.json head.{name}",
        )
    return value
