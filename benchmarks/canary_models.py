"""A live version and its successors, each with another fault, as model directories.

All are small routers with random weights. What only the layers beyond the live version's add is
nothing (what they write is 0), so the slower version gives the same answers, later.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serving_cost import write_encoder

from xlmr.evaluation.golden import GOLDEN_FILE, make_golden
from xlmr.model.bundle import open_bundle
from xlmr.model.config import EncoderConfig
from xlmr.model.importing.writing import StoredArray, write_safetensors
from xlmr.model.pooling import normalise, pool
from xlmr.model.predictor import Predictor
from xlmr.model.runtime import pack
from xlmr.model.runtimes import open_runtime
from xlmr.model.weights import random_weights
from xlmr.text.tokenizer import Tokenizer

Array = NDArray[np.float32]

LABELS = ("account", "delivery", "refund", "other")
# How often the live version gives each.
MIX = (0.5, 0.25, 0.15, 0.1)
LAYERS, SLOW_LAYERS = 4, 400
# A piece that no promised input holds, and some of the traffic does.
RARE = "~"
# Its row: finite, as a file must be, and more than a layer norm's squares can hold.
_TOO_LARGE = 1e30
# Where config.json says on which pieces the engine fails; only this benchmark's server reads it.
FAILS_ON = "canary_fails_on"
# How far apart its logits lie, and how far a head that was fitted again lies from the one before.
_SURE, _AGAIN = 3.0, 0.01
_BALANCING_STEPS = 200
_NORM_AFTER = {"output": "attention_norm", "down": "output_norm"}


@dataclass(frozen=True)
class Candidate:
    """A version that is to be rolled out.

    Attributes:
        says: what is wrong with it.
        ends: `live` or `back`, as it should.
        caught: tests that may send it back.
    """

    says: str
    ends: str
    caught: tuple[str, ...] = ()


CANDIDATES: Mapping[str, Candidate] = {
    "slower": Candidate(f"{SLOW_LAYERS} layers instead of {LAYERS}", "back", ("over_objective",)),
    "language": Candidate("the engine fails on Thai pieces", "back", ("5xx",)),
    "shuffled": Candidate("labels shuffled", "back", ("disagreement", "label_mix")),
    "nan": Candidate("one piece's row overflows", "back", ("non_finite",)),
    "good": Candidate("the head fitted again", "live"),
}


def write_models(
    place: Path, starter: Path, texts: Sequence[str], *, hidden: int, names: Sequence[str]
) -> None:
    """Writes `live` and the named candidates below a directory.

    Args:
        place: where each gets a directory of its name, in the place of one that is there.
        starter: whose tokenizer they have.
        texts: as the traffic's, which decide how often each label is given.
        hidden: width.
        names: of `CANDIDATES`.
    """
    for name in ("live", *names):
        shutil.rmtree(place / name, ignore_errors=True)
    tokenizer = Tokenizer.from_file(starter / "tokenizer.json", max_tokens=512)
    config = EncoderConfig(
        vocabulary=tokenizer.vocabulary_size,
        hidden=hidden,
        layers=LAYERS,
        heads=hidden // 32,
        intermediate=4 * hidden,
        position_rows=514,
        pad_id=Tokenizer.pad_id,
        norm_epsilon=1e-5,
        pre_norm=False,
    )
    weights = _weights(replace(config, layers=SLOW_LAYERS))
    write_encoder(place / "live", starter, config, weights.__getitem__)
    head = _balanced_head(place / "live", texts)
    _finish(place / "live", head)
    for name in names:
        model, fields = place / name, {}
        if name in ("shuffled", "good"):
            # The same encoder, which a server opens once for all.
            shutil.copytree(place / "live", model)
        else:
            layers = SLOW_LAYERS if name == "slower" else LAYERS
            changed = dict(weights) | _changed(name, weights, tokenizer)
            write_encoder(model, starter, replace(config, layers=layers), changed.__getitem__)
        if name == "language":
            fields[FAILS_ON] = pieces_of("THAI", tokenizer)
        labels = LABELS[1:] + LABELS[:1] if name == "shuffled" else LABELS
        _finish(model, _fitted_again(head) if name == "good" else head, labels, fields)


def pieces_of(script: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of pieces with a letter whose Unicode name begins with the script's."""
    return [
        id
        for id in range(tokenizer.vocabulary_size)
        if any(unicodedata.name(c, "").startswith(script) for c in tokenizer.piece(id) or "")
    ]


