"""A classifier without touching the encoder: logistic regression on frozen sentence vectors.

Shapes: N rows, D vector width, C classes. Seconds on a laptop, no torch, no GPU. What it does, in
order: sentence vectors from the runtime that will serve them; each of the D dimensions centred
over the training rows, all of them divided by one number, the root of their mean variance (a
divisor for each would raise the dimensions in which the language speaks louder than the matter);
one multinomial regression per strength of regularisation; the strength with the lowest log loss
on held-out rows wins; one temperature makes its probabilities honest on the same rows. Centring,
scaling and temperature fold into the weight, so serving is one matrix product.

Held-out rows are the dev set or, without one, every training row in turn (stratified folds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import MissingExtraError
from xlmr.evaluation.calibrate import best_temperature
from xlmr.evaluation.metrics import accuracy, macro_f1
from xlmr.evaluation.metrics.calibration import log_loss
from xlmr.training.checkpoint import (
    HEAD_FILE,
    XLMR_JSON,
    lineage,
    link_files,
    write_json,
    write_model,
)
from xlmr.training.data import Examples
from xlmr.training.evidence import can_calibrate, finish_with_evidence
from xlmr.training.recipe import Evidence

if TYPE_CHECKING:
    from typing import Protocol

    from xlmr.model.bundle import Bundle
    from xlmr.types import Embedding

    class Embedder(Protocol):
        """What this method needs of a predictor."""

        def embed(self, texts: Sequence[str], *, prompt: str | None = ...) -> list[Embedding]:
            """Sentence vectors in order; `prompt` is the name of a prompt."""


Vectors = NDArray[np.float32]
Classes = NDArray[np.int64]

_CHUNK_ROWS = 64
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """How a head is fitted.

    Attributes:
        seed: decides the folds where there is no dev set; the regression itself draws nothing.
        strengths: inverse regularisation strengths tried, rising (scikit-learn's C).
        iterations: most steps of the solver for one strength.
    """

    seed: int = 0
    strengths: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    iterations: int = 1000


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Logits are `weight_CD @ vector_D + bias_C`; a softmax over them is calibrated.

    Attributes:
        weight_CD: float32.
        bias_C: float32.
        strength: the regularisation that won.
        temperature: already folded in, 1 where it is not; above 1 the raw probabilities were too
            sure.
        held_out: what the held-out rows said: rows, accuracy, macro F1, log loss before and after
            the temperature; empty where nothing could be held out.
    """

    weight_CD: Vectors
    bias_C: Vectors
    strength: float
    temperature: float
    held_out: dict[str, float]

    @property
    def raw(self) -> LinearHead:
        """The regression's own outputs, for those who calibrate them themselves."""
        return replace(
            self,
            weight_CD=self.weight_CD * np.float32(self.temperature),
            bias_C=self.bias_C * np.float32(self.temperature),
            temperature=1.0,
        )


def embed_texts(
    embedder: Embedder, texts: Sequence[str], *, prompt: str | None
) -> Iterator[Embedding]:
    """Sentence vectors in order, yielded as they come so that a caller can show progress."""
    for start in range(0, len(texts), _CHUNK_ROWS):
        yield from embedder.embed(texts[start : start + _CHUNK_ROWS], prompt=prompt)


def fit_head(
    train_ND: Vectors,
    train_N: Classes,
    dev_ND: Vectors | None,
    dev_N: Classes | None,
    options: HeadOptions | None = None,
) -> LinearHead:
    """Fits on train, chooses and calibrates on dev (or on folds of train where dev is None).

    Classes are 0 to C - 1 and each occurs in `train_N`. The same input gives the same bits.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    options = options or HeadOptions()
    with _one_thread():
        if dev_ND is not None and dev_N is not None and len(dev_N):
            tried = [
                (_logits(dev_ND, *_fit(train_ND, train_N, strength, options)), dev_N)
                for strength in options.strengths
            ]
        else:
            tried = _fold_logits(train_ND, train_N, options)
        if not tried:
            strength = options.strengths[len(options.strengths) // 2]
            weight_CD, bias_C = _fit(train_ND, train_N, strength, options)
            return _head(weight_CD, bias_C, strength, 1.0, {})
        temperatures = [best_temperature(logits_NC, gold_N) for logits_NC, gold_N in tried]
        losses = [
            log_loss(logits_NC / temperature, gold_N)
            for (logits_NC, gold_N), temperature in zip(tried, temperatures, strict=True)
        ]
        best = int(np.argmin(losses))
        strength, temperature = options.strengths[best], temperatures[best]
        weight_CD, bias_C = _fit(train_ND, train_N, strength, options)
    return _head(weight_CD, bias_C, strength, temperature, _held_out(*tried[best], temperature))


def write_head(
    directory: Path,
    *,
    bundle: Bundle,
    head: LinearHead,
    examples: Examples,
    options: HeadOptions,
    prompt: str,
    runtime: str,
    evidence: Evidence | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes the encoder with this head as a model directory, whole or not at all.

    Where held-out rows are enough to calibrate on, `calibration.json` holds the temperatures, by
    language; elsewhere the one that was found by cross-validation is folded into the weight.

    Args:
        directory: where.
        bundle: the encoder.
        head: what was fitted.
        examples: what it was fitted on.
        options: how.
        prompt: the text put before every message when it was embedded.
        runtime: the name of what computed the vectors.
        evidence: how it is gathered; as a recipe says where nothing is said.
        force: whether a model that stands there is replaced.

    Returns:
        How fast it answers.

    Raises:
        ModelError: the target is taken; see `checkpoint.check_target`.
    """
    from safetensors.numpy import save_file

    description = {
        "kind": "linear",
        "task": "classify",
        "labels": list(examples.labels),
        "multi_label": False,
        "pooling": bundle.pooling.kind,
        "normalize": bundle.pooling.normalize,
        "prompt": prompt,
        "file": HEAD_FILE,
    }
    origin = lineage(
        method="head",
        seed=options.seed,
        encoder=bundle.directory,
        encoder_digest=bundle.encoder_digest,
        data=examples.lineage(),
        options=asdict(options) | {"runtime": runtime},
        packages=("numpy", "scikit-learn"),
    )
    if can_calibrate(examples.held_out):
        head = head.raw
    report: dict[str, Any] = {
        "strength": head.strength,
        "temperature": head.temperature,
        "held_out": head.held_out,
    }
    content = {"format": 1, "head": description, "lineage": origin, "report": report}
    timings: dict[str, Any] = {}

    def write(fresh: Path) -> None:
        link_files(bundle.directory, fresh)
        save_file({"weight": head.weight_CD, "bias": head.bias_C}, fresh / HEAD_FILE)
        write_json(fresh / XLMR_JSON, content)
        found = finish_with_evidence(
            fresh,
            content,
            encoder=bundle.directory,
            files=examples.held_out,
            task="classify",
            settings=evidence or Evidence(),
        )
        timings.update(found)

    write_model(directory, write, encoder=bundle.directory, force=force)
    return timings


def _fit(
    vectors_ND: Vectors, classes_N: Classes, strength: float, options: HeadOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight [C, D] and bias [C] on the vectors as they are: scaling is folded in."""
    regression = _sklearn("linear_model").LogisticRegression
    mean_D = vectors_ND.mean(axis=0, dtype=np.float64)
    spread = max(float(np.sqrt(vectors_ND.var(axis=0, dtype=np.float64).mean())), 1e-6)
    model = regression(C=strength, max_iter=options.iterations, tol=1e-6)
    model.fit((vectors_ND - mean_D) / spread, classes_N)
    weight_CD, bias_C = model.coef_, model.intercept_
    if len(bias_C) == 1:  # two classes: one row of logits; the other class's are minus that
        weight_CD = np.concatenate([-weight_CD, weight_CD]) / 2.0
        bias_C = np.concatenate([-bias_C, bias_C]) / 2.0
    weight_CD = weight_CD / spread
    return weight_CD, bias_C - weight_CD @ mean_D


def _fold_logits(
    vectors_ND: Vectors, classes_N: Classes, options: HeadOptions
) -> list[tuple[NDArray[np.float64], Classes]]:
    """For each strength the logits of every row by a fit that did not see it."""
    smallest = min(Counter(classes_N.tolist()).values())
    if smallest < 2:
        return []
    splitter = _sklearn("model_selection").StratifiedKFold
    folds = splitter(min(_FOLDS, smallest), shuffle=True, random_state=options.seed)
    splits = list(folds.split(vectors_ND, classes_N))
    tried = []
    for strength in options.strengths:
        logits_NC = np.zeros((len(classes_N), int(classes_N.max()) + 1))
        for seen, unseen in splits:
            fitted = _fit(vectors_ND[seen], classes_N[seen], strength, options)
            logits_NC[unseen] = _logits(vectors_ND[unseen], *fitted)
        tried.append((logits_NC, classes_N))
    return tried


def _logits(
    vectors_ND: Vectors, weight_CD: NDArray[np.float64], bias_C: NDArray[np.float64]
) -> NDArray[np.float64]:
    return vectors_ND @ weight_CD.T + bias_C


def _held_out(
    logits_NC: NDArray[np.float64], gold_N: Classes, temperature: float
) -> dict[str, float]:
    predicted_N = logits_NC.argmax(axis=1)
    return {
        "rows": len(gold_N),
        "accuracy": accuracy(gold_N, predicted_N),
        "macro_f1": macro_f1(gold_N, predicted_N),
        "log_loss_before": log_loss(logits_NC, gold_N),
        "log_loss": log_loss(logits_NC / temperature, gold_N),
    }


def _head(
    weight_CD: NDArray[np.float64],
    bias_C: NDArray[np.float64],
    strength: float,
    temperature: float,
    held_out: dict[str, float],
) -> LinearHead:
    return LinearHead(
        weight_CD=np.ascontiguousarray(weight_CD / temperature, np.float32),
        bias_C=np.ascontiguousarray(bias_C / temperature, np.float32),
        strength=strength,
        temperature=temperature,
        held_out=held_out,
    )


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", extra="fit") from None


def _one_thread() -> Any:
    """Sums in one order: matrix products split over threads differ in their last bits."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", extra="fit") from None
    return threadpool_limits(limits=1)