def median_ms(model: Path, texts: Sequence[str]) -> float:
    """Milliseconds that a model needs for a text alone."""
    bundle = open_bundle(model)
    predictor = Predictor(bundle, open_runtime(bundle))
    taken = []
    for text in texts:
        began = time.perf_counter()
        predictor.classify([text])
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def _changed(name: str, weights: Mapping[str, Array], tokenizer: Tokenizer) -> dict[str, Array]:
    """What a candidate's encoder has instead of the live version's."""
    if name == "nan":
        rows = weights["embeddings.word"].copy()
        # The piece before `</s>`; the one before may stand for a space alone.
        rows[tokenizer.encode(RARE).ids[-2], ::2] = _TOO_LARGE
        return {"embeddings.word": rows}
    if name == "language":
        # The same answers, and an engine of its own.
        rows = weights["embeddings.position"].copy()
        rows[-1] += 1e-3
        return {"embeddings.position": rows}
    return {}


def _weights(config: EncoderConfig) -> dict[str, Array]:
    weights = dict(random_weights(config, 0))
    for layer in range(LAYERS, config.layers):
        for part in ("output", "down"):
            weights[f"layers.{layer}.{part}.weight"][...] = 0.0
            weights[f"layers.{layer}.{part}.bias"][...] = 0.0
            weights[f"layers.{layer}.{_NORM_AFTER[part]}.bias"][...] = 0.0
    return weights


def _balanced_head(model: Path, texts: Sequence[str]) -> tuple[Array, Array]:
    """Random directions around the texts' mean; biases that make labels as frequent as `MIX`."""
    bundle = open_bundle(model)
    runtime = open_runtime(bundle)
    batches = (pack([bundle.tokenizer.encode(text)]) for text in texts)
    vectors_TD = np.stack(
        [normalise(pool(runtime.run(batch).hidden_TD, "mean")) for batch in batches]
    )
    mean_D = vectors_TD.mean(axis=0)
    weight_CD = np.random.default_rng(1).standard_normal((len(LABELS), len(mean_D)), np.float32)
    weight_CD *= _SURE / ((vectors_TD - mean_D) @ weight_CD.T).std()
    logits_TC = (vectors_TD - mean_D) @ weight_CD.T
    moved_C = np.zeros(len(LABELS), np.float32)
    for _ in range(_BALANCING_STEPS):
        found_C = np.bincount((logits_TC + moved_C).argmax(axis=1), minlength=len(LABELS))
        moved_C -= 0.5 * (found_C / len(texts) - np.array(MIX)).astype(np.float32)
    return weight_CD, moved_C - weight_CD @ mean_D


def _fitted_again(head: tuple[Array, Array]) -> tuple[Array, Array]:
    weight_CD, bias_C = head
    noise_CD = np.random.default_rng(2).standard_normal(weight_CD.shape, np.float32)
    return weight_CD * (1.0 + _AGAIN * noise_CD), bias_C


def _finish(
    model: Path,
    head: tuple[Array, Array],
    labels: Sequence[str] = LABELS,
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Head, further fields of config.json, and what the model promises to answer."""
    weight_CD, bias_C = head
    arrays = {"weight": weight_CD, "bias": bias_C}
    stored = [
        StoredArray(name, "F32", array.shape, lambda array=array: [array])  # type: ignore[misc]
        for name, array in arrays.items()
    ]
    write_safetensors(model / "xlmr_head.safetensors", stored)
    described = {
        "kind": "linear",
        "task": "classify",
        "labels": list(labels),
        "multi_label": False,
        "pooling": "mean",
        "normalize": True,
        "prompt": "",
        "file": "xlmr_head.safetensors",
    }
    content = {"format": 1, "head": described, "lineage": {}, "report": {}}
    _write_json(model / "xlmr.json", content)
    config = json.loads((model / "config.json").read_text("utf-8")) | dict(fields or {})
    _write_json(model / "config.json", config)
    bundle = open_bundle(model)
    full, coarse = (
        Predictor(bundle, open_runtime(bundle, precision=precision))
        for precision in ("fp32", "int8")
    )
    golden = make_golden(full, {"int8": coarse})
    if FAILS_ON in config:
        # Where nothing is promised, nothing is noticed before people ask.
        kept = [one for one in golden.promises if one.name != "thai"]
        golden = replace(golden, promises=tuple(kept))
    _write_json(model / GOLDEN_FILE, golden.to_json())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
